package shadow

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Question is what the live policy was asked, and what it answered. All of it is
// the shadow's from Observe on, and nobody may change it.
type Question struct {
	Facts   *policy.Facts
	Request policy.Request // its Time is when it was asked
	Answer  *policy.Decision
	Weight  uint64 // how many questions it stands for, at least 1
}

// Options of a Shadow.
type Options struct {
	// Candidate is the policy that is looked at.
	Candidate policy.Decider
	// Queue bounds the questions that wait; 0: 1024.
	Queue int
	// Examples bounds the differences that a Report describes, the newest ones; 0: 100.
	Examples int
	// StopAfter ends the shadow when so many questions, weighed, were answered
	// otherwise; 0: never.
	StopAfter uint64
	// PromoteAfter calls Promote when so many questions were compared; 0: never.
	PromoteAfter uint64
	// Promote makes the candidate live. Its error is in the Report.
	Promote func() error
}

// State is where a shadow has got to.
type State string

// A shadow begins Running and leaves that once.
const (
	Running   State = "running"
	Stopped   State = "stopped"   // by StopAfter
	Promoting State = "promoting" // PromoteAfter was reached
	Promoted  State = "promoted"
	Failed    State = "failed" // to promote
	Ended     State = "ended"  // by Close
)

// Example is one question that the two answer differently.
type Example struct {
	At            time.Time
	Facts         *policy.Facts
	Request       policy.Request
	Before, After *policy.Decision
	Difference    policy.Difference
	Weight        uint64
}

// Count is what happened to the questions of one action. Compared and dropped ones
// are counted as they are, differences by their weight.
type Count struct {
	Compared uint64
	Denied   uint64 // allowed now, and not by the candidate
	Given    uint64 // denied now, and not by the candidate
	Changed  uint64 // otherwise different
}

// Report is the state of a shadow at one moment.
type Report struct {
	State    State
	Err      error // of Promote
	Since    time.Time
	Dropped  uint64
	Total    Count
	Actions  map[policy.Action]Count
	Examples []Example // oldest first
}

// Shadow judges beside the live policy. Its methods are safe for concurrent use.
type Shadow struct {
	o       Options
	since   time.Time
	queue   chan Question
	dropped atomic.Uint64
	cancel  context.CancelFunc
	done    chan struct{}

	guarded struct {
		sync.Mutex
		state    State
		err      error
		total    Count
		actions  map[policy.Action]Count
		examples []Example
		watchers map[chan Example]struct{}
	}
}

// New starts a shadow. Close it.
func New(o Options) *Shadow {
	if o.Queue <= 0 {
		o.Queue = 1024
	}
	if o.Examples <= 0 {
		o.Examples = 100
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Shadow{o: o, since: time.Now(), queue: make(chan Question, o.Queue), cancel: cancel, done: make(chan struct{})}
	s.guarded.state = Running
	s.guarded.actions = map[policy.Action]Count{}
	s.guarded.watchers = map[chan Example]struct{}{}
	go s.run(ctx)
	return s
}

// Observe hands a question over, or drops it. A shadow that has ended takes none.
func (s *Shadow) Observe(q Question) {
	select {
	case <-s.done:
		return
	default:
	}
	select {
	case s.queue <- q:
	default:
		s.dropped.Add(1)
	}
}

// Close ends the shadow and waits for it. It may be called again.
func (s *Shadow) Close() {
	s.cancel()
	<-s.done
}

// Done is closed when the shadow has ended, for whatever reason.
func (s *Shadow) Done() <-chan struct{} { return s.done }

// Report returns how it stands.
func (s *Shadow) Report() Report {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	r := Report{
		State: s.guarded.state, Err: s.guarded.err, Since: s.since, Dropped: s.dropped.Load(),
		Total: s.guarded.total, Actions: make(map[policy.Action]Count, len(s.guarded.actions)),
		Examples: append([]Example(nil), s.guarded.examples...),
	}
	for action, n := range s.guarded.actions {
		r.Actions[action] = n
	}
	return r
}

// Watch returns a channel of the differences from now on. What its reader is too
// slow for is left out. It is closed when the shadow ends or stop is called.
func (s *Shadow) Watch() (differences <-chan Example, stop func()) {
	ch := make(chan Example, 64)
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.watchers == nil {
		close(ch)
		return ch, func() {}
	}
	s.guarded.watchers[ch] = struct{}{}
	return ch, func() {
		s.guarded.Lock()
		defer s.guarded.Unlock()
		if _, open := s.guarded.watchers[ch]; open {
			delete(s.guarded.watchers, ch)
			close(ch)
		}
	}
}

func (s *Shadow) run(ctx context.Context) {
	defer close(s.done)
	defer s.end()
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-s.queue:
			if ctx.Err() != nil || !s.judge(ctx, &q) {
				return
			}
		}
	}
}

// end lets the watchers go, and says how it ended if nothing else has.
func (s *Shadow) end() {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.state == Running {
		s.guarded.state = Ended
	}
	for ch := range s.guarded.watchers {
		close(ch)
	}
	s.guarded.watchers = nil
}

// judge asks the candidate one question, and reports whether to go on.
func (s *Shadow) judge(ctx context.Context, q *Question) bool {
	facts := *q.Facts
	facts.Budget = nil
	judge := s.o.Candidate.Judge(&facts)
	if q.Request.Action == policy.ActionReceive && !judge.Decides(policy.ActionReceive) {
		return s.count(q, &policy.Decision{Allow: true})
	}
	request := q.Request
	request.Memo = nil
	after := judge.Decide(ctx, &request)
	if ctx.Err() != nil {
		return false // the answer may be one to that
	}
	if after.Cause == policy.CauseQuota { // no rule was asked
		s.dropped.Add(1)
		return true
	}
	return s.count(q, after)
}

func (s *Shadow) count(q *Question, after *policy.Decision) bool {
	difference := policy.Compare(q.Request.Action, q.Answer, after)
	s.guarded.Lock()
	n := s.guarded.actions[q.Request.Action]
	for _, c := range []*Count{&n, &s.guarded.total} {
		c.Compared++
		switch {
		case difference.Verdict == policy.VerdictDenied:
			c.Denied += q.Weight
		case difference.Verdict == policy.VerdictGiven:
			c.Given += q.Weight
		case !difference.IsZero():
			c.Changed += q.Weight
		}
	}
	s.guarded.actions[q.Request.Action] = n
	if !difference.IsZero() {
		s.tell(Example{
			At: q.Request.Time, Facts: q.Facts, Request: q.Request, Before: q.Answer, After: after,
			Difference: difference, Weight: q.Weight,
		})
	}
	total := s.guarded.total
	promote := false
	switch {
	case s.o.StopAfter > 0 && total.Denied+total.Given+total.Changed >= s.o.StopAfter:
		s.guarded.state = Stopped
	case s.o.PromoteAfter > 0 && total.Compared >= s.o.PromoteAfter:
		s.guarded.state, promote = Promoting, true
	}
	running := s.guarded.state == Running
	s.guarded.Unlock()
	if promote {
		s.promote()
	}
	return running
}

// promote runs without the lock: it makes a policy live, and that is watched.
func (s *Shadow) promote() {
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return s.o.Promote()
	}()
	s.guarded.Lock()
	defer s.guarded.Unlock()
	s.guarded.state = Promoted
	if err != nil {
		s.guarded.state, s.guarded.err = Failed, err
	}
}

// tell keeps a difference and passes it on; the lock is held.
func (s *Shadow) tell(e Example) {
	if len(s.guarded.examples) == s.o.Examples {
		s.guarded.examples = append(s.guarded.examples[:0], s.guarded.examples[1:]...)
	}
	s.guarded.examples = append(s.guarded.examples, e)
	for ch := range s.guarded.watchers {
		select {
		case ch <- e:
		default:
		}
	}
}
