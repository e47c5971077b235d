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

test_the_table_has_the_calls_there_are if {
	count(_calls) == 20
	count(_device_calls) == 11
	count(_key_edits) == 4
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

test_key_reads_its_own_properties if {
	route := "/authorization/apikeys/{key}"
	admin.decision.allow with input as _call(_key([]), "GET", route, {"key": "a-acme01-0123456789"})
	not admin.decision.allow with input as _call(_key([]), "GET", route, {"key": "a-acme01-9876543210"})
	not admin.decision.allow with input as _call(_key([]), "DELETE", route, {"key": "a-acme01-0123456789"})
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

# Whoever gets a key's token has its roles.
test_nobody_gets_a_key_with_more_than_they_have if {
	every call in [["POST", "/authorization/apikeys"], ["POST", "/authorization/apikeys/{key}/token"]] {
		admin.decision == {
			"allow": false,
			"reason": "only a caller with all permissions may get a key that has them",
		} with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": "PD_STANDARD_APP,PD_ADMIN_APP"})
		admin.decision.allow with input as _call(_key(["PD_OPERATOR_APP"]), call[0], call[1], {"roles": "PD_STANDARD_APP"})
		admin.decision.allow with input as _call(_key(["PD_ADMIN_APP"]), call[0], call[1], {"roles": "PD_ADMIN_APP"})
	}
}

# The reason is the first in the alphabet.
test_a_rule_that_denies_wins if {
	admin.decision == {"allow": false, "reason": "closed"} with input as _call(_administrator, "GET", "/", {})
		with data.cordon.admin.deny as {"shut", "closed"}
}
