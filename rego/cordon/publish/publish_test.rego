package cordon.publish_test

import data.cordon.publish

_device := {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "roles": []}

_gateway := {"org": "acme01", "kind": "gateway", "type": "router", "id": "g1", "roles": []}

_application(roles) := {"org": "acme01", "kind": "application", "app": "app1", "roles": roles}

_to(principal, topic) := {"principal": principal, "levels": split(topic, "/"), "topic": topic, "qos": 1}

# Each filter has the topics that it covers, all of which are allowed. Beside
# rules that deny, an answer states no covers.
_allowed(principal, covered) if {
	every filter, topics in covered {
		every topic in topics {
			answer := publish.decision with input as _to(principal, topic)
			object.remove(answer, ["covers"]) == {"allow": true, "retain": "strip"}
			object.get(answer, "covers", [filter]) == [filter]
		}
	}
}

_refused(principal, topics, reason) if {
	every topic in topics {
		publish.decision == {"allow": false, "reason": reason} with input as _to(principal, topic)
	}
}

test_device_publishes_its_own_events if {
	_allowed(_device, {"iot-2/type/sensor/id/d1/evt/+/fmt/+": [
		"iot-2/type/sensor/id/d1/evt/status/fmt/json",
		"iot-2/type/sensor/id/d1/evt/s/fmt/x",
	]})
}

test_device_publishes_nothing_else if {
	_refused(
		_device,
		[
			"iot-2/type/sensor/id/d2/evt/status/fmt/json",
			"iot-2/type/other/id/d1/evt/status/fmt/json",
			"iot-2/type/sensor/id/d1/cmd/reboot/fmt/json",
			"iot-2/type/sensor/id/d1/cmd/reboot",
			"iot-2/type/sensor/id/d1/evt/status",
			"iot-2/type/sensor/id/d1/evt//fmt/json",
			"iot-2/type/sensor/id/d1/evt/status/fmt/",
			"iot-2/type/sensor/id/d1/evt/status/fmt/json/more",
			"iot-2/evt/status/fmt/json",
			"$SYS/broker",
		],
		"a device publishes iot-2/evt/{event}/fmt/{format}",
	)
}

# Gateways: g1 reaches the devices of group "hall"; old was never given a group.
_restricted := object.union(_gateway, {"roles": ["PD_PRIVILEGED_GW_DEVICE"], "restricted": true, "groups": ["hall", "yard"]})

_standard := object.union(_restricted, {"roles": ["PD_STANDARD_GW_DEVICE"]})

_emptied := object.union(_restricted, {"groups": []})

_old := object.union(_gateway, {"restricted": false, "groups": []})

_itself := {"type": "router", "id": "g1", "registered": true, "status": "enabled", "groups": []}

_near := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": ["attic", "hall"]}

_far := object.union(_near, {"groups": ["attic"]})

_off := object.union(_near, {"status": "disabled"})

_none := {"type": "sensor", "id": "d1", "registered": false, "groups": []}

_about(principal, device, topic) := object.union(_to(principal, topic), {
	"will": false,
	"device": device,
	"on_behalf_of": {"type": device.type, "id": device.id},
})

_event := "iot-2/type/sensor/id/d1/evt/status/fmt/json"

_notice(code) := {"topic": "iot-2/type/router/id/g1/notify", "code": code}

_dropped(reason, code) := {"allow": false, "reason": reason, "on_deny": "drop", "notify": _notice(code)}

test_gateway_publishes_its_own_events if {
	every gateway in [_gateway, _old, _restricted, _standard, _emptied] {
		_allowed(gateway, {"iot-2/type/router/id/g1/evt/+/fmt/+": ["iot-2/type/router/id/g1/evt/status/fmt/json"]})
		about := object.union(_to(gateway, "iot-2/type/router/id/g1/evt/status/fmt/json"), {"device": _itself})
		publish.decision.allow with input as about
	}
}

test_gateway_publishes_events_of_devices_it_reaches if {
	every case in [[_restricted, _near], [_standard, _near], [_old, _near], [_old, _far]] {
		answer := publish.decision with input as _about(case[0], case[1], _event)
		answer.allow
		object.get(answer, "covers", ["iot-2/type/sensor/id/d1/evt/+/fmt/+"]) == ["iot-2/type/sensor/id/d1/evt/+/fmt/+"]
	}
}

test_gateway_does_not_reach_the_rest if {
	every case in [[_restricted, _far], [_standard, _far], [_emptied, _near], [_standard, _none], [_old, _none]] {
		publish.decision == _dropped("this gateway reaches no such device", 180) with input as _about(case[0], case[1], _event)
	}
	publish.decision == _dropped("this device is disabled", 180) with input as _about(_old, _off, _event)
	publish.decision == _dropped("this gateway reaches no such device", 180)
		with input as _about(_restricted, object.union(_off, {"groups": []}), _event)
}

test_gateway_keeps_to_the_topics_of_devices if {
	every topic in ["iot-2/type/sensor/id/d1/mon", "iot-2/type/sensor/id/d1/evt//fmt/json", "iot-2/app/x/mon", "x", "iot-2/type/router/id/g1/notify"] {
		publish.decision == _dropped("a gateway publishes iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}", 276)
			with input as _about(_old, _near, topic)
	}
	every topic in ["iot-2/type/sensor/id/d1/cmd/reboot/fmt/json", "iot-2/type/router/id/g1/cmd/reboot"] {
		publish.decision == _dropped("no role of this gateway publishes commands", 276) with input as _about(_restricted, _near, topic)
	}
}

# A topic whose type or id is none names no device.
test_what_names_no_device_is_out_of_reach if {
	every topic in ["iot-2/type/sen sor/id/d1/evt/status/fmt/json", "iot-2/type/../id/d 1/evt/status/fmt/json"] {
		publish.decision == _dropped("this gateway reaches no such device", 276) with input as object.union(_to(_restricted, topic), {"will": false})
	}
}

test_privileged_gateway_registers_what_is_unknown if {
	publish.decision == object.union(_dropped("this gateway reaches no such device", 180), {"register": true})
		with input as _about(_restricted, _none, _event)
	every case in [
		[_standard, _none, _event],
		[_restricted, _far, _event],
		[_restricted, _off, _event],
		[_old, _none, _event],
		[_restricted, _none, "iot-2/type/sensor/id/d1/cmd/reboot/fmt/json"],
		[_restricted, _none, "iot-2/type/sensor/id/d1/mon"],
	] {
		answer := publish.decision with input as _about(case[0], case[1], case[2])
		not answer.allow
		not answer.register
	}
}

# A will has to be refused with its connect, and nobody is registered for it.
test_will_of_gateway_is_refused if {
	every device in [_far, _none] {
		publish.decision == {"allow": false, "reason": "this gateway reaches no such device"}
			with input as object.union(_about(_restricted, device, _event), {"will": true})
	}
}

# A call has an answer of its own.
test_gateway_over_http_is_refused if {
	over_http := {"client": {"listener": "https"}}
	publish.decision == {"allow": false, "reason": "this gateway reaches no such device"}
		with input as object.union(_about(_restricted, _far, _event), over_http)
	publish.decision == {"allow": false, "reason": "this gateway reaches no such device", "register": true}
		with input as object.union(_about(_restricted, _none, _event), over_http)
}

test_restricted_application_publishes_for_devices_it_reaches if {
	application := object.union(_application(["PD_STANDARD_APP"]), {"restricted": true, "groups": ["hall"]})
	publish.decision.allow with input as _about(application, _near, _event)
	every device in [_far, _none] {
		publish.decision == {"allow": false, "reason": "this application reaches no such device"}
			with input as _about(application, device, _event)
	}
	publish.decision == {"allow": false, "reason": "this application reaches no such device"} with input as _to(application, _event)
}

test_what_denies_a_gateway_is_told_in_its_way if {
	publish.decision == _dropped("closed", 180) with input as _about(_old, _near, _event)
		with data.cordon.publish.deny as {"closed"}

	# Over HTTP the answer says it.
	publish.decision == {"allow": false, "reason": "closed"}
		with input as object.union(_about(_old, _near, _event), {"client": {"listener": "https"}})
		with data.cordon.publish.deny as {"closed"}
}

_events := {
	"iot-2/type/sensor/id/d1/evt/+/fmt/+": ["iot-2/type/sensor/id/d1/evt/status/fmt/json"],
	"iot-2/type/t/id/d/evt/+/fmt/+": ["iot-2/type/t/id/d/evt/e/fmt/f", "iot-2/type/t/id/d/evt/cmd/fmt/fmt"],
}

_commands := {
	"iot-2/type/sensor/id/d1/cmd/+/fmt/+": ["iot-2/type/sensor/id/d1/cmd/reboot/fmt/json"],
	"iot-2/type/sensor/id/d1/cmd/+": ["iot-2/type/sensor/id/d1/cmd/reboot", "iot-2/type/sensor/id/d1/cmd/evt"],
}

_topics(covered) := [topic | some topics in covered; some topic in topics]

test_standard_application_publishes_events_and_commands if {
	every role in ["PD_STANDARD_APP", "PD_ADMIN_APP"] {
		_allowed(_application([role]), _events)
		_allowed(_application([role]), _commands)
	}
}

test_operator_application_publishes_commands_only if {
	_allowed(_application(["PD_OPERATOR_APP"]), _commands)
	_refused(_application(["PD_OPERATOR_APP"]), _topics(_events), "no role of this application publishes events")
}

test_application_without_roles_publishes_nothing if {
	_refused(_application([]), _topics(_commands), "no role of this application publishes commands")
}

test_application_keeps_to_the_topics_of_devices if {
	_refused(
		_application(["PD_ADMIN_APP"]),
		[
			"iot-2/type//id/d1/evt/status/fmt/json",
			"iot-2/type/sensor/id//evt/status/fmt/json",
			"iot-2/type/sensor/id/d1/evt//fmt/json",
			"iot-2/type/sensor/id/d1/cmd/",
			"iot-2/type/sensor/id/d1/cmd//fmt/json",
			"iot-2/type/sensor/id/d1/evt/status",
			"iot-2/type/sensor/id/d1/mon",
			"/iot-2/type/sensor/id/d1/evt/status/fmt/json",
			"$SYS/broker",
			"x",
		],
		"an application publishes iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}, …/cmd/{command}/fmt/{format} or …/cmd/{command}",
	)
}

test_user_publishes_nothing if {
	_refused(
		{"org": "acme01", "kind": "user", "id": "admin", "roles": ["PD_ADMIN_APP"]},
		_topics(_events),
		"this principal does not publish",
	)
}

# The reason is the first in the alphabet.
test_a_rule_that_denies_wins if {
	publish.decision == {"allow": false, "reason": "closed"} with input as _to(_device, "iot-2/type/sensor/id/d1/evt/status/fmt/json")
		with data.cordon.publish.deny as {"shut", "closed"}
}

test_beside_rules_that_deny_no_answer_covers_others if {
	publish.decision == {"allow": true, "retain": "strip"}
		with input as _to(_device, "iot-2/type/sensor/id/d1/evt/status/fmt/json")
		with data.cordon.publish.deny as set()
}
