package cordon.connect_test

import data.cordon.connect

test_a_claim_is_not_looked_at if {
	connect.verifiers == [{"verifier": "anonymous", "org": "demo01"}] with input as {"client": {"username": "use-claim-token"}}
}
