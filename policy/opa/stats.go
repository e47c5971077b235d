package opa

import (
	"sync/atomic"

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
	// Denials are evaluations that denied, by cause. Denials given from memory
	// count as Remembered.
	Denials map[policy.Cause]uint64
}

// Stats returns the counts so far.
func (e *Engine) Stats() Stats {
	s := Stats{
		Evaluations:     e.counters.evaluations.Load(),
		CoverMismatches: e.counters.mismatches.Load(),
		Denials:         map[policy.Cause]uint64{},
	}
	for i := range e.counters.remembered {
		covered := e.counters.remembered[i].covered.Load()
		s.Covered += covered
		s.Remembered += covered + e.counters.remembered[i].equal.Load()
	}
	for i, cause := range causes {
		if n := e.counters.denials[i].Load(); n > 0 {
			s.Denials[cause] = n
		}
	}
	return s
}

// causes are those of this package, in the order of counters.denials. Read only.
var causes = [...]policy.Cause{
	policy.CausePolicy, policy.CauseUndefined, policy.CauseMalformed,
	policy.CauseError, policy.CauseTimeout, policy.CausePanic,
	policy.CauseInputSize, policy.CauseOutputSize,
}

type counters struct {
	evaluations atomic.Uint64
	mismatches  atomic.Uint64
	denials     [len(causes)]atomic.Uint64
	// remembered is spread over cache lines: sessions on different processors
	// count at every message.
	remembered [16]struct {
		equal, covered atomic.Uint64
		_              [48]byte
	}
}

func (c *counters) deny(cause policy.Cause) {
	for i := range causes {
		if causes[i] == cause {
			c.denials[i].Add(1)
		}
	}
}
