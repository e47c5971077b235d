package opa

import (
	"sync"
	"time"
)

// share is a token bucket of processor time, counted as time that passes while
// something runs. What was used is taken from it afterwards, so it can be in debt:
// one run that cannot be interrupted is paid for by those that do not happen then.
type share struct {
	rate  float64       // of one processor
	burst time.Duration // that may be saved up

	guarded struct {
		sync.Mutex
		left time.Duration
		at   time.Time // of left; zero: full
	}
}

func (s *share) refillLocked(now time.Time) {
	g := &s.guarded
	if g.at.IsZero() {
		g.left = s.burst
	} else if passed := now.Sub(g.at); passed > 0 {
		g.left = min(s.burst, g.left+time.Duration(float64(passed)*s.rate))
	}
	g.at = now
}

// left reports whether anything is left.
func (s *share) left(now time.Time) bool {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	s.refillLocked(now)
	return s.guarded.left > 0
}

// take counts what was used until now.
func (s *share) take(now time.Time, used time.Duration) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	s.refillLocked(now)
	s.guarded.left -= used
}
