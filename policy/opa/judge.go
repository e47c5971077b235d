package opa

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// clockTTL is how long an answer to connect or subscribe holds that could read
// the clock and does not say.
const clockTTL = 60 * time.Second

// judge implements policy.Judge for one holder of facts.
type judge struct {
	engine *Engine
	facts  *policy.Facts
	tenant *tenant // nil: nothing can narrow
	number uint64  // spreads the counter of remembered answers
	memory memory
	choice atomic.Pointer[choice] // of the last canary
	// applies is what receives found: for the generation of all but its last two bits.
	applies atomic.Uint64

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
	return &judge{engine: e, facts: f, tenant: e.tenantOf(f), number: e.judges.Add(1)}
}

// Decide answers r from memory or by evaluating the live bundle.
func (j *judge) Decide(ctx context.Context, r *policy.Request) *policy.Decision {
	e := j.engine
	snap := j.sight()
	entry := snap.entry(r.Action)
	if entry != nil {
		count := e.counters.of(j)
		if r.Memo != nil {
			if d := j.recallNoted(snap, entry, r); d != nil { //nolint:contextcheck // a check outlives the question that it came from
				count.equal(r.Action, d)
				return d
			}
		}
		if d := j.memory.recallLast(e, snap, entry, r); d != nil {
			count.equal(r.Action, d)
			return d
		}
		if d := j.recallCovered(snap, entry, r); d != nil { //nolint:contextcheck // a check outlives the question that it came from
			count.covered(r.Action, d)
			return d
		}
		if m := j.memory.recall(e, snap, entry, r); m != nil {
			count.equal(r.Action, m.decision)
			j.noteAnswer(r, m, nil)
			return m.decision
		}
	}
	return j.ask(ctx, snap, entry, r)
}

// Generation counts the activations of the live bundle and of the organisation's.
func (j *judge) Generation() policy.Generation { return j.sight().generation }

// Decides reports whether the live bundle has a rule for a, or the organisation's.
// One that is not compiled yet may have one. The live bundle may say of receive that
// its rule is not about this holder.
func (j *judge) Decides(a policy.Action) bool {
	snap := j.sight()
	entry := snap.entry(a)
	if a == policy.ActionReceive && entry != nil && entry.own == nil && !snap.unready() {
		return j.receives(snap)
	}
	return entry != nil || snap.unready()
}

// ask evaluates, and remembers the answer if it may be given again.
func (j *judge) ask(ctx context.Context, snap *snapshot, entry *entryPoint, r *policy.Request) *policy.Decision {
	e := j.engine
	now := r.Time
	if now.IsZero() {
		now = e.now()
	}
	if snap.unready() && r.Action != policy.ActionAdminister {
		if err := e.awaken(ctx, j.tenant); err != nil {
			d := &policy.Decision{Cause: policy.CauseUnavailable, Detail: err.Error(), ID: e.newID(), Revision: snap.revision}
			e.counters.asked(r.Action, d)
			return d
		}
		snap = j.sight()
		entry = snap.entry(r.Action)
	}
	var holder holderKey
	recurs := false
	if r.Action == policy.ActionConnect && entry != nil && !entry.clock {
		if holder, recurs = entry.client.holderOf(j.facts); recurs {
			if d := snap.recurring.connect(holder); d != nil {
				e.counters.of(j).equal(r.Action, d)
				return d
			}
		}
	}

	a, keep := answer{Decision: policy.Decision{Cause: policy.CauseQuota}}, false
	if j.facts.Budget == nil || j.facts.Budget.Spend() {
		started := time.Now()
		a, keep = j.answer(ctx, entry, r, now)
		a.At, a.Took = now, time.Since(started)
	}
	e.counters.asked(r.Action, &a.Decision)
	a.ID = e.newID()
	a.Revision = snap.revision
	if a.hasTTL {
		a.Until = now.Add(a.ttl)
	}
	d := &a.Decision
	if keep && j.sight() == snap {
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
	platform := entry
	if entry != nil && entry.own != nil {
		platform = entry.platform
	}
	input := constant.input(r, reads)
	a, keep = j.ofPlatform(ctx, platform, r, input, now, entry != nil)
	if entry != nil && entry.own != nil && a.Allow {
		return j.narrow(ctx, entry.own, r, input, a, keep, now)
	}
	return a, keep
}

// ofPlatform asks the live bundle. Where that has no rule for a delivery and the
// organisation's has, nothing of the platform's is in the way.
func (j *judge) ofPlatform(ctx context.Context, entry *entryPoint, r *policy.Request, input ast.Value, now time.Time, onTop bool) (a answer, keep bool) {
	if entry == nil && onTop {
		return answer{Decision: policy.Decision{Allow: true}}, true
	}
	refuse := func(cause policy.Cause, err error) answer {
		return answer{Decision: policy.Decision{Cause: cause, Detail: err.Error()}}
	}
	value, cause, err := j.engine.evaluate(ctx, entry, input, now)
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
