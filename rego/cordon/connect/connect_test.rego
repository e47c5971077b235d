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
}

test_device_gets_its_own_prefix_for_both_spellings if {
	answer := connect.decision with input as _device
	object.remove(answer, ["limits"]) == {
		"allow": true,
		"mounts": [
			{"client": "iot-2/", "org": "iot-2/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
			{"client": "/iot-2/", "org": "iot-2/type/sensor/id/d1/", "device": {"type": 2, "id": 4}},
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

test_unregistered_device_is_refused if {
	every request in [_device, _gateway] {
		answer := connect.decision with input as object.union(request, {"principal": {"registered": false}})
		answer == {"allow": false, "reason": sprintf("this %s is not registered", [request.principal.kind])}
	}
}

test_application_needs_no_registration if {
	answer := connect.decision with input as object.union(_application, {"principal": {"registered": false}})
	answer.allow
}

test_plain_connection_needs_tls_optional if {
	plain := object.union(_device, {"client": {"listener": "mqtt"}})
	connect.decision == {"allow": false, "reason": "this organisation requires TLS"} with input as plain
	optional := object.union(plain, {"org": {"connection_level": "tls_optional"}})
	answer := connect.decision with input as optional
	answer.allow
}

test_unknown_listener_counts_as_plain if {
	unknown := object.union(_device, {"client": {"listener": "carrier pigeon"}})
	connect.decision == {"allow": false, "reason": "this organisation requires TLS"} with input as unknown
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
