package cordon.publish_test

import data.cordon.publish

test_devices_manage_themselves if {
	every topic in ["iotdevice-1/type/sensor/id/d1/mgmt/manage", "iotdm-1/type/sensor/id/d1/response"] {
		publish.decision.allow with input as {
			"principal": {"org": "demo01", "kind": "device", "type": "sensor", "id": "d1"},
			"levels": split(topic, "/"), "qos": 1,
		}
	}
}
