# METADATA
# title: Everybody may connect, into one organisation
# description: For test beds and conformance suites. No credential is looked at.
package cordon.connect

# METADATA
# title: Which verifiers are asked, in this order
verifiers := [{"verifier": "anonymous", "org": "demo01"}]

# METADATA
# title: Whether a verified principal may connect
# description: >-
#   Any client ID, or none; every topic is the organisation's own. The limits are
#   in data.json beside this file.
decision := {"allow": false, "reason": _refusal} if _refusal

else := {
	"allow": true,
	"mounts": [{"client": "", "org": ""}],
	"limits": data.cordon.connect.limits,
}

_refusal := "this organisation requires TLS" if {
	not _over_tls
	not input.org.connection_level == "tls_optional"
}

_over_tls if input.client.listener in {"mqtts", "wss", "https"}
