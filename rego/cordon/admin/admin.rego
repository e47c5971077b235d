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

else := {"allow": true} if {
	_allowed
	not input.principal.restricted
}

# Whoever is held to resource groups makes the calls that a list in data.json has, about
# what is in those groups. What is not might as well not exist.
else := {"allow": true, "groups": input.principal.groups} if {
	_allowed
	_within_groups
	not _beyond_reach
}

else := {"allow": false, "reason": "it is in no group of this caller, or not there", "on_deny": "hide"} if {
	_allowed
	_within_groups
}

else := {"allow": false, "reason": "this caller reaches no group that a new device could go into"} if {
	_allowed
	_homeless
}

else := {"allow": false, "reason": "this call is not for callers who are held to groups"} if _allowed

else := {"allow": false, "reason": _reason}

_within_groups if {
	input.method in data.cordon.admin.within_groups[input.route]
	not _homeless
}

# The key that asks is its own.
_within_groups if _asks_about_itself

# A device that nobody put into a group would be out of the caller's reach.
_homeless if {
	[input.method, input.route] in {["POST", "/device/types/{typeId}/devices"], ["POST", "/bulk/devices/add"]}
	count(input.principal.groups) == 0
}

_beyond_reach if {
	some name in ["deviceId", "clientId"]
	input.target[name]
	not _reaches_device
}

_beyond_reach if {
	input.target.groupId
	not input.target.groupId in input.principal.groups
}

_reaches_device if {
	some group in input.device.groups
	group in input.principal.groups
}

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
else if _asks_about_itself

# A user may read their own properties, and replace their own password. One whom a
# plugin knows is somebody else, whatever the name.
else if {
	input.principal.kind == "user"
	input.principal.verifier == "token"
	[input.method, input.route] in {
		["GET", "/authorization/users/{uid}"],
		["GET", "/authorization/users/{uid}/roles"],
		["POST", "/authorization/users/{uid}/password"],
	}
	input.target.uid == input.principal.id
}

_asks_about_itself if {
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

_administers if input.principal.kind == "gateway"

# Undefined for a call that the table does not know.
_needed := data.cordon.admin.permissions[input.route][input.method]

default _reason := "only applications, gateways and users administer"

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
