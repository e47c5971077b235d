package cordon.subscribe_quarantine_test

import data.cordon.subscribe

_commands(name, groups) := {
	"principal": {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "roles": [], "groups": [], "member_of": groups},
	"levels": ["iot-2", "type", "sensor", "id", "d1", "cmd", name, "fmt", "+"],
}

test_a_device_in_quarantine_subscribes_to_reset_alone if {
	subscribe.decision.allow with input as _commands("reset", ["quarantine"])
	every name in ["+", "open"] {
		subscribe.decision == {
			"allow": false,
			"reason": "this device is in quarantine: it subscribes to the command reset alone",
		} with input as _commands(name, ["quarantine"])
	}
}

test_any_other_device_subscribes_to_all_its_commands if {
	subscribe.decision.allow with input as _commands("+", ["hall"])
}
