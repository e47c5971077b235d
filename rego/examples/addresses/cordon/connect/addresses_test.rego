package cordon.connect_addresses_test

import data.cordon.connect

_connect(key, client) := {
	"principal": {
		"org": "acme01", "kind": "application", "app": "app1", "api_key": key,
		"roles": [], "groups": [], "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls"},
	"client": object.union({"id": "a:acme01:app1", "listener": "mqtts"}, client),
}

test_a_key_is_used_from_its_networks if {
	every address in ["192.0.2.7", "2001:db8:7::1"] {
		connect.decision.allow with input as _connect("a-acme01-backoffice", {"address": address})
	}
}

test_a_key_is_used_from_nowhere_else if {
	every client in [{"address": "198.51.100.7"}, {"address": "2001:db8:8::1"}, {}] {
		connect.decision == {
			"allow": false, "reason": "this key is not used from this address",
		} with input as _connect("a-acme01-backoffice", client)
	}
}

test_a_key_without_a_row_is_used_from_anywhere if {
	connect.decision.allow with input as _connect("a-acme01-0123456789", {"address": "198.51.100.7"})
}
