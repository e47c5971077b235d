package cordon.connect_test

import data.cordon.connect

_anonymous(client_id) := {
	"principal": {
		"org": "demo01", "kind": "user", "id": "anonymous",
		"roles": [], "groups": [], "verifier": "anonymous", "registered": false,
	},
	"org": {"id": "demo01", "connection_level": "tls"},
	"client": {"id": client_id, "listener": "mqtts"},
}

test_nobody_has_to_prove_anything if {
	connect.verifiers == [{"verifier": "anonymous", "org": "demo01"}]
}

test_any_client_id_will_do if {
	long := concat("", [x | some _ in numbers.range(1, 256); x := "x"])
	every id in ["", "a", "d:acme01:sensor:d1", "with space", "+#/$", long] {
		answer := connect.decision with input as _anonymous(id)
		answer.allow
		answer.mounts == [{"client": "", "org": ""}]
	}
}

test_the_limits_are_those_of_the_table if {
	answer := connect.decision with input as _anonymous("a")
	answer.limits.keepalive_max == 60
	answer.limits.queue_messages == 100000
	not answer.limits.publish_rate
	not answer.limits.bytes_rate
	not answer.limits.connections_max
}

test_plain_connection_needs_tls_optional if {
	plain := object.union(_anonymous("a"), {"client": {"listener": "mqtt"}})
	connect.decision == {"allow": false, "reason": "this organisation requires TLS"} with input as plain
	optional := object.union(plain, {"org": {"connection_level": "tls_optional"}})
	answer := connect.decision with input as optional
	answer.allow
}

test_plain_connection_is_refused_where_the_level_is_unknown if {
	plain := object.union(object.remove(_anonymous("a"), ["org"]), {"client": {"listener": "mqtt"}})
	not connect.decision.allow with input as plain
}

test_absent_listener_counts_as_plain if {
	absent := object.union(object.remove(_anonymous("a"), ["client"]), {"client": {"id": "a"}})
	not connect.decision.allow with input as absent
}
