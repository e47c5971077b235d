package cordon.publish_types_test

import data.cordon.publish

_event(type, name) := {
	"principal": {"org": "acme01", "kind": "device", "type": type, "id": "x1", "roles": []},
	"levels": ["iot-2", "type", type, "id", "x1", "evt", name, "fmt", "json"],
}

test_a_type_publishes_what_the_table_says if {
	every event in [["thermometer", "temperature"], ["thermometer", "battery"], ["door", "open"]] {
		publish.decision == {"allow": true, "retain": "strip"} with input as _event(event[0], event[1])
	}
}

test_a_type_publishes_nothing_else if {
	every event in [["thermometer", "open"], ["door", "temperature"], ["door", ""]] {
		publish.decision == {
			"allow": false, "reason": "devices of this type publish no event of this name",
		} with input as _event(event[0], event[1])
	}
}

# The rule is about the device, so an application that speaks for it has no more.
test_nor_does_an_application_for_it if {
	application := {"principal": {"kind": "application", "app": "app1", "roles": ["PD_ADMIN_APP"]}}
	answer := publish.decision with input as object.union(_event("door", "temperature"), application)
	not answer.allow
}

test_a_type_without_a_row_is_free if {
	publish.decision.allow with input as _event("other", "anything")
}
