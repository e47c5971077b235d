package opa

import (
	"context"
	"sync"
	"time"
	"weak"

	"github.com/cordon-mq/cordon/policy"
)

// clockTTL is how long an answer to connect or subscribe holds that could read
// the clock and does not say.
const clockTTL = 60 * time.Second

// judge implements policy.Judge for one holder of facts.
type judge struct {
	engine *Engine
	facts  *policy.Facts
	number uint64 // spreads the counter of remembered answers
	memory memory

	constant struct {
		sync.Mutex
		// made is weak: a session that publishes what it published before needs
		// only its memory, and there are many sessions.
		made weak.Pointer[constant]
	}
}

// Judge makes the judge of f, which may not change afterwards. It starts
// without memory and needs no closing.
func (e *Engine) Judge(f *policy.Facts) policy.Judge {
	return &judge{engine: e, facts: f, number: e.judges.Add(1)}
}

// Decide answers r from memory or by evaluating the live bundle.
func (j *judge) Decide(ctx context.Context, r *policy.Request) *policy.Decision {
	e := j.engine
	snap := e.live.Load()
	entry := snap.entry(r.Action)
	if entry != nil {
		count := &e.counters.remembered[j.number%uint64(len(e.counters.remembered))]
		if r.Memo != nil {
			if d := j.recallNoted(snap, entry, r); d != nil { //nolint:contextcheck // a check outlives the question that it came from
				count.equal.Add(1)
				return d
			}
		}
		if d := j.memory.recallLast(e, snap, entry, r); d != nil {
			count.equal.Add(1)
			return d
		}
		if d := j.recallCovered(snap, entry, r); d != nil { //nolint:contextcheck // a check outlives the question that it came from
			count.covered.Add(1)
			return d
		}
		if m := j.memory.recall(e, snap, entry, r); m != nil {
			count.equal.Add(1)
			j.noteAnswer(r, m, nil)
			return m.decision
		}
	}
	return j.ask(ctx, snap, entry, r)
}

// Generation is that of the live bundle.
func (j *judge) Generation() policy.Generation { return j.engine.live.Load().generation }

// Decides reports whether the live bundle has a rule for a.
func (j *judge) Decides(a policy.Action) bool { return j.engine.live.Load().entry(a) != nil }

// ask evaluates, and remembers the answer if it may be given again.
func (j *judge) ask(ctx context.Context, snap *snapshot, entry *entryPoint, r *policy.Request) *policy.Decision {
	e := j.engine
	now := r.Time
	if now.IsZero() {
		now = e.now()
	}
	var holder holderKey
	recurs := false
	if r.Action == policy.ActionConnect && entry != nil && !entry.clock {
		if holder, recurs = entry.client.holderOf(j.facts); recurs {
			if d := snap.recurring.connect(holder); d != nil {
				e.counters.remembered[j.number%uint64(len(e.counters.remembered))].equal.Add(1)
				return d
			}
		}
	}

	a, keep := answer{Decision: policy.Decision{Cause: policy.CauseQuota}}, false
	if j.facts.Budget == nil || j.facts.Budget.Spend() {
		a, keep = j.answer(ctx, entry, r, now)
	}
	if !a.Allow {
		e.counters.deny(a.Cause)
	}
	a.ID = e.newID()
	a.Revision = snap.revision
	if a.hasTTL {
		a.Until = now.Add(a.ttl)
	}
	d := &a.Decision
	if keep && e.live.Load() == snap {
		j.memory.keep(e, snap, entry, r, d)
		if recurs && d.Allow && !a.hasTTL {
			snap.recurring.keepConnect(holder, d)
		}
		j.askedBeside(snap, entry, r) //nolint:contextcheck // as above
	}
	return d
}

// answer asks the rules; keep says whether the answer may be remembered.
func (j *judge) answer(ctx context.Context, entry *entryPoint, r *policy.Request, now time.Time) (a answer, keep bool) {
	refuse := func(cause policy.Cause, err error) answer {
		return answer{Decision: policy.Decision{Cause: cause, Detail: err.Error()}}
	}

	constant, cause, err := j.constantPart()
	if cause != policy.CauseNone {
		return refuse(cause, err), false
	}
	reads := readAll
	if entry != nil {
		reads = entry.reads
	}
	if n, most := constant.bytes+reads.size(r), j.engine.inputMax; n > most {
		return refuse(policy.CauseInputSize, errInputSize(most)), false
	}
	value, cause, err := j.engine.evaluate(ctx, entry, constant.input(r, reads), now)
	switch cause {
	case policy.CauseNone:
		if a, err = decode(r.Action, value); err != nil {
			a = refuse(policy.CauseMalformed, err)
		}
	case policy.CauseUndefined:
		a = refuse(cause, err)
	default:
		return refuse(cause, err), false
	}
	if entry == nil {
		return a, false
	}
	if entry.clock && !a.hasTTL {
		if r.Action != policy.ActionConnect && r.Action != policy.ActionSubscribe {
			return a, false
		}
		a.ttl, a.hasTTL = clockTTL, true
	}
	return a, !a.hasTTL || a.ttl > 0
}

func (j *judge) constantPart() (*constant, policy.Cause, error) {
	j.constant.Lock()
	c := j.constant.made.Value()
	j.constant.Unlock()
	if c != nil {
		return c, policy.CauseNone, nil
	}
	c, cause, err := j.engine.newConstant(j.facts)
	if cause != policy.CauseNone {
		return nil, cause, err
	}
	j.constant.Lock()
	j.constant.made = weak.Make(c)
	j.constant.Unlock()
	return c, policy.CauseNone, nil
}
