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
	count(_calls) == 127
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

test_user_reads_their_own_properties_and_replaces_their_own_password if {
	reader := {"org": "acme01", "kind": "user", "id": "ann", "verifier": "token", "roles": ["Reader"]}
	own := [
		["GET", "/authorization/users/{uid}"],
		["GET", "/authorization/users/{uid}/roles"],
		["POST", "/authorization/users/{uid}/password"],
	]
	every call in own {
		target := {"uid": "ann", "roles": "Reader"}
		admin.decision.allow with input as _call(reader, call[0], call[1], target)
		not admin.decision.allow with input as _call(reader, call[0], call[1], {"uid": "admin", "roles": "Administrator"})
		not admin.decision.allow with input as _call(object.union(reader, {"verifier": "oidc"}), call[0], call[1], target)
		not admin.decision.allow with input as _call(object.union(reader, {"kind": "application"}), call[0], call[1], target)
	}
	every call in [["PUT", "/authorization/users/{uid}"], ["DELETE", "/authorization/users/{uid}"], ["PUT", "/authorization/users/{uid}/roles"]] {
		not admin.decision.allow with input as _call(reader, call[0], call[1], {"uid": "ann", "roles": "Reader"})
	}
}

test_nobody_touches_a_user_who_may_do_more if {
	every call in [
		["POST", "/authorization/users"],
		["PUT", "/authorization/users/{uid}"],
		["PUT", "/authorization/users/{uid}/roles"],
		["DELETE", "/authorization/users/{uid}"],
		["POST", "/authorization/users/{uid}/password"],
	] {
		admin.decision.allow with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": "Reader"})
		admin.decision == {
			"allow": false,
			"reason": "this caller cannot give everything",
		} with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": "Reader,Administrator"})
		admin.decision.allow with input as _call(_administrator, call[0], call[1], {"roles": "Reader,Administrator"})
		not admin.decision.allow with input as _call(_key(["PD_STANDARD_APP"]), call[0], call[1], {"roles": "Reader"})
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
	admin.decision == {
		"allow": false,
		"reason": "only applications, gateways and users administer",
	} with input as _call({"org": "acme01", "kind": "device", "roles": ["PD_ADMIN_APP"]}, "GET", "/", {})
}

test_gateway_administers_as_its_role_says if {
	gateway := {"org": "acme01", "kind": "gateway", "type": "hub", "id": "g1", "roles": ["PD_PRIVILEGED_GW_DEVICE"], "restricted": false}
	admin.decision == {"allow": true} with input as _call(gateway, "POST", "/device/types/{typeId}/devices", {"typeId": "sensor"})
	not admin.decision.allow with input as _call(gateway, "GET", "/authorization/apikeys", {})
	not admin.decision.allow with input as _call(object.union(gateway, {"roles": []}), "GET", "/device/types", {})
}

_held(kind, roles, groups) := {
	"org": "acme01", "kind": kind, "roles": roles, "restricted": true, "groups": groups,
	"api_key": "a-acme01-0123456789",
}

_one := "/device/types/{typeId}/devices/{deviceId}"

_of_device(principal, method, route, groups) := {
	"principal": principal, "method": method, "route": route, "target": {"typeId": "sensor", "deviceId": "d1"},
	"device": {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": groups},
}

_hidden := {"allow": false, "reason": "it is in no group of this caller, or not there", "on_deny": "hide"}

test_whoever_is_held_to_groups_reaches_their_devices if {
	every caller in [_held("application", ["PD_STANDARD_APP"], ["north", "south"]), _held("gateway", ["PD_PRIVILEGED_GW_DEVICE"], ["north", "south"])] {
		admin.decision == {"allow": true, "groups": ["north", "south"]} with input as _of_device(caller, "PUT", _one, ["south", "x"])
		admin.decision == _hidden with input as _of_device(caller, "PUT", _one, ["x"])
		admin.decision == _hidden with input as _of_device(caller, "PUT", _one, [])
		admin.decision == _hidden with input as _call(caller, "PUT", _one, {"typeId": "a b", "deviceId": "d1"})
		admin.decision == _hidden with input as _call(caller, "GET", "/authorization/devices/{clientId}", {"clientId": "a:acme01:app"})
	}
}

test_a_missing_permission_comes_first if {
	reader := _held("application", ["PD_VISUALIZATION_APP"], ["north"])
	every groups in [["north"], ["x"], []] {
		admin.decision == {
			"allow": false,
			"reason": "no role of this caller has the permission devices.edit",
		} with input as _of_device(reader, "PUT", _one, groups)
	}
}

test_whoever_is_held_to_groups_sees_those if {
	caller := _held("application", ["PD_STANDARD_APP"], ["north"])
	every route in ["/groups/{groupId}", "/bulk/devices/{groupId}", "/bulk/devices/{groupId}/ids"] {
		admin.decision.allow with input as _call(caller, "GET", route, {"groupId": "north"})
		admin.decision == _hidden with input as _call(caller, "GET", route, {"groupId": "south"})
	}
}

# What is not in the list is not theirs, whatever their role.
test_calls_about_the_organisation_are_not_for_whoever_is_held_to_groups if {
	every caller in [_held("application", ["PD_ADMIN_APP"], ["north"]), _held("application", ["PD_OPERATOR_APP"], ["north"])] {
		every call in [
			["PUT", "/groups/{groupId}"],
			["PUT", "/bulk/devices/{groupId}/add"],
			["PUT", "/authorization/devices/{clientId}/roles"],
			["PUT", "/accesscontrol"],
			["POST", "/authorization/apikeys"],
			["PUT", "/authorization/apikeys/{key}/roles"],
			["DELETE", "/device/types/{typeId}"],
			["GET", "/usage/data-traffic"],
		] {
			admin.decision == {
				"allow": false,
				"reason": "this call is not for callers who are held to groups",
			} with input as _call(caller, call[0], call[1], {"groupId": "north"})
		}
	}
}

test_every_call_of_the_list_is_in_the_table if {
	every route, methods in data.cordon.admin.within_groups {
		every method in methods {
			data.cordon.admin.permissions[route][method]
		}
	}
}

test_new_devices_need_a_group_to_go_into if {
	every call in [["POST", "/device/types/{typeId}/devices"], ["POST", "/bulk/devices/add"]] {
		admin.decision == {
			"allow": false,
			"reason": "this caller reaches no group that a new device could go into",
		} with input as _call(_held("application", ["PD_STANDARD_APP"], []), call[0], call[1], {"typeId": "sensor"})
		admin.decision.allow with input as _call(_held("application", ["PD_STANDARD_APP"], ["north"]), call[0], call[1], {"typeId": "sensor"})
	}
}

test_a_restricted_key_reads_its_own_properties if {
	caller := _held("application", [], [])
	admin.decision == {"allow": true, "groups": []} with input as _call(caller, "GET", "/authorization/apikeys/{key}/roles", {"key": "a-acme01-0123456789"})
	not admin.decision.allow with input as _call(caller, "GET", "/authorization/apikeys/{key}/roles", {"key": "a-acme01-9876543210"})
}

# Gateways get roles as keys do.
test_nobody_gives_a_gateway_more_than_they_have if {
	gives := object.union(_key(["custom"]), {"permissions": ["groups.edit", "devices.view", "types.view", "access.view", "mgmt.view", "events.publish", "commands.subscribe"]})
	every route in ["/authorization/devices/{clientId}/roles", "/authorization/devices/{clientId}/withroles"] {
		admin.decision.allow with input as _call(gives, "PUT", route, {"roles": "PD_STANDARD_GW_DEVICE"})
		not admin.decision.allow with input as _call(gives, "PUT", route, {"roles": "PD_PRIVILEGED_GW_DEVICE"})
		admin.decision.allow with input as _call({"kind": "user", "roles": ["Operator"]}, "PUT", route, {"roles": "PD_PRIVILEGED_GW_DEVICE"})
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
