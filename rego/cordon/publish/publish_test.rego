package cordon.publish_test

import data.cordon.publish

_device := {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "roles": []}

_gateway := {"org": "acme01", "kind": "gateway", "type": "router", "id": "g1", "roles": []}

_application(roles) := {"org": "acme01", "kind": "application", "app": "app1", "roles": roles}

_to(principal, topic) := {"principal": principal, "levels": split(topic, "/"), "topic": topic, "qos": 1}

_allowed(principal, topics) if {
	every topic in topics {
		publish.decision == {"allow": true, "retain": "strip"} with input as _to(principal, topic)
	}
}

_refused(principal, topics, reason) if {
	every topic in topics {
		publish.decision == {"allow": false, "reason": reason} with input as _to(principal, topic)
	}
}

test_device_publishes_its_own_events if {
	_allowed(_device, ["iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/sensor/id/d1/evt/s/fmt/x"])
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
	_allowed(_gateway, ["iot-2/type/router/id/g1/evt/status/fmt/json"])
	_refused(
		_gateway,
		["iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/router/id/g1/cmd/reboot/fmt/json"],
		"a gateway publishes iot-2/type/{its type}/id/{its id}/evt/{event}/fmt/{format}",
	)
}

_events := ["iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/t/id/d/evt/e/fmt/f"]

_commands := ["iot-2/type/sensor/id/d1/cmd/reboot/fmt/json", "iot-2/type/sensor/id/d1/cmd/reboot"]

test_standard_application_publishes_events_and_commands if {
	every role in ["PD_STANDARD_APP", "PD_ADMIN_APP"] {
		_allowed(_application([role]), _events)
		_allowed(_application([role]), _commands)
	}
}

test_operator_application_publishes_commands_only if {
	_allowed(_application(["PD_OPERATOR_APP"]), _commands)
	_refused(_application(["PD_OPERATOR_APP"]), _events, "no role of this application publishes events")
}

test_application_without_roles_publishes_nothing if {
	_refused(_application([]), _commands, "no role of this application publishes commands")
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
		_events,
		"this principal does not publish",
	)
}
