package cordon.connect_level_test

import data.cordon.connect

_connect(kind, groups, client) := {
	"principal": {
		"org": "acme01", "kind": kind, "type": "router", "id": "g1", "app": "app1",
		"roles": [], "groups": [], "member_of": groups, "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls_optional"},
	"client": object.union({"id": "x"}, client),
}

test_gateways_and_applications_use_tls if {
	every kind in ["gateway", "application"] {
		connect.decision.allow with input as _connect(kind, [], {"listener": "mqtts"})
		every client in [{"listener": "mqtt"}, {}] {
			connect.decision == {
				"allow": false, "reason": "gateways and applications connect over TLS",
			} with input as _connect(kind, [], client)
		}
	}
}

test_devices_keep_to_the_level_of_the_organisation if {
	connect.decision.allow with input as _connect("device", [], {"listener": "mqtt"})
}

test_certified_gateways_present_a_certificate if {
	plain := {"listener": "mqtts", "tls": {"version": "1.3"}}
	connect.decision == {
		"allow": false, "reason": "this gateway presents a client certificate",
	} with input as _connect("gateway", ["certified"], plain)
	certified := object.union(plain, {"tls": {"cert": {"subject": "CN=g1", "san": [], "sha256": "00"}}})
	connect.decision.allow with input as _connect("gateway", ["certified"], certified)
	connect.decision.allow with input as _connect("gateway", [], plain)
}
