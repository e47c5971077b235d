package cordon.subscribe_test

import data.cordon.subscribe

_mgmt_filters := [
	"#", "+", "response", "observe", "cancel", "device/update", "mgmt/#", "mgmt/initiate/device/reboot",
	"mgmt/initiate/+/+", "mgmt/custom/+/+",
]

_mgmt_told(type, id, rest) := concat("/", ["iotdm-1/type", type, "id", id, rest])

test_device_hears_what_it_is_asked if {
	every rest in _mgmt_filters {
		subscribe.decision == {"allow": true, "qos": 2} with input as _to(_device, _mgmt_told("sensor", "d1", rest))
		subscribe.decision == {"allow": true, "qos": 2} with input as _to(_gateway, _mgmt_told("router", "g1", rest))
	}
}

_mgmt_device := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": ["hall"]}

test_gateway_hears_for_the_devices_that_it_reaches if {
	every rest in _mgmt_filters {
		request := object.union(_to(_gateway, _mgmt_told("sensor", "d1", rest)), {"device": _mgmt_device, "on_behalf_of": {"type": "sensor", "id": "d1"}})
		subscribe.decision.allow with input as request
		restricted := object.union(request, {"principal": {"restricted": true, "groups": ["hall"]}})
		subscribe.decision.allow with input as restricted
		not subscribe.decision.allow with input as object.union(restricted, {"device": {"groups": ["yard"]}})
		not subscribe.decision.allow with input as object.union(request, {"device": {"registered": false}})
	}
}

# What is out of reach is left out when it is delivered.
test_gateway_hears_for_many_devices if {
	every filter in ["iotdm-1/#", "iotdm-1/type/+/id/+/#", "iotdm-1/type/sensor/id/+/response"] {
		subscribe.decision.allow with input as _to(_gateway, filter)
	}
	every filter in ["iotdm-1/type/#", "iotdm-1/+/+/id/+/#", "iotdm-1/+", "iotdm-1/type/+/id/#", "iotdm-1/type/+/id/+", "+/type/+/id/+/#", "iotdevice-1/#"] {
		not subscribe.decision.allow with input as _to(_gateway, filter)
	}
}

test_nobody_hears_what_another_is_asked if {
	every principal in [_device, _application(["PD_ADMIN_APP"]), {"org": "acme01", "kind": "user", "id": "admin", "roles": ["PD_ADMIN_APP"]}] {
		every rest in _mgmt_filters {
			every filter in [_mgmt_told("sensor", "d2", rest), _mgmt_told("sensor", "+", rest), _mgmt_told("+", "d1", rest), _mgmt_told("router", "d1", rest)] {
				not subscribe.decision.allow with input as _to(principal, filter)
			}
		}
	}
}

test_an_application_has_no_part_in_management if {
	every filter in ["iotdm-1/#", "iotdm-1/type/sensor/id/d1/#", "iotdevice-1/#", "iotdevice-1/type/sensor/id/d1/mgmt/manage", "+/type/+/id/+/#", "#"] {
		not subscribe.decision.allow with input as _to(_application(["PD_ADMIN_APP"]), filter)
	}
}

test_a_device_does_not_hear_what_it_says if {
	every filter in ["iotdevice-1/type/sensor/id/d1/#", "iotdevice-1/type/sensor/id/d1/mgmt/manage", "iotdm-1/type/sensor/id/d1", "iotdm-1/#", "iotdm-1/type/sensor/id/d1//response"] {
		not subscribe.decision.allow with input as _to(_device, filter)
	}
}
