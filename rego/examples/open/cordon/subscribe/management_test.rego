package cordon.subscribe_test

import data.cordon.subscribe

test_devices_manage_themselves if {
	every topic in ["iotdevice-1/type/sensor/id/d1/mgmt/manage", "iotdm-1/type/sensor/id/d1/response"] {
		subscribe.decision.allow with input as {
			"principal": {"org": "demo01", "kind": "device", "type": "sensor", "id": "d1"},
			"levels": split(topic, "/"), "qos": 1,
		}
	}
}
