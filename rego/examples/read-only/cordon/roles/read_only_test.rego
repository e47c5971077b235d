package cordon.roles_read_only_test

import data.cordon.admin
import data.cordon.publish
import data.cordon.subscribe

_dashboard := {"org": "acme01", "kind": "application", "app": "dash", "api_key": "a-acme01-dashboard1", "roles": ["READ_ONLY_APP"]}

_about(levels) := {"principal": _dashboard, "levels": split(levels, "/")}

test_it_subscribes_to_everything_of_every_device if {
	subscribe.decision.allow with input as _about("iot-2/type/+/id/+/evt/+/fmt/+")
	subscribe.decision.allow with input as _about("iot-2/type/+/id/+/cmd/+/fmt/+")
}

test_it_publishes_nothing if {
	every topic in ["iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/sensor/id/d1/cmd/open/fmt/json"] {
		answer := publish.decision with input as _about(topic)
		not answer.allow
	}
}

test_it_sees_devices_and_changes_nothing if {
	call := {"principal": _dashboard, "route": "/device/types/{typeId}/devices", "target": {}}
	admin.decision == {"allow": true} with input as object.union(call, {"method": "GET"})
	not admin.decision.allow with input as object.union(call, {"method": "POST"})
}
