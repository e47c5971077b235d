package cordon.connect_maintenance_test

import data.cordon.connect

_connect(kind, roles, settings) := {
	"principal": {
		"org": "acme01", "kind": kind, "type": "sensor", "id": "d1", "app": "app1",
		"roles": roles, "groups": [], "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls", "data": settings},
	"client": {"id": "", "listener": "mqtts"},
}

test_maintenance_sends_everybody_away if {
	every request in [
		_connect("device", [], {"maintenance": true}),
		_connect("application", ["PD_STANDARD_APP"], {"maintenance": true}),
	] {
		connect.decision == {
			"allow": false, "reason": "this organisation is under maintenance; try again later",
		} with input as request
	}
}

test_but_those_who_maintain if {
	connect.decision.allow with input as _connect("application", ["PD_ADMIN_APP"], {"maintenance": true})
}

test_without_it_all_is_as_ever if {
	connect.decision.allow with input as _connect("device", [], {"maintenance": false})
	connect.decision.allow with input as _connect("device", [], {})
}
