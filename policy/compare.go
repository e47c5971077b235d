package policy

import "slices"

// Difference says how one answer differs from another to the same question. The
// zero Difference is none.
type Difference struct {
	// Verdict is what became of allow.
	Verdict Verdict
	// Fields are the fields of the answer that differ beside allow, by the names
	// that policies give them, in a fixed order.
	Fields []string
}

// Verdict says what became of allow.
type Verdict uint8

// VerdictSame is the zero Verdict.
const (
	VerdictSame   Verdict = iota
	VerdictDenied         // allowed before, denied now
	VerdictGiven          // denied before, allowed now
)

func (v Verdict) String() string { return [...]string{"same", "denied", "allowed"}[v] }

// IsZero reports whether there is no difference.
func (d Difference) IsZero() bool { return d.Verdict == VerdictSame && len(d.Fields) == 0 }

// Compare says how after differs from before, both answers to one question about
// a, in what is enforced and in what a client is told. Neither the ID nor the
// revision counts, nor how long an answer holds, nor which topics it covers.
func Compare(a Action, before, after *Decision) Difference {
	switch {
	case before.Allow && !after.Allow:
		return Difference{Verdict: VerdictDenied}
	case !before.Allow && after.Allow:
		return Difference{Verdict: VerdictGiven}
	}
	var d Difference
	differs := func(field string, yes bool) {
		if yes {
			d.Fields = append(d.Fields, field)
		}
	}
	if !before.Allow {
		differs("reason", before.Reason != after.Reason)
		differs("cause", before.Cause != after.Cause)
		differs("on_deny", before.OnDeny != after.OnDeny)
		differs("register", before.Register != after.Register)
		differs("violation", before.Violation != after.Violation)
		differs("notify", before.Notify != after.Notify)
		return d
	}
	switch a { //nolint:exhaustive // the others have nothing but allow
	case ActionConnect:
		differs("mounts", !before.Mounts.Equal(after.Mounts))
		differs("roles", !sameNames(before.Roles, after.Roles))
		differs("groups", !sameNames(before.Groups, after.Groups))
		differs("limits", before.Limits != after.Limits)
		differs("expires_at", !before.ExpiresAt.Equal(after.ExpiresAt))
		differs("share", before.Share != after.Share)
	case ActionAdminister:
		differs("groups", !sameNames(before.Groups, after.Groups))
	case ActionPublish:
		differs("retain", before.Retain != after.Retain)
	case ActionSubscribe:
		differs("qos", before.MaxQoS != after.MaxQoS)
	}
	return d
}

// sameNames also tells no list at all, which leaves what the principal has, from an
// empty one, which takes it away.
func sameNames(a, b []string) bool { return (a == nil) == (b == nil) && SameNames(a, b) }

// SameNames reports whether two lists hold the same names. Order and repetition do not
// count, as for whoever tests for a name.
func SameNames(a, b []string) bool {
	lacks := func(in []string) func(string) bool {
		return func(name string) bool { return !slices.Contains(in, name) }
	}
	return !slices.ContainsFunc(a, lacks(b)) && !slices.ContainsFunc(b, lacks(a))
}
