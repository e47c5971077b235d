package opa

import (
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Stats counts since the engine was made.
type Stats struct {
	Evaluations uint64 // of rules, verifiers and checks of covers included
	Remembered  uint64 // answers given from memory
	Covered     uint64 // of these, answers for a topic that another answer covers
	// CoverMismatches are answers that covers stated and an evaluation
	// contradicted. Each ends the use of covers for its bundle.
	CoverMismatches uint64
	// OverShare are denials because an organisation used up what time its own rules
	// have.
	OverShare uint64
	// Denials are evaluations that denied, by cause. Denials given from memory
	// count as Remembered.
	Denials map[policy.Cause]uint64
	// Actions are the answers of judges, from memory or not.
	Actions map[policy.Action]ActionStats
	// Activated is when the live bundle became it; zero before the first one.
	Activated time.Time
}

// ActionStats are the answers about one action.
type ActionStats struct {
	Allowed    uint64
	Denied     map[policy.Cause]uint64
	Remembered uint64 // of both, those given from memory
	Covered    uint64 // of these, answers for a topic that another answer covers
}

// Stats returns the counts so far.
func (e *Engine) Stats() Stats {
	c := &e.counters
	s := Stats{
		Evaluations:     c.evaluations.Load(),
		CoverMismatches: c.mismatches.Load(),
		OverShare:       c.overShare.Load(),
		Denials:         map[policy.Cause]uint64{},
		Actions:         map[policy.Action]ActionStats{},
		Activated:       e.live.Load().activated,
	}
	for i, cause := range causes {
		if n := c.denials[i].Load(); n > 0 {
			s.Denials[cause] = n
		}
	}
	for i := range policy.Action(actions) {
		a := c.action(i)
		s.Remembered += a.Remembered
		s.Covered += a.Covered
		if i != policy.ActionNone {
			s.Actions[i] = a
		}
	}
	return s
}

func (c *counters) action(a policy.Action) ActionStats {
	s := ActionStats{Allowed: c.allowed[a].Load(), Denied: map[policy.Cause]uint64{}}
	for i := range c.remembered {
		same, cover := &c.remembered[i].same[a], &c.remembered[i].cover[a]
		s.Allowed += same.allowed.Load() + cover.allowed.Load()
		s.Remembered += same.all() + cover.all()
		s.Covered += cover.all()
	}
	for i, cause := range causes {
		if n := c.denied[a][i].Load(); n > 0 {
			s.Denied[cause] = n
		}
	}
	return s
}

// causes are those of this package, in the order of counters.denials. Read only.
var causes = [...]policy.Cause{
	policy.CausePolicy, policy.CauseUndefined, policy.CauseMalformed,
	policy.CauseError, policy.CauseTimeout, policy.CausePanic,
	policy.CauseInputSize, policy.CauseOutputSize, policy.CauseQuota, policy.CauseUnavailable,
}

const actions = int(policy.ActionAdminister) + 1

type counters struct {
	evaluations atomic.Uint64
	mismatches  atomic.Uint64
	overShare   atomic.Uint64
	denials     [len(causes)]atomic.Uint64
	allowed     [actions]atomic.Uint64 // by an evaluation
	denied      [actions][len(causes)]atomic.Uint64
	// remembered is spread over cache lines: sessions on different processors
	// count at every message.
	remembered [16]recalls
}

// recalls are answers from memory to some of the sessions, by action and outcome.
type recalls struct {
	same, cover [actions]tally
}

type tally struct{ allowed, denied atomic.Uint64 }

func (t *tally) all() uint64 { return t.allowed.Load() + t.denied.Load() }

// recall is where one judge counts what it remembered.
type recall struct {
	all  *counters
	some *recalls
}

func (c *counters) of(j *judge) recall {
	return recall{c, &c.remembered[j.number%uint64(len(c.remembered))]}
}

// equal counts an answer that was given before to the same question, and covered
// one that was given about another topic. There is an entry point for a, so it is
// one of the actions.
func (r recall) equal(a policy.Action, d *policy.Decision)   { r.count(&r.some.same[a], a, d) }
func (r recall) covered(a policy.Action, d *policy.Decision) { r.count(&r.some.cover[a], a, d) }

func (r recall) count(at *tally, a policy.Action, d *policy.Decision) {
	if d.Allow {
		at.allowed.Add(1)
		return
	}
	at.denied.Add(1)
	add(&r.all.denied[a], d.Cause)
}

// asked counts an answer that was not remembered.
func (c *counters) asked(a policy.Action, d *policy.Decision) {
	if int(a) >= actions {
		a = policy.ActionNone
	}
	if d.Allow {
		c.allowed[a].Add(1)
		return
	}
	c.deny(d.Cause)
	add(&c.denied[a], d.Cause)
}

// deny counts an evaluation that gave no leave.
func (c *counters) deny(cause policy.Cause) { add(&c.denials, cause) }

func add(counts *[len(causes)]atomic.Uint64, cause policy.Cause) {
	for i := range causes {
		if causes[i] == cause {
			counts[i].Add(1)
		}
	}
}

// timed ends an evaluation that began at began.
func (e *Engine) timed(began time.Time) {
	if e.evaluated != nil {
		e.evaluated(time.Since(began))
	}
}
