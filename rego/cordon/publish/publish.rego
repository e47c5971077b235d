# METADATA
# title: Who may publish what
# description: >-
#   The levels are relative to the organisation. A message that is allowed loses
#   its retain flag. What may be published of a device depends on its type, its
#   id and the kind of message, so one answer covers all names and formats.
package cordon.publish

import data.cordon.roles

# METADATA
# title: Whether one topic may be published to
# description: >-
#   Rules called deny, in files beside this one, take away and give nothing. They
#   may tell one name from another, so where there are any, covers is left out.
decision := {"allow": false, "reason": reason} if {
	reason := min(data.cordon.publish.deny)
}

else := {"allow": true, "retain": "strip", "covers": [filter]} if {
	filter := _allowed
	not data.cordon.publish.deny
}

else := {"allow": true, "retain": "strip"} if _allowed

else := {"allow": false, "reason": _reason}

# A topic that may be published to is one of the same device and the same kind of
# message: this is their filter. A "+" of covers stands for no empty level.

# A device and a gateway publish their own events.
_allowed := concat("/", ["iot-2/type", input.principal.type, "id", input.principal.id, "evt/+/fmt/+"]) if {
	input.principal.kind == "device"
	_own_event
}

_allowed := concat("/", ["iot-2/type", input.principal.type, "id", input.principal.id, "evt/+/fmt/+"]) if {
	input.principal.kind == "gateway"
	_own_event
}

# An application publishes for any device what its roles say.
_allowed := concat("/", ["iot-2/type", input.levels[2], "id", input.levels[4], _message, "+/fmt/+"]) if {
	input.principal.kind == "application"
	_message in roles.publishes
	count(input.levels) == 9
}

_allowed := concat("/", ["iot-2/type", input.levels[2], "id", input.levels[4], "cmd/+"]) if {
	input.principal.kind == "application"
	_message in roles.publishes
	count(input.levels) == 7
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

_reason := "a gateway publishes iot-2/type/{its type}/id/{its id}/evt/{event}/fmt/{format}" if {
	input.principal.kind == "gateway"
}

_reason := "no role of this application publishes events" if {
	input.principal.kind == "application"
	_message == "evt"
}

_reason := "no role of this application publishes commands" if {
	input.principal.kind == "application"
	_message == "cmd"
}

_reason := "an application publishes iot-2/type/{type}/id/{id}/evt/{event}/fmt/{format}, …/cmd/{command}/fmt/{format} or …/cmd/{command}" if {
	input.principal.kind == "application"
	not _message
}
