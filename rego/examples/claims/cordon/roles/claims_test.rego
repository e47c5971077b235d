package cordon.roles_claims_test

import data.cordon.publish
import data.cordon.roles
import data.cordon.subscribe

_of(verifier, claims) := {
	"org": "acme01", "kind": "application", "app": "app1",
	"verifier": verifier, "roles": [], "groups": [], "claims": claims,
}

_about(principal, levels) := {"principal": principal, "levels": split(levels, "/")}

_event := "iot-2/type/sensor/id/d1/evt/status/fmt/json"

_command := "iot-2/type/sensor/id/d1/cmd/open/fmt/json"

test_a_token_gives_the_roles_that_it_claims if {
	operator := _of("jwt", {"roles": ["PD_OPERATOR_APP"]})
	publish.decision.allow with input as _about(operator, _command)
	not publish.decision.allow with input as _about(operator, _event)
	subscribe.decision.allow with input as _about(operator, "iot-2/type/+/id/+/evt/+/fmt/+")
}

test_some_roles_cannot_be_claimed if {
	every claims in [{"roles": ["PD_ADMIN_APP"]}, {"roles": "PD_STANDARD_APP"}, {"roles": []}, {}] {
		not publish.decision.allow with input as _about(_of("jwt", claims), _command)
	}
}

test_nobody_else_claims_roles if {
	claims := {"roles": ["PD_STANDARD_APP"]}
	not publish.decision.allow with input as _about(_of("other", claims), _command)
	not publish.decision.allow with input as _about(_of("token", claims), _command)
	device := object.union(_of("jwt", claims), {"kind": "device", "type": "sensor", "id": "d2"})
	not publish.decision.allow with input as _about(device, _command)
}

test_no_token_administers if {
	count(roles.permissions) == 0 with input as {"principal": _of("jwt", {"roles": ["PD_STANDARD_APP"]})}
}
