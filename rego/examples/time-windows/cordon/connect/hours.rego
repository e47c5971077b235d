# When who may connect.
package cordon.connect

# METADATA
# title: Why a connect is refused, whatever would allow it
# description: >-
#   The answer reads the clock, so every connect is judged again each minute, and
#   who is still there at ten is sent away.
deny contains "the day shift connects on working days from 06:00 to 22:00 UTC" if {
	"day-shift" in input.principal.member_of
	not _working_hours
}

_working_hours if {
	now := time.now_ns()
	not time.weekday(now) in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock(now)
	hour >= 6
	hour < 22
}
