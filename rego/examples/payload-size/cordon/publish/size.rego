# How large the messages of a device type may be.
#
# The table is in size/data.json; a type that it does not know is free.
package cordon.publish

# METADATA
# title: Why a publish is refused, whatever would allow it
deny contains sprintf("a message of this device type has at most %d bytes", [most]) if {
	most := data.cordon.publish.size.bytes[input.principal.type]
	input.size > most
}
