package cordon.publish_quarantine_test

import data.cordon.publish

_event(name, groups) := {
	"principal": {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "roles": [], "groups": [], "member_of": groups},
	"levels": ["iot-2", "type", "sensor", "id", "d1", "evt", name, "fmt", "json"],
	"device": {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": groups},
}

_command(name, groups) := {
	"principal": {"org": "acme01", "kind": "application", "app": "app1", "roles": ["PD_STANDARD_APP"], "groups": []},
	"levels": ["iot-2", "type", "sensor", "id", "d1", "cmd", name, "fmt", "json"],
	"device": {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": groups},
}

test_a_device_in_quarantine_publishes_diagnostics_alone if {
	publish.decision.allow with input as _event("diagnostics", ["hall", "quarantine"])
	publish.decision == {
		"allow": false,
		"reason": "this device is in quarantine: it publishes the event diagnostics alone",
	} with input as _event("status", ["hall", "quarantine"])
}

test_it_gets_the_command_reset_alone if {
	publish.decision.allow with input as _command("reset", ["quarantine"])
	publish.decision == {
		"allow": false,
		"reason": "the device is in quarantine: it gets the command reset alone",
	} with input as _command("open", ["quarantine"])
}

test_any_other_device_is_as_free_as_ever if {
	publish.decision.allow with input as _event("status", ["hall"])
	publish.decision.allow with input as _command("open", [])
}
