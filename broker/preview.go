package broker

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// PreviewOptions say what to look at.
type PreviewOptions struct {
	// Org bounds the look to one organisation; zero: all of them.
	Org policy.OrgID
	// Examples is how many changes of each organisation are described; 0: none.
	Examples int
	// Progress is called with how many of how many sessions have been looked at, now
	// and then and at the end, by the goroutine that called Preview; nil: nobody is.
	Progress func(done, total int)
}

// Preview is what a policy that is not live would change for who is connected.
type Preview struct {
	Sessions      int // live ones that were judged
	Subscriptions int // of these
	Wills         int // of these

	Cut     int // sessions whose connection would be closed
	Removed int // subscriptions that would go, of sessions that stay
	Lowered int // subscriptions whose granted QoS would change
	Dropped int // wills that would go, of sessions that stay
	Altered int // sessions that stay with other mounts, limits, roles or groups

	Examples []PreviewChange
}

// PreviewChange is one thing that a policy would take away.
type PreviewChange struct {
	Org    policy.OrgID
	Client policy.ClientID
	Action policy.Action // connect: the session; subscribe: a filter; publish: the will
	Topic  string        // the filter or the will's topic, as the client wrote it
	Cause  policy.Cause
	// Decision denies; nil where no rule was asked, as for a topic under no mount.
	Decision *policy.Decision
}

// A preview has time, and its questions take some: after a turn of them it rests, so
// that a goroutine whose connection has something to read waits no longer than for that.
// Giving way without a rest would not do: whoever looks for work finds the preview again
// before he looks at connections. A rest takes longer than it was to, about a millisecond where
// there is nothing else to do, and the next turn is as long, up to twice its least.
const (
	previewTurn     = time.Millisecond
	previewRest     = 250 * time.Microsecond
	previewTurnMost = 2 * time.Millisecond
	// previewProgress is after how many sessions it says how far it is.
	previewProgress = 64
)

// Preview judges every live session under candidate as an activation would, and
// changes nothing. The organisations that have live sessions are in the result.
// No quota is spent and nothing is logged. It ends early, with the error of ctx,
// when that ends.
func (b *Broker) Preview(ctx context.Context, candidate policy.Decider, o PreviewOptions) (map[policy.OrgID]*Preview, error) {
	var live []*session
	for _, sp := range b.listSpaces() {
		if !o.Org.IsZero() && sp.key.org != o.Org {
			continue
		}
		for _, s := range sp.list() {
			if s.conn.Load() != nil {
				live = append(live, s)
			}
		}
	}
	found := map[policy.OrgID]*Preview{}
	began, turn, rest := time.Now(), previewTurn, time.NewTimer(previewRest)
	defer rest.Stop()
	for i, s := range live {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		org := s.space.key.org
		if found[org] == nil {
			found[org] = &Preview{}
		}
		s.preview(ctx, candidate, found[org], o.Examples)
		if i%previewProgress == 0 && o.Progress != nil {
			o.Progress(i, len(live))
		}
		if time.Since(began) >= turn {
			rested := time.Now()
			rest.Reset(previewRest)
			select {
			case <-rest.C:
			case <-ctx.Done():
			}
			began = time.Now()
			turn = min(max(previewTurn, began.Sub(rested)), previewTurnMost)
		}
	}
	if o.Progress != nil {
		o.Progress(len(live), len(live))
	}
	return found, nil
}

// preview judges what the session holds at this moment. Nothing waits for it: what
// changes meanwhile may be counted either way.
func (s *session) preview(ctx context.Context, candidate policy.Decider, found *Preview, examples int) {
	old := s.standing.Load()
	would := func(r *refusal) {
		if len(found.Examples) < examples {
			found.Examples = append(found.Examples, PreviewChange{
				Org: s.space.key.org, Client: s.key.client, Action: r.action, Topic: r.topic, Cause: r.cause, Decision: r.decision,
			})
		}
	}
	found.Sessions++
	st := standUnder(ctx, candidate, &policy.Facts{Principal: old.principal, Org: old.facts.Org, Client: old.facts.Client})
	if !st.connect.Allow || st.expired(time.Now()) {
		found.Cut++
		r := denied(policy.ActionConnect, st.connect, "")
		if st.connect.Allow {
			r.cause = policy.CauseExpired
		}
		would(r)
		return
	}
	if !old.mounts().Equal(st.mounts()) || *old.limits() != *st.limits() || !sameRights(old, st) {
		found.Altered++
	}
	for _, sub := range s.subscriptions() {
		found.Subscriptions++
		now := &subscription{session: s, filter: sub.filter, named: sub.named, wanted: sub.wanted}
		if r := s.authoriseSubscription(ctx, st, now); r != nil {
			found.Removed++
			would(r)
		} else if now.qos != sub.qos {
			found.Lowered++
		}
	}
	s.guarded.Lock()
	w := s.guarded.will
	s.guarded.Unlock()
	if w != nil {
		found.Wills++
		if r := s.space.b.authorise(ctx, s.space.b.publication(s.space, s.key, st, w)); r != nil {
			found.Dropped++
			would(r)
		}
	}
}

// sameRights reports whether the policies of later questions see the same roles
// and groups under both.
func sameRights(a, b *standing) bool {
	p, q := a.facts.Principal, b.facts.Principal
	return policy.SameNames(p.Roles, q.Roles) && policy.SameNames(p.Groups, q.Groups)
}
