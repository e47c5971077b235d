# METADATA
# title: What roles may do
# description: >-
#   The tables are in data.json beside this file: edit them, not the rules.
#   Several roles add up. A role that no table knows adds nothing, unless the
#   organisation made it: then its permissions are in the principal.
package cordon.roles

# METADATA
# title: Kinds of message the principal may publish
# description: '"evt" and "cmd", for any device of its organisation.'
publishes contains kind if {
	some role in input.principal.roles
	some kind in data.cordon.roles.messages[role].publish
}

# What a role of the organisation's own permits is in the principal.
publishes contains kind if {
	some kind, word in data.cordon.roles.words.publish
	word in input.principal.permissions
}

# METADATA
# title: Kinds of message the principal may subscribe to
# description: '"evt" and "cmd", of any device of its organisation.'
subscribes contains kind if {
	some role in input.principal.roles
	some kind in data.cordon.roles.messages[role].subscribe
}

subscribes contains kind if {
	some kind, word in data.cordon.roles.words.subscribe
	word in input.principal.permissions
}

# A gateway without roles is older than roles of gateways: it is a standard one.
publishes contains kind if {
	_roleless
	some kind in data.cordon.roles.messages.PD_STANDARD_GW_DEVICE.publish
}

subscribes contains kind if {
	_roleless
	some kind in data.cordon.roles.messages.PD_STANDARD_GW_DEVICE.subscribe
}

_roleless if {
	input.principal.kind == "gateway"
	count(input.principal.roles) == 0
}

# METADATA
# title: The principal registers devices by speaking or listening for them
registers if "devices.edit" in permissions

registers if "everything" in permissions

# METADATA
# title: Permissions for REST and console calls
# description: '"everything" stands for all there are, later ones included.'
permissions contains permission if {
	some role in input.principal.roles
	some permission in data.cordon.roles.calls[role]
}

permissions contains permission if some permission in input.principal.permissions
