package cordon.subscribe_test

import data.cordon.subscribe

_to(filter) := {
	"principal": {"org": "demo01", "kind": "user", "id": "anonymous"},
	"filter": filter, "levels": split(filter, "/"), "qos": 2,
}

test_everything_is_allowed if {
	every filter in ["#", "+", "+/+", "/#", "a/b", "$TopicA/#", "test/+", "test/nosubscribe/more", "nosubscribe"] {
		subscribe.decision == {"allow": true, "qos": 2} with input as _to(filter)
	}
}

test_shared_subscriptions_are_too if {
	subscribe.decision.allow with input as object.union(_to("#"), {"share": "workers"})
}

test_one_filter_is_refused if {
	every request in [_to("test/nosubscribe"), object.union(_to("test/nosubscribe"), {"share": "workers"})] {
		subscribe.decision == {
			"allow": false, "reason": "test/nosubscribe is here to be refused",
		} with input as request
	}
}
