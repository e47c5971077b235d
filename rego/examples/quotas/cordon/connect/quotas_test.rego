package cordon.connect_quotas_test

import data.cordon.connect

_request(principal, client_id) := {
	"principal": object.union({"org": "acme01", "roles": [], "groups": [], "registered": true}, principal),
	"org": {"id": "acme01", "connection_level": "tls"},
	"client": {"id": client_id, "listener": "mqtts"},
}

_limits(principal, client_id) := answer.limits if {
	answer := connect.decision with input as _request(principal, client_id)
	answer.allow
}

test_device_quota if {
	limits := _limits({"kind": "device", "type": "sensor", "id": "d1"}, "d:acme01:sensor:d1")
	limits.publish_rate == 10
	limits.bytes_rate == 40 * 1024
	limits.inflight_max == 10
	limits.subscriptions_max == 50
	limits.queue_messages == 50
	limits.session_expiry_max == ((2 * 24) * 60) * 60
}

test_gateway_quota if {
	limits := _limits({"kind": "gateway", "type": "router", "id": "g1"}, "g:acme01:router:g1")
	limits.publish_rate == 100
	limits.inflight_max == 1000
}

test_application_quota if {
	limits := _limits({"kind": "application", "app": "app1"}, "a:acme01:app1")
	limits.publish_rate == 20
	limits.inflight_max == 2000
	limits.subscriptions_max == 500
}
