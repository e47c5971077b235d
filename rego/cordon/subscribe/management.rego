package cordon.subscribe

import data.cordon.reach

# Device management: what a managed device is told and asked, by the broker alone.
# All of it is for the device, or for the gateway that it is behind, so a filter may
# end in "#".

_allowed if {
	_of_management
	input.principal.kind in {"device", "gateway"}
	reach.itself
}

_allowed if {
	_of_management
	input.principal.kind == "gateway"
	reach.serves
}

# Of many devices, cordon.receive leaves out what is out of reach.
_allowed if {
	_of_management
	input.principal.kind == "gateway"
	reach.several
}

_allowed if {
	input.principal.kind == "gateway"
	input.levels == ["iotdm-1", "#"]
}

_of_management if {
	input.levels[0] == "iotdm-1"
	input.levels[1] == "type"
	input.levels[3] == "id"
	not "#" in array.slice(input.levels, 0, 5)
	count(input.levels) > 5
	not "" in input.levels
}
