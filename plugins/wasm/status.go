package wasm

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Status is how one plugin of the folder fares. Counts only grow, whatever versions
// come and go.
type Status struct {
	Name, Folder string
	Orgs         []policy.OrgID
	Refused      error     // why no version is at work; nil when one is
	Quarantined  time.Time // until when; zero for not
	Counts       Counts
	Idle         int   // instances
	Running      int   // calls
	MemoryBytes  int64 // of the largest idle instance
}

// Counts are how often something happened.
type Counts struct {
	Remembered  uint64 // answered without asking the guest
	Good        uint64
	Bad         uint64
	NotMine     uint64
	Late        uint64 // missed the deadline
	Busy        uint64 // no place, or in quarantine
	Failed      uint64 // everything else: traps, malformed answers, memory
	Continued   uint64 // turns of an exchange
	Quarantines uint64
}

// counts are Counts as they grow.
type counts struct {
	remembered, good, bad, notMine, late, busy, failed, continued, quarantines atomic.Uint64
}

// judged counts a verdict of the guest. late and busy were counted where they
// came up.
func (c *counts) judged(v verdict) {
	switch {
	case v.err == nil && v.challenge != nil:
		c.continued.Add(1)
	case v.err == nil:
		c.good.Add(1)
	case errors.Is(v.err, plugins.ErrNotMine):
		c.notMine.Add(1)
	case errors.Is(v.err, plugins.ErrBad):
		c.bad.Add(1)
	default:
		c.failed.Add(1)
	}
}

// broke counts a call without an answer.
func (c *counts) broke(err error) {
	switch {
	case errors.Is(err, errDeadline):
		c.late.Add(1)
	case errors.Is(err, errBusy), errors.Is(err, errQuarantined):
		c.busy.Add(1)
	default:
		c.failed.Add(1)
	}
}

func (c *counts) snapshot() Counts {
	return Counts{
		Remembered: c.remembered.Load(), Good: c.good.Load(), Bad: c.bad.Load(), NotMine: c.notMine.Load(),
		Late: c.late.Load(), Busy: c.busy.Load(), Failed: c.failed.Load(), Continued: c.continued.Load(),
		Quarantines: c.quarantines.Load(),
	}
}

// Status lists the plugins of the folder, those that are refused too, by name and
// folder.
func (h *Host) Status() []Status {
	var all []Status
	t, now := h.table.Load(), h.now()
	for at, p := range t.plugins {
		s := Status{
			Name: at.name, Folder: at.folder, Orgs: slices.Clone(p.orgs), Counts: p.counts.snapshot(),
			Idle: p.idleCount(), Running: len(p.places), MemoryBytes: p.largest(),
		}
		if until := p.quarantine.until(); until.After(now) {
			s.Quarantined = until
		}
		all = append(all, s)
	}
	for at, why := range t.refused {
		all = append(all, Status{Name: at.name, Folder: at.folder, Refused: why, Counts: h.countsOf(at).snapshot()})
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Folder, b.Folder))
	})
	return all
}

// countsOf are those of a place, which outlive its plugins.
func (h *Host) countsOf(p place) *counts {
	c, _ := h.counted.LoadOrStore(p, &counts{})
	return c.(*counts) //nolint:forcetypeassert // nothing else is stored
}

// MemoryBytes is what all instances use of the limit they share.
func (h *Host) MemoryBytes() int64 { return h.budget.used.Load() }

func (p *pool) idleCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.idle)
}

// largest is the memory of the largest idle instance.
func (p *pool) largest() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.mu.idle {
		n = max(n, int64(i.module.Memory().Size()))
	}
	return n
}
