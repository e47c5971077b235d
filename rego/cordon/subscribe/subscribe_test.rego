package cordon.subscribe_test

import data.cordon.subscribe

_device := {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "roles": []}

_gateway := {"org": "acme01", "kind": "gateway", "type": "router", "id": "g1", "roles": []}

_application(roles) := {"org": "acme01", "kind": "application", "app": "app1", "roles": roles}

_to(principal, filter) := {"principal": principal, "levels": split(filter, "/"), "filter": filter, "qos": 1}

_allowed(principal, filters) if {
	every filter in filters {
		subscribe.decision == {"allow": true, "qos": 2} with input as _to(principal, filter)
	}
}

_refused(principal, filters, reason) if {
	every filter in filters {
		answer := subscribe.decision with input as _to(principal, filter)
		not answer.allow
		startswith(answer.reason, reason)
	}
}

test_device_subscribes_to_its_own_commands if {
	_allowed(_device, [
		"iot-2/type/sensor/id/d1/cmd/+/fmt/+",
		"iot-2/type/sensor/id/d1/cmd/reboot/fmt/+",
		"iot-2/type/sensor/id/d1/cmd/+/fmt/json",
		"iot-2/type/sensor/id/d1/cmd/reboot/fmt/json",
		"iot-2/type/sensor/id/d1/cmd/+",
		"iot-2/type/sensor/id/d1/cmd/reboot",
	])
}

test_device_subscribes_to_nothing_else if {
	_refused(
		_device,
		[
			"iot-2/type/sensor/id/d2/cmd/+/fmt/+",
			"iot-2/type/sensor/id/+/cmd/+/fmt/+",
			"iot-2/type/+/id/d1/cmd/+/fmt/+",
			"iot-2/type/sensor/id/d1/+/+/fmt/+",
			"iot-2/type/sensor/id/d1/evt/+/fmt/+",
			"iot-2/type/sensor/id/d1/cmd/#",
			"iot-2/type/sensor/id/d1/cmd/+/fmt/#",
			"iot-2/type/sensor/id/d1/cmd//fmt/+",
			"iot-2/type/sensor/id/d1/cmd/",
			"iot-2/type/sensor/id/d1/#",
			"iot-2/type/sensor/id/d1/cmd/+/+/+",
			"#",
			"+/+",
			"$SYS/#",
		],
		"a device subscribes to iot-2/cmd/{command}/fmt/{format}",
	)
}

# Gateways as in cordon.publish: g1 reaches the devices of group "hall".
_restricted := object.union(_gateway, {"roles": ["PD_PRIVILEGED_GW_DEVICE"], "restricted": true, "groups": ["hall", "yard"]})

_standard := object.union(_restricted, {"roles": ["PD_STANDARD_GW_DEVICE"]})

_emptied := object.union(_restricted, {"groups": []})

_old := object.union(_gateway, {"restricted": false, "groups": []})

_near := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": ["attic", "hall"]}

_far := object.union(_near, {"groups": ["attic"]})

_off := object.union(_near, {"status": "disabled"})

_none := {"type": "sensor", "id": "d1", "registered": false, "groups": []}

_about(principal, device, filter) := object.union(_to(principal, filter), {
	"device": device,
	"on_behalf_of": {"type": device.type, "id": device.id},
})

_notice(code) := {"topic": "iot-2/type/router/id/g1/notify", "code": code}

_unheard := {"allow": false, "reason": "this gateway reaches no such device", "notify": _notice(180)}

_of_sensor := ["iot-2/type/sensor/id/d1/cmd/+/fmt/+", "iot-2/type/sensor/id/d1/cmd/reboot", "iot-2/type/sensor/id/d1/mon"]

_of_all := ["iot-2/type/+/id/+/cmd/+/fmt/+", "iot-2/type/sensor/id/+/cmd/+", "iot-2/type/+/id/d1/cmd/reboot", "iot-2/type/+/id/+/mon"]

test_gateway_subscribes_to_what_is_its_own if {
	every gateway in [_gateway, _old, _restricted, _standard, _emptied] {
		_allowed(gateway, [
			"iot-2/type/router/id/g1/cmd/+/fmt/+",
			"iot-2/type/router/id/g1/cmd/+",
			"iot-2/type/router/id/g1/mon",
			"iot-2/type/router/id/g1/notify",
		])
	}
}

test_gateway_subscribes_for_devices_it_reaches if {
	every filter in _of_sensor {
		every case in [[_restricted, _near], [_standard, _near], [_old, _near], [_old, _far]] {
			subscribe.decision == {"allow": true, "qos": 2} with input as _about(case[0], case[1], filter)
		}
		every case in [[_restricted, _far], [_standard, _far], [_emptied, _near], [_standard, _none], [_old, _none], [_old, _off]] {
			subscribe.decision == _unheard with input as _about(case[0], case[1], filter)
		}
	}
}

# What of these a restricted one is given, cordon.receive says.
test_gateway_subscribes_for_all_devices_at_once if {
	every gateway in [_gateway, _old, _restricted, _standard, _emptied] {
		_allowed(gateway, _of_all)
	}
}

test_privileged_gateway_registers_what_is_unknown if {
	every filter in ["iot-2/type/sensor/id/d1/cmd/+/fmt/+", "iot-2/type/sensor/id/d1/cmd/reboot"] {
		subscribe.decision == object.union(_unheard, {"register": true}) with input as _about(_restricted, _none, filter)
	}
	every case in [[_restricted, _none, "mon"], [_restricted, _far, "cmd/+"], [_standard, _none, "cmd/+"], [_old, _none, "cmd/+"]] {
		answer := subscribe.decision with input as _about(case[0], case[1], concat("/", ["iot-2/type/sensor/id/d1", case[2]]))
		not answer.allow
		not answer.register
	}
}

test_gateway_subscribes_to_nothing_else if {
	every filter in [
		"iot-2/type/sensor/id/d1/evt/+/fmt/+",
		"iot-2/type/router/id/g1/evt/+/fmt/+",
		"iot-2/type/+/id/+/evt/+/fmt/+",
		"iot-2/type/+/id/+/notify",
		"iot-2/type/router/id/+/notify",
		"iot-2/type/sensor/id/d1/notify",
		"iot-2/type/sensor/id/d1/cmd/#",
		"iot-2/type/sensor/id/d1/+/+",
		"iot-2/type/sensor/id//cmd/+",
		"iot-2/app/+/mon",
		"iot-2/+/+/+/+/cmd/+/fmt/+",
		"+/type/+/id/+/cmd/+/fmt/+",
		"#",
	] {
		every gateway in [_old, _restricted] {
			answer := subscribe.decision with input as _about(gateway, _near, filter)
			not answer.allow
			answer.notify == _notice(276)
			startswith(answer.reason, "a gateway subscribes to")
		}
	}
}

# A filter whose type or id is none names no device.
test_what_names_no_device_is_refused if {
	answer := subscribe.decision with input as _to(_old, "iot-2/type/sensor/id/d 1/cmd/+")
	not answer.allow
}

# A call has an answer of its own.
test_gateway_over_http_is_refused if {
	subscribe.decision == {"allow": false, "reason": "this gateway reaches no such device"}
		with input as object.union(_about(_restricted, _far, "iot-2/type/sensor/id/d1/cmd/+"), {"client": {"listener": "https"}})
}

test_restricted_application_subscribes_for_devices_it_reaches if {
	application := object.union(_application(["PD_STANDARD_APP"]), {"restricted": true, "groups": ["hall"]})
	every filter in array.concat(_of_sensor, _events) {
		subscribe.decision.allow with input as _about(application, _near, filter)
	}
	every filter in _of_sensor {
		subscribe.decision == {"allow": false, "reason": "this application reaches no such device"}
			with input as _about(application, _far, filter)
	}
	subscribe.decision == {"allow": false, "reason": "this application reaches no such device"}
		with input as _to(application, "iot-2/app/+/mon")
}

test_what_denies_a_gateway_is_told_in_its_way if {
	subscribe.decision == {"allow": false, "reason": "closed", "notify": _notice(180)}
		with input as _about(_old, _near, "iot-2/type/sensor/id/d1/cmd/+")
		with data.cordon.subscribe.deny as {"closed"}
}

_events := [
	"iot-2/type/+/id/+/evt/+/fmt/+",
	"iot-2/type/sensor/id/+/evt/status/fmt/+",
	"iot-2/type/sensor/id/d1/evt/status/fmt/json",
]

_commands := [
	"iot-2/type/+/id/+/cmd/+/fmt/+",
	"iot-2/type/sensor/id/d1/cmd/reboot/fmt/json",
	"iot-2/type/+/id/+/cmd/+",
]

test_standard_application_subscribes_to_events_and_commands if {
	every role in ["PD_STANDARD_APP", "PD_ADMIN_APP"] {
		_allowed(_application([role]), _events)
		_allowed(_application([role]), _commands)
	}
}

test_operator_application_subscribes_to_events_only if {
	_allowed(_application(["PD_OPERATOR_APP"]), _events)
	_refused(_application(["PD_OPERATOR_APP"]), _commands, "no role of this application subscribes to commands")
}

test_whoever_hears_events_hears_who_comes_and_goes if {
	monitoring := ["iot-2/type/+/id/+/mon", "iot-2/type/sensor/id/d1/mon", "iot-2/app/+/mon", "iot-2/app/app1/mon"]
	every role in ["PD_STANDARD_APP", "PD_ADMIN_APP", "PD_OPERATOR_APP"] {
		_allowed(_application([role]), monitoring)
	}
	_refused(_application([]), monitoring, "no role of this application subscribes to events")
	_refused(_device, ["iot-2/type/sensor/id/d1/mon", "iot-2/app/+/mon"], "a device subscribes to")
	_refused(_application(["PD_ADMIN_APP"]), ["iot-2/type//id/d1/mon", "iot-2/app/#", "iot-2/+/+/mon"], "an application subscribes to")
}

test_application_without_roles_subscribes_to_nothing if {
	_refused(_application([]), _events, "no role of this application subscribes to events")
}

test_application_keeps_to_the_topics_of_devices if {
	_refused(
		_application(["PD_ADMIN_APP"]),
		[
			"#",
			"iot-2/#",
			"+/type/+/id/+/evt/+/fmt/+",
			"iot-2/type/+/id/+/+/+/fmt/+",
			"iot-2/+/+/+/+/+/+/+/+",
			"iot-2/type/+/id/+/evt/#",
			"iot-2/type/+/id/+/evt/+/fmt/#",
			"iot-2/type//id/+/evt/+/fmt/+",
			"iot-2/type/+/id/+/cmd/#",
			"$SYS/#",
			"$share/x/iot-2/type/+/id/+/evt/+/fmt/+",
		],
		"an application subscribes to iot-2/type/{type}/id/{id}/evt/",
	)
}

test_shared_subscription_follows_the_same_rules if {
	shared := object.union(_to(_device, "iot-2/type/sensor/id/d1/cmd/+/fmt/+"), {"share": "workers"})
	subscribe.decision.allow with input as shared
	other := object.union(_to(_device, "iot-2/type/sensor/id/d2/cmd/+/fmt/+"), {"share": "workers"})
	not subscribe.decision.allow with input as other
}

test_user_subscribes_to_nothing if {
	_refused(
		{"org": "acme01", "kind": "user", "id": "admin", "roles": ["PD_ADMIN_APP"]},
		_events,
		"this principal does not subscribe",
	)
}

# The reason is the first in the alphabet.
test_a_rule_that_denies_wins if {
	subscribe.decision == {"allow": false, "reason": "closed"} with input as _to(_device, "iot-2/type/sensor/id/d1/cmd/+/fmt/+")
		with data.cordon.subscribe.deny as {"shut", "closed"}
}
