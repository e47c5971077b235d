# Which events a device type publishes.
#
# The table is in types/data.json; a type that it does not know is free.
package cordon.publish

# METADATA
# title: Why a publish is refused, whatever would allow it
deny contains "devices of this type publish no event of this name" if {
	names := data.cordon.publish.types.events[input.levels[2]]
	["iot-2", "type", _, "id", _, "evt", name, "fmt", _] = input.levels
	not name in names
}
