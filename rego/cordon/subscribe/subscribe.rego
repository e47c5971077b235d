# METADATA
# title: Who may subscribe to what
# description: >-
#   A filter stands for every topic it matches, so a level may be "+" only where
#   every value is allowed; "#" is never allowed. The levels are relative to the
#   organisation. Shared subscriptions follow the same rules. Where devices have a
#   "+", who is restricted is given what it reaches: see cordon.receive.
package cordon.subscribe

import data.cordon.reach
import data.cordon.roles

# METADATA
# title: Whether one filter may be subscribed to
# description: Rules called deny, in files beside this one, take away and give nothing.
decision := object.union({"allow": false, "reason": reason}, _manner(180)) if {
	reason := min(data.cordon.subscribe.deny)
}

else := {"allow": true, "qos": 2} if _allowed

else := object.union_n([{"allow": false, "reason": _reason}, _manner(_code), _unknown])

# A gateway reads why, in a message of the broker's. Over HTTP the answer says it.
_manner(_) := {} if not _is_told

_manner(code) := {"notify": reach.notice(code)} if _is_told

_is_told if {
	input.principal.kind == "gateway"
	not input.client.listener == "https"
}

default _code := 276

_code := 180 if _out_of_reach

# What a gateway may register, it may listen for once that is done.
default _unknown := {}

_unknown := {"register": true} if {
	_out_of_reach
	_messages == "cmd"
	not input.device.registered
	roles.registers
}

# All is well but the device that a gateway listens for.
_out_of_reach if {
	input.principal.kind == "gateway"
	_for_gateways
	input.on_behalf_of
	not reach.serves
}

# A device subscribes to its own commands.
_allowed if {
	input.principal.kind == "device"
	_own_commands
}

# A gateway subscribes to what its roles say, and to who comes and goes, of itself
# and of devices that it reaches.
_allowed if {
	input.principal.kind == "gateway"
	_for_gateways
	_listens
}

# What it was refused, it alone reads.
_allowed if {
	input.principal.kind == "gateway"
	["iot-2", "type", input.principal.type, "id", input.principal.id, "notify"] = input.levels
}

# An application subscribes to what its roles say, of one device or of many.
_allowed if {
	input.principal.kind == "application"
	_messages in roles.subscribes
	_hears
}

_for_gateways if _messages in roles.subscribes

_for_gateways if {
	_messages == "evt"
	_of_device
	input.levels[5] == "mon"
}

_listens if reach.itself

_listens if reach.serves

# Of several devices, cordon.receive leaves out what is out of reach.
_listens if {
	_of_device
	reach.several
}

_hears if not input.principal.restricted

_hears if {
	_of_device
	reach.several
}

_hears if {
	_of_device
	reach.within
}

_of_device if input.levels[1] == "type"

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

_reason := "a gateway subscribes to iot-2/type/{type}/id/{id}/cmd/{command}/fmt/{format}, …/cmd/{command}, …/mon, or its own …/notify; a name may be +" if {
	input.principal.kind == "gateway"
	not _out_of_reach
}

# Whether there is a device that it does not reach, it does not learn.
_reason := "this gateway reaches no such device" if _out_of_reach

_reason := "no role of this application subscribes to events" if {
	input.principal.kind == "application"
	_messages == "evt"
	not "evt" in roles.subscribes
}

_reason := "no role of this application subscribes to commands" if {
	input.principal.kind == "application"
	_messages == "cmd"
	not "cmd" in roles.subscribes
}

_reason := "this application reaches no such device" if {
	input.principal.kind == "application"
	_messages in roles.subscribes
}

_reason := "an application subscribes to iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}, …/cmd/{command}/fmt/{format}, …/cmd/{command}, …/mon or iot-2/app/{app}/mon; a name may be +" if {
	input.principal.kind == "application"
	not _messages
}
