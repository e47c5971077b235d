package cordon.connect_hours_test

import data.cordon.connect

_reasons := {"the day shift connects on working days from 06:00 to 22:00 UTC"}

_of(groups) := {"principal": {"kind": "device", "member_of": groups}}

_denied(groups, moment) := reasons if {
	reasons := connect.deny with input as _of(groups)
		with time.now_ns as time.parse_rfc3339_ns(moment)
}

test_the_day_shift_keeps_to_its_hours if {
	# 12 November 2026 is a Thursday.
	every moment in ["2026-11-12T06:00:00Z", "2026-11-12T13:00:00Z", "2026-11-12T21:59:59Z", "2026-11-12T23:00:00+02:00"] {
		_denied(["day-shift"], moment) == set()
	}
	every moment in ["2026-11-12T05:59:59Z", "2026-11-12T22:00:00Z", "2026-11-14T13:00:00Z", "2026-11-15T13:00:00Z"] {
		_denied(["day-shift"], moment) == _reasons
	}
}

test_others_connect_at_any_time if {
	_denied([], "2026-11-15T13:00:00Z") == set()
	_denied(["hall"], "2026-11-12T02:00:00Z") == set()
}

test_a_denied_connect_says_why if {
	answer := connect.decision with input as _of(["day-shift"])
		with time.now_ns as time.parse_rfc3339_ns("2026-11-15T13:00:00Z")
	answer == {"allow": false, "reason": "the day shift connects on working days from 06:00 to 22:00 UTC"}
}
