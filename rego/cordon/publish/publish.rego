# METADATA
# title: Who may publish what
# description: >-
#   The levels are relative to the organisation. A message that is allowed loses
#   its retain flag. What may be published of a device depends on its type, its
#   id and the kind of message, so one answer covers all names and formats.
package cordon.publish

import data.cordon.reach
import data.cordon.roles

# METADATA
# title: Whether one topic may be published to
# description: >-
#   Rules called deny, in files beside this one, take away and give nothing. They
#   may tell one name from another, so where there are any, covers is left out.
decision := object.union({"allow": false, "reason": reason}, _manner(180)) if {
	reason := min(data.cordon.publish.deny)
}

else := {"allow": true, "retain": "strip", "covers": [filter]} if {
	filter := _allowed
	not data.cordon.publish.deny
}

else := {"allow": true, "retain": "strip"} if _allowed

else := object.union_n([{"allow": false, "reason": _reason}, _manner(_code), _unknown])

# A gateway has more to say than the one message: that is dropped, and a message of
# the broker's says why. A will is refused with its connect, and over HTTP the
# answer says it.
_manner(_) := {} if not _goes_on

_manner(code) := {"on_deny": "drop", "notify": reach.notice(code)} if _goes_on

_goes_on if {
	input.principal.kind == "gateway"
	not input.will
	not input.client.listener == "https"
}

default _code := 276

_code := 180 if _out_of_reach

# What a gateway may register, it may speak for once that is done.
default _unknown := {}

_unknown := {"register": true} if {
	_out_of_reach
	not input.will
	not input.device.registered
	roles.registers
}

# All is well but the device that a gateway speaks for.
_out_of_reach if {
	input.principal.kind == "gateway"
	_message in roles.publishes
	input.on_behalf_of
	not reach.serves
}

# A topic that may be published to is one of the same device and the same kind of
# message: this is their filter. A "+" of covers stands for no empty level.

# A device publishes its own events.
_allowed := concat("/", ["iot-2/type", input.principal.type, "id", input.principal.id, "evt/+/fmt/+"]) if {
	input.principal.kind == "device"
	_own_event
}

# Applications and gateways publish what their roles say, for devices too.
_allowed := concat("/", ["iot-2/type", input.levels[2], "id", input.levels[4], _message, "+/fmt/+"]) if {
	_speaks
	_message in roles.publishes
	count(input.levels) == 9
}

_allowed := concat("/", ["iot-2/type", input.levels[2], "id", input.levels[4], "cmd/+"]) if {
	_speaks
	_message in roles.publishes
	count(input.levels) == 7
}

_speaks if {
	input.principal.kind == "application"
	reach.within
}

_speaks if {
	input.principal.kind == "gateway"
	reach.itself
}

_speaks if {
	input.principal.kind == "gateway"
	reach.serves
}

_own_event if {
	some event, format
	["iot-2", "type", input.principal.type, "id", input.principal.id, "evt", event, "fmt", format] = input.levels
	event != ""
	format != ""
}

# The kind of message that the topic carries; undefined for any other topic.
_message := "evt" if {
	some type, id, event, format
	["iot-2", "type", type, "id", id, "evt", event, "fmt", format] = input.levels
	not "" in input.levels
} else := "cmd" if {
	some type, id, command, format
	["iot-2", "type", type, "id", id, "cmd", command, "fmt", format] = input.levels
	not "" in input.levels
} else := "cmd" if {
	some type, id, command
	["iot-2", "type", type, "id", id, "cmd", command] = input.levels
	not "" in input.levels
}

default _reason := "this principal does not publish"

_reason := "a device publishes iot-2/evt/{event}/fmt/{format}" if input.principal.kind == "device"

_reason := "a gateway publishes iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}" if {
	input.principal.kind == "gateway"
	not _message
}

_reason := sprintf("no role of this gateway publishes %s", [_kinds[_message]]) if {
	input.principal.kind == "gateway"
	not _message in roles.publishes
}

# Whether there is a device that it does not reach, it does not learn.
_reason := "this gateway reaches no such device" if {
	input.principal.kind == "gateway"
	_message in roles.publishes
	not _disabled
}

_reason := "this device is disabled" if {
	input.principal.kind == "gateway"
	_message in roles.publishes
	_disabled
}

_disabled if {
	reach.within
	input.device.status == "disabled"
}

_kinds := {"evt": "events", "cmd": "commands"}

_reason := sprintf("no role of this application publishes %s", [_kinds[_message]]) if {
	input.principal.kind == "application"
	not _message in roles.publishes
}

_reason := "this application reaches no such device" if {
	input.principal.kind == "application"
	_message in roles.publishes
}

_reason := "an application publishes iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}, …/cmd/{command}/fmt/{format} or …/cmd/{command}" if {
	input.principal.kind == "application"
	not _message
}
