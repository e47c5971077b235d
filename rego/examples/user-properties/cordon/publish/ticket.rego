# What a command carries.
#
# User properties are an MQTT 5 feature, so an application that speaks an older
# version sends no commands any more.
package cordon.publish

# METADATA
# title: Why a publish is refused, whatever would allow it
deny contains "a command carries the user property ticket, such as OPS-4711" if {
	input.levels[5] == "cmd"
	input.principal.app in data.cordon.publish.ticket.applications
	not _ticket
}

_ticket if {
	some ticket in input.properties.user.ticket
	regex.match(`^[A-Z]{2,8}-[0-9]{1,9}$`, ticket)
}
