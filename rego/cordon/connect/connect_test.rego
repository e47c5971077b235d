package cordon.connect_test

import data.cordon.connect

_device := {
	"principal": {
		"org": "acme01", "kind": "device", "type": "sensor", "id": "d1",
		"roles": [], "groups": ["hall"], "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls"},
	"client": {"id": "d:acme01:sensor:d1", "username": "use-token-auth", "listener": "mqtts"},
}

_gateway := {
	"principal": {
		"org": "acme01", "kind": "gateway", "type": "router", "id": "g1",
		"roles": [], "groups": [], "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls"},
	"client": {"id": "g:acme01:router:g1", "username": "use-token-auth", "listener": "mqtts"},
}

_application := {
	"principal": {
		"org": "acme01", "kind": "application", "app": "app1", "api_key": "a-acme01-0123456789",
		"roles": ["PD_STANDARD_APP"], "groups": [], "registered": true,
	},
	"org": {"id": "acme01", "connection_level": "tls"},
	"client": {"id": "a:acme01:app1", "username": "a-acme01-0123456789", "listener": "mqtts"},
}

_with_id(request, id) := object.union(request, {"client": {"id": id}})

test_the_token_verifier_is_asked if {
	connect.verifiers == [{"verifier": "token"}]
	every username in ["", "use-token-auth", "a-acme01-0123456789", "use-plugin", "Use-Plugin:x", " use-plugin:x"] {
		connect.verifiers == [{"verifier": "token"}] with input as {"client": {"username": username}}
	}
}

test_a_certificate_alone_asks_for_its_verifier if {
	connect.verifiers == [{"verifier": "certificate"}] with input as _with_certificate("")
	every username in ["use-token-auth", "a-acme01-0123456789", " "] {
		connect.verifiers == [{"verifier": "token"}] with input as _with_certificate(username)
	}
	connect.verifiers == [{"verifier": "plugin", "name": "jwt"}] with input as _with_certificate("use-plugin:jwt")
	connect.verifiers == [{"verifier": "token"}] with input as {"client": {"username": "", "tls": {"version": "1.3", "sni": ""}}}
}

_with_certificate(username) := {"client": {
	"username": username,
	"tls": {"cert": {"subject": "CN=d:sensor:d1", "san": [], "sha256": "00"}},
}}

test_a_username_chooses_one_plugin if {
	every name in ["jwt", "static-token", "a", "A.b_c-9", "x12345678901234567890123456789012345"] {
		connect.verifiers == [{"verifier": "plugin", "name": name}] with input as _username("use-plugin:", name)
	}
}

test_what_cannot_be_a_plugin_asks_nobody if {
	names := [
		"", " ", "a b", "a/b", "..\\a", "a\n", "\na", "a:b", "use-plugin:a", "ä", "a\u0000",
		"x123456789012345678901234567890123456",
	]
	every name in names {
		connect.verifiers == [] with input as _username("use-plugin:", name)
	}
}

_username(prefix, name) := {"client": {"username": concat("", [prefix, name])}}

test_device_gets_its_own_prefix_for_both_spellings if {
	answer := connect.decision with input as _device
	object.remove(answer, ["limits"]) == {
		"allow": true,
		"mounts": [
			{"client": "iot-2/", "org": "iot-2/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
			{"client": "/iot-2/", "org": "iot-2/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
			{"client": "iotdevice-1/", "org": "iotdevice-1/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
			{"client": "iotdm-1/", "org": "iotdm-1/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
		],
		"roles": [],
		"groups": ["hall"],
	}
}

test_limits_come_from_the_table if {
	table := {"device": {"inflight_max": 7}, "gateway": {"qos_max": 1}}
	device := connect.decision with input as _device with data.cordon.connect.limits as table
	device.limits == {"inflight_max": 7}
	gateway := connect.decision with input as _gateway with data.cordon.connect.limits as table
	gateway.limits == {"qos_max": 1}
	application := connect.decision with input as _application with data.cordon.connect.limits as table
	application.limits == {}
}

test_gateway_gets_the_identity_mount if {
	answer := connect.decision with input as _gateway
	answer.allow
	answer.mounts == [{"client": "", "org": "", "device": {"type": 2, "id": 4}}]
}

test_application_keeps_the_roles_of_its_key if {
	answer := connect.decision with input as _application
	answer.allow
	answer.mounts == [{"client": "", "org": "", "device": {"type": 2, "id": 4}}]
	answer.roles == ["PD_STANDARD_APP"]
}

test_user_is_refused if {
	connect.decision == {
		"allow": false,
		"reason": "only devices, gateways and applications connect over MQTT",
	} with input as {"principal": {"org": "acme01", "kind": "user", "id": "admin"}, "client": {"id": "x"}}
}

test_nobody_in_particular_is_refused if {
	answer := connect.decision with input as object.remove(_device, ["principal"])
	answer == {"allow": false, "reason": "only devices, gateways and applications connect over MQTT"}
}

test_unregistered_device_is_refused if {
	every request in [_device, _gateway] {
		answer := connect.decision with input as object.union(request, {"principal": {"registered": false}})
		answer == {"allow": false, "reason": sprintf("this %s is not registered", [request.principal.kind])}
	}
}

# What a plugin says is judged like anything else.
test_device_of_a_plugin_is_registered_and_says_the_truth if {
	of_plugin := object.union(_device, {
		"principal": {"verifier": "jwt", "claims": {"sub": "d1"}},
		"client": {"username": "use-plugin:jwt"},
	})
	connect.decision.allow with input as of_plugin
	not connect.decision.allow with input as object.union(of_plugin, {"principal": {"registered": false}})
	not connect.decision.allow with input as _with_id(of_plugin, "d:acme01:sensor:d2")
}

test_application_of_a_plugin_has_no_roles if {
	of_plugin := {
		"principal": {
			"org": "acme01", "kind": "application", "app": "app1", "verifier": "jwt",
			"roles": [], "groups": [], "registered": false, "claims": {"roles": ["PD_ADMIN_APP"]},
		},
		"org": {"id": "acme01", "connection_level": "tls"},
		"client": {"id": "a:acme01:app1", "username": "use-plugin:jwt", "listener": "mqtts"},
	}
	answer := connect.decision with input as of_plugin
	answer.allow
	answer.roles == []
}

test_application_needs_no_registration if {
	answer := connect.decision with input as object.union(_application, {"principal": {"registered": false}})
	answer.allow
}

test_every_door_with_tls_will_do if {
	every listener in ["mqtts", "wss", "https"] {
		answer := connect.decision with input as object.union(_device, {"client": {"listener": listener}})
		answer.allow
	}
}

_requires_tls := {"allow": false, "violation": "connection_level", "reason": "this organisation requires TLS"}

test_plain_connection_needs_tls_optional if {
	plain := object.union(_device, {"client": {"listener": "mqtt"}})
	connect.decision == _requires_tls with input as plain
	optional := object.union(plain, {"org": {"connection_level": "tls_optional"}})
	answer := connect.decision with input as optional
	answer.allow
}

test_unknown_listener_counts_as_plain if {
	unknown := object.union(_device, {"client": {"listener": "carrier pigeon"}})
	connect.decision == _requires_tls with input as unknown
}

test_absent_listener_counts_as_plain if {
	absent := object.union(object.remove(_device, ["client"]), {"client": {"id": ""}})
	connect.decision == _requires_tls with input as absent
}

test_plain_connection_is_refused_where_the_level_is_unknown if {
	plain := object.union(object.remove(_device, ["org"]), {"client": {"listener": "mqtt"}})
	answer := connect.decision with input as plain
	not answer.allow
}

test_client_id_of_somebody_else_is_refused if {
	others := [
		[_device, "d:acme01:sensor:d2"],
		[_device, "d:acme02:sensor:d1"],
		[_device, "g:acme01:sensor:d1"],
		[_device, "d:acme01:sensor:d1:x"],
		[_device, "d:"],
		[_gateway, "d:acme01:router:g1"],
		[_application, "a:acme02:app1"],
		[_application, "a:acme01:app2"],
		[_application, "A:acme01:app2:one"],
		[_application, "A:acme01:app1:"],
		[_application, "A:acme01:app1:one:two"],
		[_application, "d:acme01:sensor:d1"],
	]
	every other in others {
		answer := connect.decision with input as _with_id(other[0], other[1])
		not answer.allow
		startswith(answer.reason, "the client ID has to be ")
	}
}

test_the_reason_names_the_right_client_id if {
	answer := connect.decision with input as _with_id(_device, "d:acme01:sensor:d2")
	answer.reason == "the client ID has to be d:acme01:sensor:d1"
}

test_the_reason_names_every_right_client_id if {
	gateway := connect.decision with input as _with_id(_gateway, "g:acme01:router:g2")
	gateway.reason == "the client ID has to be g:acme01:router:g1"
	application := connect.decision with input as _with_id(_application, "a:acme01:app2")
	application.reason == "the client ID has to be A:acme01:app1 or a:acme01:app1"
}

test_application_without_a_name_is_nobody_else if {
	nameless := object.remove(_application, ["principal"])
	answer := connect.decision with input as object.union(nameless, {"principal": {"org": "acme01", "kind": "application"}})
	answer == {"allow": false, "reason": "the client ID says that the client is somebody else"}
}

test_application_may_be_scalable if {
	every id in ["A:acme01:app1", "A:acme01:app1:one", "a:acme01:app1"] {
		answer := connect.decision with input as _with_id(_application, id)
		answer.allow
	}
}

test_other_client_ids_say_nothing if {
	every id in ["", "d", "thermometer", "urn:dev:1"] {
		answer := connect.decision with input as _with_id(_device, id)
		answer.allow
	}
}

test_applications_of_class_A_share if {
	connect.decision.share == "A:app1" with input as _with_id(_application, "A:acme01:app1")
	connect.decision.share == "A:app1:instances" with input as _with_id(_application, "A:acme01:app1:i1")
	not connect.decision.share with input as _application
	not connect.decision.share with input as _device
}

# The reason is the first in the alphabet.
test_a_rule_that_denies_wins if {
	connect.decision == {"allow": false, "reason": "closed"} with input as _device
		with data.cordon.connect.deny as {"shut", "closed"}
}

# What each level takes: over TLS or not, by which proofs.
_takes := {
	"tls": {"tls": {"token", "certificate", "both"}, "plain": set()},
	"tls_certificate_or_token": {"tls": {"token", "certificate", "both"}, "plain": set()},
	"tls_optional": {"tls": {"token", "both"}, "plain": {"token", "both"}},
	"tls_token": {"tls": {"token", "both"}, "plain": set()},
	"tls_certificate": {"tls": {"certificate", "both"}, "plain": set()},
	"tls_token_and_certificate": {"tls": {"both"}, "plain": set()},
}

_verified_by := {
	"token": {"verifier": "token"},
	"certificate": {"verifier": "certificate"},
	"both": {"verifier": "token", "also": "certificate"},
}

_listeners := {"mqtts": "tls", "wss": "tls", "https": "tls", "mqtt": "plain"}

_at(request, level, proof, listener) := object.union(request, {
	"principal": _verified_by[proof],
	"org": {"connection_level": level},
	"client": {"listener": listener},
})

test_every_level_takes_what_it_takes if {
	every level, takes in _takes {
		every listener, transport in _listeners {
			every proof, _ in _verified_by {
				answer := connect.decision with input as _at(_device, level, proof, listener)
				good := proof in takes[transport]
				answer.allow == good
			}
		}
	}
}

test_every_kind_of_client_has_a_level if {
	every request in [_gateway, _application] {
		connect.decision.allow with input as _at(request, "tls_token", "token", "mqtts")
		not connect.decision.allow with input as _at(request, "tls_token", "certificate", "mqtts")
	}
}

test_every_other_answer_is_a_violation if {
	every level, takes in _takes {
		every listener, transport in _listeners {
			every proof in object.keys(_verified_by) - takes[transport] {
				answer := connect.decision with input as _at(_device, level, proof, listener)
				answer.violation == "connection_level"
				startswith(answer.reason, "this organisation requires ")
			}
		}
	}
}

test_a_level_that_nobody_knows_takes_nothing if {
	every proof, _ in _verified_by {
		answer := connect.decision with input as _at(_device, "tls_something", proof, "mqtts")
		not answer.allow
	}
}

test_the_reason_says_what_is_missing if {
	reasons := [
		["tls_token", "certificate", "this organisation requires a token"],
		["tls_optional", "certificate", "this organisation requires a token"],
		["tls_certificate", "token", "this organisation requires a client certificate"],
		["tls_token_and_certificate", "token", "this organisation requires a client certificate beside the token"],
		["tls_token_and_certificate", "certificate", "this organisation requires a token beside the client certificate"],
	]
	every row in reasons {
		answer := connect.decision with input as _at(_device, row[0], row[1], "mqtts")
		answer == {"allow": false, "violation": "connection_level", "reason": row[2]}
	}
}

test_the_token_of_a_plugin_is_one if {
	of_plugin := object.union(_at(_device, "tls_token", "token", "mqtts"), {"principal": {"verifier": "jwt"}})
	connect.decision.allow with input as of_plugin
	not connect.decision.allow with input as object.union(of_plugin, {"principal": {"verifier": "anonymous"}})
}

_asked(level, username) := object.union(_with_certificate(username), {"org": {"id": "acme01", "connection_level": level}})

test_who_is_asked_at_each_level if {
	every level in object.keys(_takes) {
		connect.verifiers == [{"verifier": "certificate"}] with input as _asked(level, "")
		connect.verifiers == [{"verifier": "token"}] with input as {
			"client": {"username": "use-token-auth", "tls": {"version": "1.3", "sni": ""}},
			"org": {"id": "acme01", "connection_level": level},
		}
	}
	every level in ["tls", "tls_optional", "tls_token", "tls_certificate_or_token"] {
		connect.verifiers == [{"verifier": "token"}] with input as _asked(level, "use-token-auth")
	}
	connect.verifiers == [{"verifier": "certificate"}] with input as _asked("tls_certificate", "use-token-auth")
	connect.verifiers == [{"verifier": "certificate"}] with input as _asked("tls_certificate", "use-plugin:jwt")
}

test_both_are_asked_together if {
	level := "tls_token_and_certificate"
	connect.verifiers == [{"verifier": "token", "and": "certificate"}] with input as _asked(level, "use-token-auth")
	connect.verifiers == [{"verifier": "plugin", "name": "jwt", "and": "certificate"}] with input as _asked(level, "use-plugin:jwt")
	connect.verifiers == [] with input as _asked(level, "use-plugin:a b")
}

_from(list, listed) := object.union(_device, {"org": {"address_list": list, "address_listed": listed}})

test_an_address_is_allowed_or_not if {
	connect.decision.allow with input as _from("allow", true)
	connect.decision.allow with input as _from("deny", false)
	every request in [_from("allow", false), _from("deny", true)] {
		connect.decision == {
			"allow": false, "violation": "address",
			"reason": "connections from this address are not allowed",
		} with input as request
	}
}

test_an_address_comes_before_a_level if {
	answer := connect.decision with input as _at(_from("deny", true), "tls_certificate", "token", "mqtt")
	answer.violation == "address"
}

_unknown := object.union(_device, {
	"principal": {"registered": false, "verifier": "certificate"},
	"org": {"certificate_registration": true},
})

test_a_certificate_registers if {
	connect.decision == {"allow": false, "register": true, "reason": "this device is not registered"} with input as _unknown
	gateway := object.union(_gateway, {
		"principal": {"registered": false, "verifier": "certificate"},
		"org": {"certificate_registration": true},
	})
	connect.decision.register with input as gateway
}

test_nothing_else_registers if {
	others := [
		object.union(_unknown, {"principal": {"verifier": "jwt"}}),
		object.union(_unknown, {"principal": {"verifier": "token"}}),
		object.union(_unknown, {"org": {"certificate_registration": false}}),
		object.union(_unknown, {"org": {"connection_level": "tls_token"}}),
		object.union(_unknown, {"org": {"address_list": "deny", "address_listed": true}}),
		object.union(_unknown, {"client": {"listener": "mqtt"}}),
		_with_id(_unknown, "d:acme01:sensor:d2"),
	]
	every request in others {
		answer := connect.decision with input as request
		not answer.allow
		not answer.register
	}
	not connect.decision.register with input as _unknown with data.cordon.connect.deny as {"closed"}
}
