package audit

import (
	"maps"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Entry is one decision before it is rendered. Nobody changes it or what it points
// to.
type Entry struct {
	Facts    *policy.Facts
	Request  policy.Request // a copy of its own
	Decision *policy.Decision
	Time     time.Time // of the decision, the last one of several
	Count    uint64    // equal decisions that this is
	Weight   uint64    // how many permits this stands for
	// Verifiers says that this is a failed choice of verifiers for Facts.Client and
	// not a decision.
	Verifiers bool
}

func (e *Entry) org() policy.OrgID {
	if e.Facts == nil || e.Facts.Principal == nil {
		return policy.OrgID{}
	}
	return e.Facts.Principal.Org
}

// copyOf takes everything that the asker may use again.
func copyOf(r *policy.Request) policy.Request {
	c := *r
	c.Memo = nil
	c.Levels = slices.Clone(r.Levels)
	c.Target = maps.Clone(r.Target)
	if r.Properties != nil {
		p := *r.Properties
		p.User = slices.Clone(p.User)
		if p.MessageExpiry != nil {
			seconds := *p.MessageExpiry
			p.MessageExpiry = &seconds
		}
		c.Properties = &p
	}
	if r.Device != nil {
		d := *r.Device
		d.Groups = slices.Clone(d.Groups)
		c.Device = &d
	}
	return c
}
