# METADATA
# title: Which devices a principal reaches
# description: >-
#   Whoever is restricted reaches the devices that share a resource group with it,
#   and itself; with no group, nothing else. Anybody else reaches every device of
#   the organisation. The device is the one that the topic or filter names.
package cordon.reach

# METADATA
# title: The principal reaches the device
within if not input.principal.restricted

within if {
	input.device.type == input.principal.type
	input.device.id == input.principal.id
}

within if {
	some group in input.device.groups
	group in input.principal.groups
}

# METADATA
# title: A gateway may speak and listen for the device
serves if {
	within
	input.device.registered
	input.device.status == "enabled"
}

# METADATA
# title: The topic is about the principal itself
itself if {
	input.levels[2] == input.principal.type
	input.levels[4] == input.principal.id
}

# METADATA
# title: The filter is about more than one device
several if input.levels[2] == "+"

several if input.levels[4] == "+"

# METADATA
# title: Where a gateway reads why it was refused
# description: The codes are those of the platform, such as 180 for what it may not do and 276 for a topic that there is not.
notice(code) := {
	"topic": concat("/", ["iot-2/type", input.principal.type, "id", input.principal.id, "notify"]),
	"code": code,
}
