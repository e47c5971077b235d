# METADATA
# title: What roles may do
# description: >-
#   The tables are in data.json beside this file: edit them, not the rules.
#   Several roles add up. A role that no table knows adds nothing.
package cordon.roles

# METADATA
# title: Kinds of message the principal may publish
# description: '"evt" and "cmd", for any device of its organisation.'
publishes contains kind if {
	some role in input.principal.roles
	some kind in data.cordon.roles.messages[role].publish
}

# METADATA
# title: Kinds of message the principal may subscribe to
# description: '"evt" and "cmd", of any device of its organisation.'
subscribes contains kind if {
	some role in input.principal.roles
	some kind in data.cordon.roles.messages[role].subscribe
}

# METADATA
# title: Permissions for REST and console calls
# description: '"everything" stands for all there are, later ones included.'
permissions contains permission if {
	some role in input.principal.roles
	some permission in data.cordon.roles.calls[role]
}
