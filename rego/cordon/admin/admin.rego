# METADATA
# title: Who may make which REST and console calls
# description: >-
#   data.json beside this file says which permission a call needs; the one in
#   cordon/roles says which permissions a role has. The organisation is always
#   the caller's own.
package cordon.admin

import data.cordon.roles

# METADATA
# title: Whether one call may be made
# description: Rules called deny, in files beside this one, take away and give nothing.
decision := {"allow": false, "reason": reason} if {
	reason := min(data.cordon.admin.deny)
}

else := {"allow": true} if _allowed

else := {"allow": false, "reason": _reason}

_allowed if {
	_administers
	_granted(_needed)
	not _exceeds
}

else if {
	_administers
	"everything" in roles.permissions
}

# A key may read its own properties.
else if {
	_administers
	input.method == "GET"
	input.route in {"/authorization/apikeys/{key}", "/authorization/apikeys/{key}/roles"}
	input.target.key == input.principal.api_key
}

# Whoever gets the token of a key has what its roles permit. So nobody makes or
# changes a key or a role, or gets the token of one, that permits more than they may.
_exceeds if {
	some permission in _given
	not permission in _held
}

_given contains permission if {
	some role in split(input.target.roles, ",")
	some permission in data.cordon.roles.calls[role]
}

_given contains permission if {
	some role in split(input.target.roles, ",")
	some act, kinds in data.cordon.roles.messages[role]
	some kind in kinds
	permission := data.cordon.roles.words[act][kind]
}

_given contains permission if {
	some permission in split(input.target.permissions, ",")
	permission != ""
}

_held contains permission if some permission in roles.permissions

_held contains data.cordon.roles.words.publish[kind] if some kind in roles.publishes

_held contains data.cordon.roles.words.subscribe[kind] if some kind in roles.subscribes

# Whoever replaces the tokens of devices can speak and listen as any of them.
_held contains permission if {
	"access.edit" in roles.permissions
	some permission in ["events.publish", "commands.subscribe"]
}

# Most calls need what a row of the table says. All that the caller may do is put
# together for the others alone.
_granted(permission) if {
	some role in input.principal.roles
	permission in data.cordon.roles.calls[role]
}

else if permission in roles.permissions

_administers if input.principal.kind == "application"

_administers if input.principal.kind == "user"

# Undefined for a call that the table does not know.
_needed := data.cordon.admin.permissions[input.route][input.method]

default _reason := "only applications and users administer"

_reason := sprintf("no role of this caller has the permission %s", [_needed]) if {
	_administers
	not _needed in roles.permissions
}

_reason := sprintf("this caller cannot give %s", [concat(", ", _given - _held)]) if {
	_administers
	_needed in roles.permissions
	_exceeds
}

_reason := "no role of this caller permits this call" if {
	_administers
	not _needed
}
