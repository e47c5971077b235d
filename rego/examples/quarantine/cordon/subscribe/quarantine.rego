# What is left to devices in quarantine.
package cordon.subscribe

# METADATA
# title: Why a subscribe is refused, whatever would allow it
deny contains "this device is in quarantine: it subscribes to the command reset alone" if {
	"quarantine" in input.principal.member_of
	not _reset
}

_reset if array.slice(input.levels, 5, 7) == ["cmd", "reset"]
