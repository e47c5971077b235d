# METADATA
# title: Who may subscribe to what
# description: >-
#   A filter stands for every topic it matches, so a level may be "+" only where
#   every value is allowed; "#" is never allowed. The levels are relative to the
#   organisation. Shared subscriptions follow the same rules.
package cordon.subscribe

import data.cordon.roles

# METADATA
# title: Whether one filter may be subscribed to
# description: Rules called deny, in files beside this one, take away and give nothing.
decision := {"allow": false, "reason": reason} if {
	reason := min(data.cordon.subscribe.deny)
}

else := {"allow": true, "qos": 2} if _allowed

else := {"allow": false, "reason": _reason}

# A device and a gateway subscribe to their own commands.
_allowed if {
	input.principal.kind == "device"
	_own_commands
}

_allowed if {
	input.principal.kind == "gateway"
	_own_commands
}

# An application subscribes to what its roles say, of one device or of many.
_allowed if {
	input.principal.kind == "application"
	_messages in roles.subscribes
}

_own_commands if {
	some command, format
	["iot-2", "type", input.principal.type, "id", input.principal.id, "cmd", command, "fmt", format] = input.levels
	_filled
}

_own_commands if {
	some command
	["iot-2", "type", input.principal.type, "id", input.principal.id, "cmd", command] = input.levels
	_filled
}

# The kind of messages that the filter matches; undefined for any other filter.
_messages := "evt" if {
	some type, id, event, format
	["iot-2", "type", type, "id", id, "evt", event, "fmt", format] = input.levels
	_filled
} else := "cmd" if {
	some type, id, command, format
	["iot-2", "type", type, "id", id, "cmd", command, "fmt", format] = input.levels
	_filled
} else := "cmd" if {
	some type, id, command
	["iot-2", "type", type, "id", id, "cmd", command] = input.levels
	_filled
} else := "evt" if {
	_monitoring
	_filled
}

# Whoever may hear the events of devices may hear which clients come and go.
_monitoring if {
	some type, id
	["iot-2", "type", type, "id", id, "mon"] = input.levels
}

_monitoring if {
	some app
	["iot-2", "app", app, "mon"] = input.levels
}

# Every level is a name or "+".
_filled if {
	not "" in input.levels
	not "#" in input.levels
}

default _reason := "this principal does not subscribe"

_reason := "a device subscribes to iot-2/cmd/{command}/fmt/{format} or iot-2/cmd/{command}; either may be +" if {
	input.principal.kind == "device"
}

_reason := "a gateway subscribes to iot-2/type/{its type}/id/{its id}/cmd/{command}/fmt/{format} or …/cmd/{command}" if {
	input.principal.kind == "gateway"
}

_reason := "no role of this application subscribes to events" if {
	input.principal.kind == "application"
	_messages == "evt"
}

_reason := "no role of this application subscribes to commands" if {
	input.principal.kind == "application"
	_messages == "cmd"
}

_reason := "an application subscribes to iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}, …/cmd/{command}/fmt/{format}, …/cmd/{command}, …/mon or iot-2/app/{app}/mon; a name may be +" if {
	input.principal.kind == "application"
	not _messages
}
