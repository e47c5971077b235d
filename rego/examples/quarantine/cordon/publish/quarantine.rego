# What is left to devices in quarantine.
package cordon.publish

# METADATA
# title: Why a publish is refused, whatever would allow it
deny contains "this device is in quarantine: it publishes the event diagnostics alone" if {
	"quarantine" in input.principal.member_of
	not _diagnostics
}

deny contains "the device is in quarantine: it gets the command reset alone" if {
	"quarantine" in input.device.groups
	input.levels[5] == "cmd"
	input.levels[6] != "reset"
}

_diagnostics if array.slice(input.levels, 5, 7) == ["evt", "diagnostics"]
