package cordon.publish_test

import data.cordon.publish

_mgmt_topics := [
	"mgmt/manage", "mgmt/unmanage", "device/update/location", "add/diag/errorCodes", "clear/diag/errorCodes",
	"add/diag/log", "clear/diag/log", "notify", "response",
]

_mgmt_of(prefix, type, id, rest) := concat("/", [prefix, "type", type, "id", id, rest])

test_device_manages_itself if {
	every rest in _mgmt_topics {
		topic := _mgmt_of("iotdevice-1", "sensor", "d1", rest)
		_allowed(_device, {topic: [topic]})
	}
}

test_gateway_manages_itself if {
	every rest in _mgmt_topics {
		topic := _mgmt_of("iotdevice-1", "router", "g1", rest)
		_allowed(_gateway, {topic: [topic]})
	}
}

_mgmt_device := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": ["hall"]}

_mgmt_restricted := object.union(_gateway, {"restricted": true, "groups": ["hall"]})

_mgmt_about(principal, topic, device) := object.union(_to(principal, topic), {"device": device, "on_behalf_of": {"type": device.type, "id": device.id}})

test_gateway_manages_the_devices_that_it_reaches if {
	every rest in _mgmt_topics {
		topic := _mgmt_of("iotdevice-1", "sensor", "d1", rest)
		publish.decision.allow with input as _mgmt_about(_gateway, topic, _mgmt_device)
		publish.decision.allow with input as _mgmt_about(_mgmt_restricted, topic, _mgmt_device)
		not publish.decision.allow with input as _mgmt_about(_mgmt_restricted, topic, object.union(_mgmt_device, {"groups": ["yard"]}))
		not publish.decision.allow with input as _mgmt_about(_gateway, topic, object.union(_mgmt_device, {"registered": false}))
		not publish.decision.allow with input as _mgmt_about(_gateway, topic, object.union(_mgmt_device, {"status": "disabled"}))
	}
}

test_nobody_manages_another_device if {
	every principal in [_device, _application(["PD_ADMIN_APP"]), {"org": "acme01", "kind": "user", "id": "admin", "roles": ["PD_ADMIN_APP"]}] {
		every rest in _mgmt_topics {
			every topic in [_mgmt_of("iotdevice-1", "sensor", "d2", rest), _mgmt_of("iotdevice-1", "router", "d1", rest)] {
				not publish.decision.allow with input as _to(principal, topic)
			}
		}
	}
}

test_an_application_has_no_part_in_management if {
	every rest in _mgmt_topics {
		not publish.decision.allow with input as _to(_application(["PD_ADMIN_APP"]), _mgmt_of("iotdevice-1", "sensor", "d1", rest))
	}
}

test_no_other_topic_is_one_of_management if {
	every topic in [
		_mgmt_of("iotdevice-1", "sensor", "d1", "mgmt/other"),
		_mgmt_of("iotdevice-1", "sensor", "d1", "mgmt/manage/more"),
		_mgmt_of("iotdevice-1", "sensor", "d1", ""),
		"iotdevice-1/type/sensor/id/d1",
		"iotdevice-1/sensor/type/d1/id/notify",
		"iotdevice-2/type/sensor/id/d1/notify",
		"iotdevice-1/mgmt/manage",
	] {
		not publish.decision.allow with input as _to(_device, topic)
	}
}

# What the broker asks, nobody else does.
test_nobody_publishes_what_the_broker_says if {
	every principal in [_device, _gateway, _application(["PD_ADMIN_APP"])] {
		every rest in ["response", "mgmt/initiate/device/reboot", "observe", "device/update"] {
			every topic in [_mgmt_of("iotdm-1", "sensor", "d1", rest), _mgmt_of("iotdm-1", "router", "g1", rest)] {
				not publish.decision.allow with input as _to(principal, topic)
			}
		}
	}
}
