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

test_gateway_subscribes_to_its_own_commands if {
	_allowed(_gateway, ["iot-2/type/router/id/g1/cmd/+/fmt/+", "iot-2/type/router/id/g1/cmd/+"])
	_refused(
		_gateway,
		["iot-2/type/sensor/id/d1/cmd/+/fmt/+", "iot-2/type/router/id/g1/evt/+/fmt/+"],
		"a gateway subscribes to iot-2/type/{its type}/id/{its id}/cmd/",
	)
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
