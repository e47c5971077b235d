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
	"everything" in roles.permissions
}

_allowed if {
	_administers
	_needed in roles.permissions
	not _exceeds
}

# A key may read its own properties.
_allowed if {
	_administers
	input.method == "GET"
	input.route == "/authorization/apikeys/{key}"
	input.target.key == input.principal.api_key
}

# Whoever gets the token of a key has the key's roles. So nobody but those who
# have everything makes such a key, or replaces the token of one.
_exceeds if {
	some role in split(input.target.roles, ",")
	"everything" in data.cordon.roles.calls[role]
}

_administers if input.principal.kind == "application"

_administers if input.principal.kind == "user"

# Undefined for a call that the table does not know.
_needed := data.cordon.admin.permissions[input.route][input.method]

default _reason := "only applications and users administer"

_reason := sprintf("no role of this caller has the permission %s", [_needed]) if {
	_administers
	not _needed in roles.permissions
}

_reason := "only a caller with all permissions may get a key that has them" if {
	_administers
	_needed in roles.permissions
	_exceeds
}

_reason := "no role of this caller permits this call" if {
	_administers
	not _needed
}
