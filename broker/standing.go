package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// standing is what a session is allowed at present: who it is, what connect
// answered, and the judge for everything after. It is immutable and replaced
// whole, so whoever loaded it sees one consistent state.
type standing struct {
	principal  *policy.Principal // as verified; facts.Principal may have the decision's roles
	facts      *policy.Facts
	connect    *policy.Decision
	judge      policy.Judge
	generation policy.Generation
	until      time.Time // when connect is asked again; zero: never
}

// stand asks cordon.connect about p and makes its standing, whether allowed or
// not. The error is a registry that could not be read.
func (b *Broker) stand(ctx context.Context, sp *space, p *policy.Principal, client *policy.Client) (*standing, error) {
	org, err := b.factsOf(ctx, p, client)
	if err != nil {
		return nil, fmt.Errorf("organisation facts: %w", err)
	}
	st := standUnder(ctx, b.decider, &policy.Facts{Principal: p, Org: org, Client: client, Budget: sp})
	if b.handover(p) != nil {
		st.connect = fleeting(st.connect)
	}
	return st, nil
}

// standUnder is the standing that decider gives whom facts are about.
func standUnder(ctx context.Context, decider policy.Decider, facts *policy.Facts) *standing {
	p := facts.Principal
	judge := decider.Judge(facts)
	generation := judge.Generation() // read before evaluating: an activation in between makes it stale
	d := decide(ctx, judge, &policy.Request{Action: policy.ActionConnect, Time: time.Now()})
	st := &standing{principal: p, facts: facts, connect: d, judge: judge, generation: generation}
	st.until = earliest(d.Until, d.ExpiresAt, p.ExpiresAt)
	differs := func(given, has []string) bool { return given != nil && !slices.Equal(given, has) }
	if d.Allow && (differs(d.Roles, p.Roles) || differs(d.Groups, p.Groups)) { // else the judge knows them
		given := *p
		if d.Roles != nil {
			given.Roles = d.Roles
		}
		if d.Groups != nil {
			given.Groups = d.Groups
		}
		st.facts = &policy.Facts{Principal: &given, Org: facts.Org, Client: facts.Client, Budget: facts.Budget}
		st.judge = decider.Judge(st.facts)
	}
	return st
}

// record is what is stored of a session that stands like this.
func (st *standing) record(expiry time.Duration, offline time.Time) ([]byte, error) {
	if expiry == 0 {
		return nil, nil
	}
	return (&durable.Session{
		Principal: *st.principal, Client: *st.facts.Client, Limits: st.connect.Limits, Mounts: st.mounts().List(),
		Expiry: expiry, Offline: offline,
	}).Append(nil)
}

// decide asks the judge, and once more if it ran out of time: on a machine that
// is overloaded for a moment, a session should not lose what it may have.
func decide(ctx context.Context, judge policy.Judge, r *policy.Request) *policy.Decision {
	d := judge.Decide(ctx, r)
	if d.Cause == policy.CauseTimeout {
		d = judge.Decide(ctx, r)
	}
	return d
}

// expired reports whether the proof or the decision has run out for good, as
// opposed to being due for another look.
func (st *standing) expired(now time.Time) bool {
	return st.principal.Expired(now) || !st.connect.ExpiresAt.IsZero() && !now.Before(st.connect.ExpiresAt)
}

func (st *standing) limits() *policy.Limits { return &st.connect.Limits }

func (st *standing) mounts() topic.Mounts { return st.connect.Mounts }

func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// current returns the session's standing, judged again first when the live
// policy is no longer the one it was judged under. This is what makes an
// activation safe before the sweep has come by.
func (s *session) current(ctx context.Context) *standing {
	if st := s.standing.Load(); st.generation == st.judge.Generation() {
		return st
	}
	return s.rejudge(ctx, false)
}

// rejudge asks again for everything the session holds: its principal, connect,
// every subscription and the will; and takes away only what is no longer
// allowed. Without force it does nothing for a session that is up to date.
func (s *session) rejudge(ctx context.Context, force bool) *standing {
	var w writes
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	st := s.rejudgeInto(ctx, &w, force)
	s.space.b.commitAny(&w)
	return st
}

// rejudgeInto is rejudge with connectMu held.
func (s *session) rejudgeInto(ctx context.Context, w *writes, force bool) *standing {
	b := s.space.b
	old := s.standing.Load()
	if s.isDead() || !force && old.generation == old.judge.Generation() {
		return old
	}
	b.stats.rejudged.Add(1)
	generation := old.judge.Generation()
	p, err := b.registry.Refresh(ctx, old.principal)
	if err != nil { // the registry's own change closes or purges; here it is only not allowed
		return s.expel(old, generation, refused(plugins.CauseOf(err), err.Error()), willNever)
	}
	return s.standAs(ctx, w, old, &p, generation)
}

// standAs judges everything the session holds as p's, with connectMu held. The
// generation was read before p was.
func (s *session) standAs(ctx context.Context, w *writes, old *standing, p *policy.Principal, generation policy.Generation) *standing {
	st, err := s.space.b.stand(ctx, s.space, p, old.facts.Client)
	switch {
	case err != nil:
		return s.expel(old, generation, refused(policy.CauseUnavailable, err.Error()), willFires)
	case !st.connect.Allow:
		return s.expel(old, generation, denied(policy.ActionConnect, st.connect, ""), willFires)
	case st.expired(time.Now()):
		return s.expel(old, generation, refused(policy.CauseExpired, ""), willFires)
	}
	s.rejudgeSubscriptions(ctx, w, old, st)
	s.standing.Store(st)
	s.rejudgeWill(ctx, w, st)
	if c := s.conn.Load(); c != nil {
		c.usage.adjust(st.limits())
	}
	s.schedule()
	return st
}

// expel ends the connection of a session that connect no longer allows. The
// standing it leaves behind allows nothing; the session and what waits in it
// stay, for a connect that is allowed.
func (s *session) expel(old *standing, generation policy.Generation, r *refusal, fate willFate) *standing {
	out := *old
	out.generation, out.until = generation, time.Time{}
	out.connect = &policy.Decision{Cause: r.cause, Limits: old.connect.Limits, Mounts: old.connect.Mounts}
	s.standing.Store(&out)
	if c := s.conn.Load(); c != nil && !c.closing.Load() {
		s.space.b.logRefusal(s.space.key.org.String(), s.key.client, r)
		c.end(ending{cause: policy.CauseRejudged, code: r.reasonCode(), reason: r.publicReason(), will: fate})
	}
	return &out
}

// schedule sets the timer for the next time a clock alone changes what the
// session may do. It is called after each change of the standing or of a
// subscription, and looks at what there is then.
func (s *session) schedule() {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	until := s.standing.Load().until
	for _, sub := range s.guarded.subs {
		until = earliest(until, sub.until)
	}
	if s.guarded.judgeTimer != nil {
		s.guarded.judgeTimer.Stop()
		s.guarded.judgeTimer = nil
	}
	if until.IsZero() || s.guarded.dead {
		return
	}
	// A little late, so that the clock has surely passed it when it fires, and
	// never at once: a policy may answer with a ttl of nothing.
	s.guarded.judgeTimer = time.AfterFunc(max(time.Until(until), 250*time.Millisecond)+10*time.Millisecond, func() {
		if s.space.b.enter() {
			defer s.space.b.work.Done()
			s.rejudge(context.Background(), true)
		}
	})
}
