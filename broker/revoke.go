package broker

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Effect is what a registry change means for the sessions it concerns.
type Effect uint8

const (
	// Rejudge: a record they were judged by was edited.
	Rejudge Effect = iota
	// Disconnect: the proof or the organisation does not stand; the sessions
	// themselves may be resumed by one that does.
	Disconnect
	// Purge: their owner is gone or switched off; session, queue and will go too.
	Purge
)

// Change is what happened to the registry records behind live sessions.
type Change struct {
	Effect      Effect
	Cause       policy.Cause
	Org         policy.OrgID
	Incarnation uint64
	// Match selects the principals it concerns; nil means all of the organisation.
	Match func(*policy.Principal) bool
	// Deleted selects the devices that were deleted: what is retained in their names
	// goes too, so that a namesake starts empty. Nil: none was.
	Deleted func(typ, id policy.ID) bool
	// Gone is set with Purge when the organisation itself was deleted.
	Gone bool
	// At is when a Disconnect takes effect; zero or past: now.
	At time.Time
}

// Apply carries a registry change out. When it returns, every connection it
// concerns has been told to end, and nothing judged before is used any more.
// It is called after the change is committed: a connection that verifies its
// credential meanwhile either is seen here or sees the change itself.
func (b *Broker) Apply(ch Change) {
	b.changes.Add(1) // first: whoever is connecting looks at it last
	sp, err := b.space(ch.Org, ch.Incarnation)
	if err != nil {
		return
	}
	sp.epoch.Add(1)
	if wait := time.Until(ch.At); ch.Effect == Disconnect && !ch.At.IsZero() && wait > 0 {
		// Each connection concerned ends at that time by its principal's expiry.
		ch.Effect = Rejudge
	}
	matches := func(p *policy.Principal) bool { return p != nil && (ch.Match == nil || ch.Match(p)) }
	if ch.Effect != Rejudge {
		for _, c := range b.connsOf(ch.Org, ch.Incarnation) {
			if matches(c.principal.Load()) {
				c.end(ending{cause: ch.Cause, will: willNever, linger: revokeLinger})
			}
		}
	}
	for _, s := range sp.list() {
		st := s.standing.Load()
		if st == nil || !matches(st.principal) {
			continue
		}
		switch ch.Effect {
		case Purge:
			s.purge(ending{cause: ch.Cause, linger: revokeLinger})
		case Rejudge:
			s.rejudge(context.Background(), true)
		case Disconnect: // closed above; the session may be resumed by a proof that stands
		}
	}
	if ch.Effect == Purge && ch.Deleted != nil {
		sp.retained.forget(b, sp, ch.Deleted)
	}
	if ch.Gone {
		sp.close()
	}
}

// connsOf lists the connections whose verified principal is of the
// organisation, whether they have a session yet or not.
func (b *Broker) connsOf(org policy.OrgID, incarnation uint64) []*conn {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	var list []*conn
	for c := range b.guarded.conns {
		// A principal fresh from its verifier may not know the incarnation yet.
		if p := c.principal.Load(); p != nil && p.Org == org && (p.Incarnation == incarnation || p.Incarnation == 0) {
			list = append(list, c)
		}
	}
	return list
}
