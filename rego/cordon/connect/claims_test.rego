package cordon.connect_test

import data.cordon.connect

_claimant := {
	"principal": {
		"org": "acme01", "kind": "device", "type": "sensor", "id": "line1-a", "verifier": "claim", "registered": false,
		"claims": {"claim": "k3f9a0b2c1", "typeId": "sensor", "deviceIdPrefix": "line1-"},
	},
	"client": {"id": "d:acme01:sensor:line1-a", "username": "use-claim-token", "listener": "mqtts"},
	"org": {"id": "acme01"},
}

_known_claimant := object.union(_claimant, {"principal": {"registered": true}})

test_a_claim_is_checked_by_its_verifier_alone if {
	connect.verifiers == [{"verifier": "claim"}] with input as {"client": {"username": "use-claim-token"}}
	connect.verifiers == [{"verifier": "claim", "and": "certificate"}] with input as {
		"client": {"username": "use-claim-token", "tls": {"version": "1.3", "cert": {"subject": "CN=d:sensor:line1-a", "san": [], "sha256": ""}}},
		"org": {"connection_level": "tls_token_and_certificate"},
	}
}

test_who_shows_a_claim_is_to_be_registered if {
	answer := connect.decision with input as _claimant
	answer == {"allow": false, "register": true, "reason": "this device is not registered"}
}

test_a_claim_gives_a_device_the_topic_of_its_token_and_no_other if {
	answer := connect.decision with input as _known_claimant
	answer.allow
	answer.mounts == [{"client": "iotdm-1/provisioning/", "org": "iotdm-1/type/sensor/id/line1-a/provisioning/", "device": {"type": 2, "id": 4}}]
	answer.limits.session_expiry_max == 0
}

test_a_claim_is_for_its_type_and_names_and_for_devices if {
	every change in [
		{"type": "motor"}, {"id": "line2-a"}, {"kind": "gateway"},
		{"claims": {"typeId": "motor"}}, {"claims": {"deviceIdPrefix": "x"}},
	] {
		every request in [_claimant, _known_claimant] {
			answer := connect.decision with input as object.union(request, {"principal": change})
			answer == {"allow": false, "reason": "the claim is not for this device"}
		}
	}
	bare := object.union(object.remove(_claimant, ["principal"]), {"principal": object.remove(_claimant.principal, ["claims"])})
	not connect.decision.register with input as bare
	other := connect.decision with input as object.union(_claimant, {"client": {"id": "d:acme01:sensor:line1-b"}})
	other == {"allow": false, "reason": "the claim is not for this device"}
}

test_a_claim_without_a_prefix_is_for_every_name if {
	request := object.union(
		object.remove(_claimant, ["principal"]),
		{"principal": object.union(object.remove(_claimant.principal, ["claims"]), {"claims": {"typeId": "sensor"}})},
	)
	connect.decision.register with input as request
}

test_what_the_organisation_demands_comes_first if {
	every case in [
		[{"client": {"listener": "mqtt"}}, "this organisation requires TLS"],
		[{"org": {"connection_level": "tls_certificate"}}, "this organisation requires a client certificate"],
		[{"org": {"address_list": "deny", "address_listed": true}}, "connections from this address are not allowed"],
	] {
		every request in [_claimant, _known_claimant] {
			answer := connect.decision with input as object.union(request, case[0])
			answer.allow == false
			not answer.register
			answer.reason == case[1]
		}
	}
}

test_a_rule_called_deny_takes_claims_away if {
	answer := connect.decision with input as _claimant with data.cordon.connect.deny as {"no claims here"}
	answer == {"allow": false, "reason": "no claims here"}
}
