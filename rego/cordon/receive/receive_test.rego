package cordon.receive_test

import data.cordon.receive

_gateway := {"org": "acme01", "kind": "gateway", "type": "router", "id": "g1", "roles": [], "restricted": true, "groups": ["hall"]}

_application := {"org": "acme01", "kind": "application", "app": "app1", "roles": ["PD_STANDARD_APP"], "restricted": true, "groups": ["hall"]}

_free(principal) := object.union(principal, {"restricted": false, "groups": []})

_near := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": ["attic", "hall"]}

_far := object.union(_near, {"groups": ["attic"]})

test_restricted_ones_are_given_what_they_reach if {
	every principal in [_gateway, _application] {
		receive.applies with input as {"principal": principal}
		receive.decision == {"allow": true} with input as {"principal": principal, "device": _near}
		every asked in [{"device": _far}, {"device": object.union(_near, {"registered": false, "groups": []})}, {}] {
			receive.decision == {"allow": false, "reason": "this principal does not reach the device"}
				with input as object.union(asked, {"principal": principal})
		}
	}
}

test_gateway_is_given_what_is_its_own if {
	receive.decision.allow with input as {
		"principal": object.union(_gateway, {"groups": []}),
		"device": {"type": "router", "id": "g1", "registered": true, "groups": []},
	}
}

# Who is not asked about would be allowed whatever it is.
test_nobody_else_is_asked_about if {
	every principal in [_free(_gateway), _free(_application), {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1"}] {
		not receive.applies with input as {"principal": principal}
		receive.decision == {"allow": true} with input as {"principal": principal, "device": _far}
		receive.decision == {"allow": true} with input as {"principal": principal}
	}
}

test_a_rule_that_denies_wins if {
	receive.decision == {"allow": false, "reason": "closed"} with input as {"principal": _gateway, "device": _near}
		with data.cordon.receive.deny as {"shut", "closed"}
}
