package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	random "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Renderer writes entries as events.
type Renderer interface {
	// Render makes the event of e, masked. The error is ErrDropped where a rule says
	// that e is not to be recorded. It is called by one goroutine at a time.
	Render(ctx context.Context, e *Entry) (*Event, error)
}

// ErrDropped says that a rule dropped a record.
var ErrDropped = errors.New("audit: dropped by a rule")

// Sample says one of how many permits is recorded, by action. Zero is the default
// of the field, a negative number records none. Denials are not sampled.
type Sample struct {
	Connect, Subscribe, Administer int // default 1: all
	Publish, Receive               int // default 5000
}

// Options of a Log.
type Options struct {
	Renderer Renderer
	Sinks    []Sink
	Sample   Sample
	// Ring is how many entries may wait to be rendered; 0: 8192.
	Ring int
	// Rate is how many records a second one organisation may cause, with a burst of
	// four seconds' worth; 0: 1000. Permits may use half of it.
	Rate int
	Log  *slog.Logger     // nil: nothing is logged
	Now  func() time.Time // nil: time.Now
}

// Log is a policy.Decider that records what another one decides. It is safe for
// concurrent use. Close it when nobody decides any more.
type Log struct {
	inner policy.Decider
	now   func() time.Time
	log   *slog.Logger

	// sample says one of how many permits is recorded, by action; 0: none.
	sample [policy.ActionAdminister + 1]uint32

	ring    chan *Entry
	closing atomic.Bool
	stats   counters

	verifiers folds // failed choices of verifiers, by what went wrong
	pending   struct {
		sync.Mutex
		folds map[*folds]struct{} // those that have something open
	}
	wake chan struct{} // pending was empty

	drain *drain
}

var _ policy.Decider = (*Log)(nil)

// New makes the log of what inner decides, and starts writing.
func New(inner policy.Decider, o Options) *Log {
	l := &Log{inner: inner, now: o.Now, log: o.Log, wake: make(chan struct{}, 1)}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if o.Ring <= 0 {
		o.Ring = 8192
	}
	l.ring = make(chan *Entry, o.Ring)
	l.pending.folds = map[*folds]struct{}{}
	s := o.Sample
	for action, one := range map[policy.Action]int{
		policy.ActionConnect: orDefault(s.Connect, 1), policy.ActionSubscribe: orDefault(s.Subscribe, 1),
		policy.ActionAdminister: orDefault(s.Administer, 1),
		policy.ActionPublish:    orDefault(s.Publish, 5000), policy.ActionReceive: orDefault(s.Receive, 5000),
	} {
		if one > 0 {
			l.sample[action] = uint32(min(one, maxSample))
		}
	}
	l.drain = startDrain(l, o)
	return l
}

// maxSample bounds a Sample.
const maxSample = 1_000_000

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Verifiers asks inner. A failure is recorded.
func (l *Log) Verifiers(ctx context.Context, c *policy.Client, org *policy.Organisation) ([]policy.VerifierRef, error) {
	refs, err := l.inner.Verifiers(ctx, c, org)
	if err != nil && ctx.Err() == nil {
		l.observeVerifiers(c, err)
	}
	return refs, err
}

// observeVerifiers records a failure by what it is: an attacker may repeat it
// without end, and no decision has an ID for it.
func (l *Log) observeVerifiers(c *policy.Client, err error) {
	cause := policy.CauseError
	why := err
	if e, ok := errors.AsType[*policy.Error](err); ok && e.Err != nil {
		why = e.Err
	}
	detail := why.Error()
	if word, _, ok := strings.Cut(detail, ":"); ok && strings.HasPrefix(word, "policy_") {
		cause = policy.Cause(word)
	}
	l.verifiers.observe(l, detail, func(now time.Time) *Entry {
		return &Entry{
			Facts: &policy.Facts{Client: c}, Request: policy.Request{Action: policy.ActionConnect, Time: now},
			Decision:  &policy.Decision{Cause: cause, Detail: detail, ID: strings.ToLower(rand.Text()[:16]), At: now},
			Verifiers: true,
		}
	})
}

// Judge makes a judge whose decisions are recorded.
func (l *Log) Judge(f *policy.Facts) policy.Judge {
	return &judge{inner: l.inner.Judge(f), log: l, facts: f}
}

type judge struct {
	inner policy.Judge
	log   *Log
	facts *policy.Facts
	folds atomic.Pointer[folds] // nil until something is denied
	// next counts down to the permit of an action that is recorded next; below zero
	// at the start, when it is not known yet.
	next [policy.ActionAdminister + 1]atomic.Int32
}

// Decide asks the judge inside.
func (j *judge) Decide(ctx context.Context, r *policy.Request) *policy.Decision {
	d := j.inner.Decide(ctx, r)
	if !d.Allow {
		j.denied(r, d)
		return d
	}
	if int(r.Action) < len(j.next) && j.next[r.Action].Add(-1) <= 0 {
		j.allowed(r, d)
	}
	return d
}

// Generation is that of the judge inside.
func (j *judge) Generation() policy.Generation { return j.inner.Generation() }

// Decides asks the judge inside.
func (j *judge) Decides(a policy.Action) bool { return j.inner.Decides(a) }

// allowed records d if it is the turn of this permit, and draws which is the next.
// The gaps are those of independent draws, so that a session of any length is
// sampled alike.
func (j *judge) allowed(r *policy.Request, d *policy.Decision) {
	one := j.log.sample[r.Action]
	if one == 0 {
		j.next[r.Action].Store(math.MaxInt32)
		return
	}
	next := &j.next[r.Action]
	if next.Load() < 0 { // the first: as if it were the draw before that came due
		if gap := drawGap(one); gap > 1 {
			next.Store(gap - 1)
			return
		}
	}
	next.Store(drawGap(one))
	now := r.Time
	if now.IsZero() {
		now = j.log.now()
	}
	j.log.offer(&Entry{Facts: j.facts, Request: copyOf(r), Decision: d, Time: now, Count: 1, Weight: uint64(one)})
}

// drawGap is how many permits later the next one is recorded, one of so many in the
// mean: the number of throws up to the first that succeeds.
func drawGap(one uint32) int32 {
	if one == 1 {
		return 1
	}
	u := 1 - random.Float64() //nolint:gosec // a sample and no secret
	return int32(min(1+math.Log(u)/math.Log1p(-1/float64(one)), math.MaxInt32))
}

func (j *judge) denied(r *policy.Request, d *policy.Decision) {
	f := j.folds.Load()
	if f == nil {
		f = new(folds)
		if !j.folds.CompareAndSwap(nil, f) {
			f = j.folds.Load()
		}
	}
	same := d.ID
	if d.Cause == policy.CauseQuota {
		// No rule was asked, and there is an ID for each: whoever is over a quota would
		// fill the log.
		same = r.Action.String() + string(d.Cause)
	}
	f.observe(j.log, same, func(time.Time) *Entry {
		return &Entry{Facts: j.facts, Request: copyOf(r), Decision: d}
	})
}

// offer puts e into the ring, if there is room.
func (l *Log) offer(e *Entry) {
	if l.closing.Load() || !l.drain.wanted() {
		return
	}
	select {
	case l.ring <- e:
	default:
		l.stats.dropped.Add(1)
	}
}

// Flush returns when everything that was decided before it is written, or given up, by
// the sinks that are named; by all of them when none is. A server that does not answer
// would hold up whoever only wants to read a Store.
func (l *Log) Flush(ctx context.Context, sinks ...Sink) error { return l.drain.flush(ctx, sinks) }

// Close writes what waits, for as long as ctx lasts, and ends the sinks. What is
// decided afterwards is not recorded.
func (l *Log) Close(ctx context.Context) error {
	l.closing.Store(true)
	return l.drain.close(ctx)
}
