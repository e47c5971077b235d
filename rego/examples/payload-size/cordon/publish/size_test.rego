package cordon.publish_size_test

import data.cordon.publish

_event(type, size) := {
	"principal": {"org": "acme01", "kind": "device", "type": type, "id": "x1", "roles": []},
	"levels": ["iot-2", "type", type, "id", "x1", "evt", "battery", "fmt", "json"],
	"size": size,
}

test_a_message_is_as_large_as_its_type_may_be if {
	publish.decision.allow with input as _event("thermometer", 256)
	publish.decision.allow with input as _event("camera", 1048576)
	publish.decision == {
		"allow": false, "reason": "a message of this device type has at most 256 bytes",
	} with input as _event("thermometer", 257)
}

test_a_type_without_a_row_is_free if {
	publish.decision.allow with input as _event("other", 1000000)
}
