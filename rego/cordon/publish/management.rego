package cordon.publish

import data.cordon.reach

# Device management: what a managed device says, or a gateway for it. The broker
# itself reads it, and answers below iotdm-1, where nobody else publishes.

_allowed := concat("/", input.levels) if {
	_speaks_for_device
	_management in _management_topics
}

_management_topics := {
	"mgmt/manage", "mgmt/unmanage",
	"device/update/location",
	"add/diag/errorCodes", "clear/diag/errorCodes", "add/diag/log", "clear/diag/log",
	"notify", "response",
}

# What follows the device in a topic of device management.
_management := concat("/", array.slice(input.levels, 5, count(input.levels))) if {
	input.levels[0] == "iotdevice-1"
	input.levels[1] == "type"
	input.levels[3] == "id"
}

_speaks_for_device if {
	input.principal.kind in {"device", "gateway"}
	reach.itself
}

_speaks_for_device if {
	input.principal.kind == "gateway"
	reach.serves
}
