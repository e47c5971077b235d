package cordon.publish_ticket_test

import data.cordon.publish

_command(app, properties) := {
	"principal": {"org": "acme01", "kind": "application", "app": app, "roles": ["PD_STANDARD_APP"]},
	"levels": ["iot-2", "type", "sensor", "id", "d1", "cmd", "open", "fmt", "json"],
	"properties": properties,
}

test_a_command_with_a_ticket_is_sent if {
	every user in [{"ticket": ["OPS-4711"]}, {"ticket": ["none", "OPS-1"], "other": ["x"]}] {
		publish.decision.allow with input as _command("console", {"user": user})
	}
}

test_a_command_without_one_is_refused if {
	every properties in [{}, {"user": {"other": ["OPS-1"]}}, {"user": {"ticket": ["ops"]}}, {"content_type": "OPS-1"}] {
		publish.decision == {
			"allow": false, "reason": "a command carries the user property ticket, such as OPS-4711",
		} with input as _command("console", properties)
	}
	old := object.remove(_command("night-shift", {}), ["properties"])
	not publish.decision.allow with input as old
}

test_an_event_needs_no_ticket if {
	event := object.union(_command("console", {}), {"levels": split("iot-2/type/sensor/id/d1/evt/open/fmt/json", "/")})
	publish.decision.allow with input as event
}

test_nor_does_another_application if {
	publish.decision.allow with input as _command("other", {})
}
