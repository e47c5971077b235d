# METADATA
# title: Who may publish what
# description: >-
#   The levels are relative to the organisation. A message that is allowed loses
#   its retain flag. No answer covers other topics: "+" would also stand for an
#   empty level, and an event without a name is refused.
package cordon.publish

import data.cordon.roles

# METADATA
# title: Whether one topic may be published to
decision := {"allow": true, "retain": "strip"} if _allowed

else := {"allow": false, "reason": _reason}

# A device and a gateway publish their own events.
_allowed if {
	input.principal.kind == "device"
	_own_event
}

_allowed if {
	input.principal.kind == "gateway"
	_own_event
}

# An application publishes for any device what its roles say.
_allowed if {
	input.principal.kind == "application"
	_message in roles.publishes
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
