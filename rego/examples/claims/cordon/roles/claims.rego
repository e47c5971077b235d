# What the roles in a token may do.
#
# An application that a plugin lets in has no API key, and so no roles. This
# gives it those that its token claims, of the two that may be claimed. It is
# for MQTT alone: a REST call needs a key.
package cordon.roles

# METADATA
# title: Kinds of message the principal may publish
publishes contains kind if {
	some role in _claimed
	some kind in data.cordon.roles.messages[role].publish
}

# METADATA
# title: Kinds of message the principal may subscribe to
subscribes contains kind if {
	some role in _claimed
	some kind in data.cordon.roles.messages[role].subscribe
}

# The plugin is named: what another one puts into claims is not taken for it.
_claimed contains role if {
	input.principal.kind == "application"
	input.principal.verifier == "jwt"
	some role in input.principal.claims.roles
	role in {"PD_STANDARD_APP", "PD_OPERATOR_APP"}
}
