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

test_gateway_publishes_its_own_events if {
	_allowed(_gateway, {"iot-2/type/router/id/g1/evt/+/fmt/+": ["iot-2/type/router/id/g1/evt/status/fmt/json"]})
	_refused(
		_gateway,
		["iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/router/id/g1/cmd/reboot/fmt/json"],
		"a gateway publishes iot-2/type/{its type}/id/{its id}/evt/{event}/fmt/{format}",
	)
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
