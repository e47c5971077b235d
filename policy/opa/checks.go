package opa

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

const (
	maxChecks     = 256                    // that wait; what comes beyond is left out
	maxShapes     = 256                    // of one generation; an answer of another shape covers nothing
	maxTries      = 3                      // of one shape or covering, where a proof came to no end
	maxDistrusted = 64                     // revisions
	proofTime     = 500 * time.Millisecond // of one proof
)

// checks compares what covers states with what the rules answer. One goroutine
// at most works on them; it ends when nothing waits, so an idle engine has none.
type checks struct {
	guarded struct {
		sync.Mutex
		queue      []check
		cancel     context.CancelFunc // nil while nobody works
		closed     bool
		distrusted []string // revisions whose covers were contradicted
	}
	working sync.WaitGroup
}

// shape is what answers have in common whose covers are probed in full only
// once: those of principals of one kind with the same roles, that state the same
// but for who they name.
type shape struct {
	proven bool
	tries  int
}

// check is one covering and a request that it states the answer to. A covering
// that is not proven yet is also probed.
type check struct {
	judge    *judge
	snap     *snapshot
	entry    *entryPoint
	covering *covering
	sample   policy.Request
}

func newCheck(j *judge, snap *snapshot, entry *entryPoint, c *covering, r *policy.Request) check {
	sample := entry.reads.part(r)
	sample.Levels = slices.Clone(r.Levels)
	return check{j, snap, entry, c, sample}
}

// add reports whether c will be worked on.
func (q *checks) add(c check) bool {
	q.guarded.Lock()
	defer q.guarded.Unlock()
	if q.guarded.closed || len(q.guarded.queue) == maxChecks {
		return false
	}
	q.guarded.queue = append(q.guarded.queue, c)
	if q.guarded.cancel == nil {
		ctx, cancel := context.WithCancel(context.Background())
		q.guarded.cancel = cancel
		q.working.Go(func() { q.work(ctx) })
	}
	return true
}

func (q *checks) work(ctx context.Context) {
	for {
		c, ok := q.next()
		if !ok {
			return
		}
		c.judge.engine.check(ctx, q, c)
	}
}

func (q *checks) next() (c check, ok bool) {
	q.guarded.Lock()
	defer q.guarded.Unlock()
	if len(q.guarded.queue) == 0 || q.guarded.closed {
		q.guarded.cancel()
		q.guarded.cancel, q.guarded.queue = nil, nil
		return c, false
	}
	c = q.guarded.queue[0]
	q.guarded.queue[0] = check{}
	q.guarded.queue = q.guarded.queue[1:]
	return c, true
}

func (q *checks) close() {
	q.guarded.Lock()
	q.guarded.closed = true
	if q.guarded.cancel != nil {
		q.guarded.cancel()
	}
	q.guarded.Unlock()
	q.working.Wait()
}

func (q *checks) distrusts(revision string) bool {
	q.guarded.Lock()
	defer q.guarded.Unlock()
	return slices.Contains(q.guarded.distrusted, revision)
}

func (q *checks) distrust(revision string) {
	q.guarded.Lock()
	defer q.guarded.Unlock()
	if len(q.guarded.distrusted) == maxDistrusted {
		q.guarded.distrusted = slices.Delete(q.guarded.distrusted, 0, 1)
	}
	q.guarded.distrusted = append(q.guarded.distrusted, revision)
}

// shapeOf is nil when there are too many.
func (q *checks) shapeOf(c check) *shape {
	if c.snap.shapes == nil {
		c.snap.shapes = map[string]*shape{}
	}
	key := c.shapeKey()
	s := c.snap.shapes[key]
	if s == nil && len(c.snap.shapes) < maxShapes {
		s = &shape{}
		c.snap.shapes[key] = s
	}
	return s
}

// check evaluates the sample and, for a proof, the probes, each against a fresh
// answer to the request that the covering was made from.
func (e *Engine) check(ctx context.Context, q *checks, c check) {
	defer func() {
		if r := recover(); r != nil {
			c.snap.coversOff.Store(true)
			e.log.Error("covers not used: a check panicked", "revision", c.snap.revision, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	proof := c.covering.state.Load() != proven
	if c.judge.sight() != c.snap || c.snap.coversDistrusted() {
		return
	}
	if f := c.judge.facts; f != nil && f.Budget != nil && !f.Budget.Spend() {
		c.covering.state.CompareAndSwap(proving, unproven)
		return
	}
	at := e.now()
	p := prober{check: c, ctx: ctx, end: time.Now().Add(proofTime), answer: func(r *policy.Request) answer {
		a, _ := c.judge.answer(ctx, c.entry, r, at)
		return a
	}}
	p.base = p.answer(&c.covering.request)

	found := p.ask(&c.sample)
	if proof && found == agrees {
		shape := q.shapeOf(c)
		if shape == nil || shape.tries == maxTries {
			c.covering.state.Store(unusable)
			return
		}
		if found = p.quick(); found == agrees && !shape.proven {
			if found = p.full(c.snap.probeWords()); found == unsettled {
				if shape.tries++; shape.tries == maxTries {
					e.log.Warn("covers not used: it cannot be probed in the time there is", "revision", c.snap.revision,
						"rule", c.entry.ref.String(), "covers", c.covering.filterTexts(), "probes", p.asked)
				}
			}
			shape.proven = found == agrees
		}
	}
	switch {
	case found == disagrees:
		e.distrustCovers(q, c, &p)
	case proof && found == agrees:
		c.covering.state.Store(proven)
	case proof:
		if c.covering.tries++; c.covering.tries == maxTries {
			c.covering.state.Store(unusable)
			return
		}
		c.covering.state.Store(unproven)
	}
}

// distrustCovers ends the use of covers for the bundle, and says why.
func (e *Engine) distrustCovers(q *checks, c check, p *prober) {
	if c.snap.own == nil { // else the organisation's bundle may be why, and is not everybody's
		q.distrust(c.snap.revision)
	}
	c.snap.coversOff.Store(true)
	e.counters.mismatches.Add(1)
	e.log.Error("covers not used: the policy contradicts it", "revision", c.snap.revision, "rule", c.entry.ref.String(),
		"covers", c.covering.filterTexts(),
		"topic", strings.Join(c.covering.request.Levels, "/"), "answer", p.base.text(),
		"other_topic", strings.Join(p.differs.Levels, "/"), "other_answer", p.other.text())
}

func (c *covering) filterTexts() string {
	texts := make([]string, len(c.filters))
	for i, f := range c.filters {
		texts[i] = strings.Join(f, "/")
	}
	return strings.Join(texts, " ")
}

// text is an answer for the log.
func (a *answer) text() string {
	return fmt.Sprintf("allow=%v cause=%q reason=%q retain=%v on_deny=%v ttl=%v detail=%q", a.Allow, a.Cause, a.Reason, a.Retain, a.OnDeny, a.ttl, a.Detail)
}

// saysSame compares what a client could tell apart, and the lifetime.
func (a *answer) saysSame(b *answer) bool {
	return a.Allow == b.Allow && a.Cause == b.Cause && a.Reason == b.Reason && a.Retain == b.Retain &&
		a.OnDeny == b.OnDeny && a.Register == b.Register && a.Notify == b.Notify && a.hasTTL == b.hasTTL && a.ttl == b.ttl
}
