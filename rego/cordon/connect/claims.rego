package cordon.connect

# Devices that register themselves: whoever shows a claim is registered under the
# claim's type, once the organisation demands nothing else of the connection. Until the
# device connects with the token that it is handed, all that it may do is to hear that
# token: a claim is a secret of many devices, and what it opens should not speak for
# one of them.

_secret := {"verifier": "claim"} if _shows_claim

_shows_claim if input.client.username == "use-claim-token"

_by_claim := {
	"allow": true,
	# As a device writes it: iotdm-1/provisioning/credentials.
	"mounts": [{
		"client": "iotdm-1/provisioning/",
		"org": concat("", ["iotdm-1/type/", input.principal.type, "/id/", input.principal.id, "/provisioning/"]),
		"device": {"type": 2, "id": 4},
	}],
	"limits": {"session_expiry_max": 0, "subscriptions_max": 8},
} if {
	input.principal.registered
	_claimed
} else := {
	"allow": false, "register": true,
	"reason": "this device is not registered",
} if {
	not input.principal.registered
	_claimed
} else := {"allow": false, "reason": "the claim is not for this device"}

_claimed if {
	input.principal.kind == "device"
	input.principal.type == input.principal.claims.typeId
	startswith(input.principal.id, object.get(input.principal.claims, "deviceIdPrefix", ""))
	input.client.id == concat(":", ["d", input.principal.org, input.principal.type, input.principal.id])
}
