package cordon.admin_test

import data.cordon.admin

_key(roles) := {
	"org": "acme01", "kind": "application", "app": "app1",
	"api_key": "a-acme01-0123456789", "roles": roles,
}

_administrator := {"org": "acme01", "kind": "user", "id": "admin", "roles": ["Administrator"]}

_call(principal, method, route, target) := {
	"principal": principal, "method": method, "route": route, "target": target,
}

_calls := [[method, route] |
	some route, methods in data.cordon.admin.permissions
	some method, _ in methods
]

_device_calls := [call |
	some call in _calls
	startswith(call[1], "/device/")
]

_key_edits := [call |
	some call in _calls
	startswith(call[1], "/authorization/apikeys")
	call[0] != "GET"
]

_policy_calls := [call |
	some call in _calls
	startswith(call[1], "/policy")
]

test_the_table_has_the_calls_there_are if {
	count(_calls) == 72
	count(_policy_calls) == 15
	count(_device_calls) == 25
	count(_key_edits) == 5
}

test_administrators_may_do_everything if {
	every principal in [_administrator, _key(["PD_ADMIN_APP"])] {
		every call in _calls {
			admin.decision == {"allow": true} with input as _call(principal, call[0], call[1], {})
		}
		admin.decision == {"allow": true} with input as _call(principal, "PATCH", "/a/later/route", {})
	}
}

test_standard_key_manages_devices_and_types if {
	every call in _device_calls {
		admin.decision == {"allow": true} with input as _call(_key(["PD_STANDARD_APP"]), call[0], call[1], {})
	}
	every method in ["GET", "PUT"] {
		admin.decision.allow with input as _call(_key(["PD_STANDARD_APP"]), method, "/authorization/devices/{clientId}", {})
	}
}

test_standard_key_sees_keys_but_does_not_change_them if {
	admin.decision.allow with input as _call(_key(["PD_STANDARD_APP"]), "GET", "/authorization/apikeys", {})
	every call in _key_edits {
		admin.decision == {
			"allow": false,
			"reason": "no role of this caller has the permission apikeys.edit",
		} with input as _call(_key(["PD_STANDARD_APP"]), call[0], call[1], {})
	}
}

test_operator_key_changes_keys if {
	every call in _key_edits {
		admin.decision.allow with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {})
	}
}

# Whoever changes the policy of an organisation decides what everybody may do there,
# and its decisions say who does what.
test_administrators_alone_have_the_policy if {
	every call in _policy_calls {
		admin.decision.allow with input as _call(_administrator, call[0], call[1], {})
		admin.decision.allow with input as _call(_key(["PD_ADMIN_APP"]), call[0], call[1], {})
		every role in ["PD_STANDARD_APP", "PD_OPERATOR_APP"] {
			not admin.decision.allow with input as _call(_key([role]), call[0], call[1], {})
		}
	}
}

test_seeing_the_policy_is_not_changing_it if {
	every call in _policy_calls {
		sees := call[0] == "GET"
		asks := call[1] == "/policy/explain"
		permitted := true in {sees, asks}
		admin.decision.allow == permitted with input as _call(_key(["AUDITOR"]), call[0], call[1], {})
			with data.cordon.roles.calls as {"AUDITOR": ["policy.view"]}
	}
}

test_key_reads_its_own_properties if {
	every route in ["/authorization/apikeys/{key}", "/authorization/apikeys/{key}/roles"] {
		admin.decision.allow with input as _call(_key([]), "GET", route, {"key": "a-acme01-0123456789"})
		not admin.decision.allow with input as _call(_key([]), "GET", route, {"key": "a-acme01-9876543210"})
		every method in ["PUT", "DELETE"] {
			not admin.decision.allow with input as _call(_key([]), method, route, {"key": "a-acme01-0123456789"})
		}
	}
}

test_unknown_call_is_refused if {
	every call in [["PATCH", "/device/types"], ["GET", "/elsewhere"]] {
		admin.decision == {
			"allow": false,
			"reason": "no role of this caller permits this call",
		} with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {})
	}
}

test_devices_do_not_administer if {
	every kind in ["device", "gateway"] {
		admin.decision == {
			"allow": false,
			"reason": "only applications and users administer",
		} with input as _call({"org": "acme01", "kind": kind, "roles": ["PD_ADMIN_APP"]}, "GET", "/", {})
	}
}

_hand_outs := [
	["POST", "/authorization/apikeys"],
	["POST", "/authorization/apikeys/{key}/token"],
	["PUT", "/authorization/apikeys/{key}/roles"],
]

# Whoever gets a key's token has its roles.
test_nobody_gets_a_key_with_more_than_they_have if {
	every call in _hand_outs {
		admin.decision == {
			"allow": false,
			"reason": "this caller cannot give everything",
		} with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": "PD_VISUALIZATION_APP,PD_ADMIN_APP"})
		admin.decision.allow with input as _call(_key(["PD_ADMIN_APP"]), call[0], call[1], {"roles": "PD_ADMIN_APP"})
	}
}

# It replaces tokens of devices, so it could send their events as it is.
test_operator_key_hands_out_the_roles_of_applications if {
	every call in _hand_outs {
		every role in ["PD_STANDARD_APP", "PD_BACKEND_TRUSTED_APP", "PD_DATA_PROCESSOR_APP", "PD_VISUALIZATION_APP", "PD_DEVICE_APP", "PD_PRIVILEGED_GW_DEVICE"] {
			admin.decision.allow with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": role})
		}
	}
}

_custom(permissions) := object.union(_key(["custom"]), {"permissions": permissions})

test_a_role_of_the_organisation_permits_what_it_says if {
	admin.decision.allow with input as _call(_custom(["types.view"]), "GET", "/device/types", {})
	admin.decision == {
		"allow": false,
		"reason": "no role of this caller has the permission types.edit",
	} with input as _call(_custom(["types.view"]), "POST", "/device/types", {})
}

test_nobody_makes_a_role_of_more_than_they_have if {
	makes := _custom(["roles.edit", "devices.view", "commands.publish"])
	every call in [["POST", "/authorization/roles"], ["PUT", "/authorization/roles/{roleId}"]] {
		admin.decision.allow with input as _call(makes, call[0], call[1], {"permissions": "devices.view,commands.publish"})
		admin.decision.allow with input as _call(makes, call[0], call[1], {"permissions": ""})
		admin.decision == {
			"allow": false,
			"reason": "this caller cannot give devices.edit, events.publish",
		} with input as _call(makes, call[0], call[1], {"permissions": "devices.view,events.publish,devices.edit"})
		admin.decision.allow with input as _call(_administrator, call[0], call[1], {"permissions": "everything.of,a.later,version"})
	}
}

# A role of the organisation comes as what it permits, beside those of the table.
test_nobody_hands_out_a_role_of_more_than_they_have if {
	gives := _custom(["apikeys.edit", "devices.view"])
	every call in _hand_outs {
		admin.decision.allow with input as _call(gives, call[0], call[1], {"roles": "fleet", "permissions": "devices.view"})
		every target in [
			{"roles": "fleet", "permissions": "devices.edit"},
			{"roles": "PD_VISUALIZATION_APP"},
			{"roles": "PD_STANDARD_APP", "permissions": "devices.view"},
		] {
			not admin.decision.allow with input as _call(gives, call[0], call[1], target)
		}
	}
}

# The reason is the first in the alphabet.
test_a_rule_that_denies_wins if {
	admin.decision == {"allow": false, "reason": "closed"} with input as _call(_administrator, "GET", "/", {})
		with data.cordon.admin.deny as {"shut", "closed"}
}
