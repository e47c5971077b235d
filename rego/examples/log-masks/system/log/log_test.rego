package system.log_test

import data.system.log

_record(action, kind, allow) := {
	"path": concat("/", ["cordon", action, "decision"]),
	"input": {"principal": {"org": "acme01", "kind": kind}, "client": {"address": "192.0.2.7"}},
	"custom": {"action": action, "allow": allow},
}

test_claims_and_usernames_are_not_recorded if {
	paths := {"/input/principal/claims", "/input/client/username"}
	log.mask == paths with input as _record("publish", "device", true)
}

test_addresses_of_applications_are_replaced if {
	{"op": "upsert", "path": "/input/client/address", "value": "-"} in log.mask with input as _record("connect", "application", true)
}

test_deliveries_are_dropped_when_allowed if {
	log.drop with input as _record("receive", "device", true)
	not log.drop with input as _record("receive", "device", false)
	not log.drop with input as _record("publish", "device", true)
}
