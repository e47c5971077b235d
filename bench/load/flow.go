package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Publisher is one publishing client and the topics it rotates over.
type Publisher struct {
	Identity Identity
	Topics   []string // where one holds [Number], each message has a topic of its own
}

// Number in a topic stands for the number of the message, in as many digits.
const Number = "000000000000"

// Reader is one subscribed client.
type Reader struct {
	Identity Identity
	Filters  []string
	From     []int // the publishers whose messages it gets; nil: all
}

// Flow is publishers, readers and what passes between them.
type Flow struct {
	Target     Target
	Publishers []Publisher
	Readers    []Reader
	QoS        byte
	Payload    int // bytes, at least 24

	// Window is how many messages each publisher has open at most. With a Rate,
	// messages a second of all publishers together, there is no window.
	Window int
	Rate   float64

	// Keep connects the readers with clean session off.
	Keep bool

	// Before Span is measured Warm passes, and every publisher sends WarmMessages.
	Warm, Span   time.Duration
	WarmMessages int
	// Probe, if any, is called at both ends of Span; Outcome.Used is the difference.
	Probe func() (time.Duration, error)
	// Beside, if any, runs during Warm and Span, and ends when its context does.
	Beside func(context.Context) error
}

// Outcome is what came of a Flow or a Storm.
type Outcome struct {
	// Counted is how many deliveries, or connects, fell into the span.
	Counted int64
	Span    time.Duration
	Used    time.Duration // what Probe counted meanwhile
	Latency *Latency      // in the span

	// Due and Delivered are of the whole run: the deliveries that its messages
	// called for, and those that arrived, each once.
	Due, Delivered int64
	Duplicates     int64
}

// Rate is what was counted, per second.
func (o *Outcome) Rate() float64 { return float64(o.Counted) / o.Span.Seconds() }

// Share is the part of what was due that arrived.
func (o *Outcome) Share() float64 { return float64(o.Delivered) / float64(max(o.Due, 1)) }

// dialers is how many connections are made at a time.
const dialers = 8

// flow is a Flow that runs.
type flow struct {
	Flow
	id        uint32
	began     time.Time
	sources   []*source
	sinks     []*sink
	measuring atomic.Bool
	stopped   atomic.Bool // nothing more is sent
	closing   atomic.Bool // the end of a connection is no failure any more
	cancel    context.CancelCauseFunc
	work      sync.WaitGroup // goroutines that read connections
}

// Run connects everybody, lets the messages flow, and waits for the last ones.
func (f Flow) Run(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := f.open(ctx, cancel)
	defer r.close()
	if err != nil {
		return Outcome{}, err
	}
	out, err := r.measure(ctx)
	if err != nil {
		return out, err
	}
	if err := r.drain(ctx); err != nil {
		return out, err
	}
	r.close()
	r.total(&out)
	return out, context.Cause(ctx)
}

func (f Flow) open(ctx context.Context, cancel context.CancelCauseFunc) (*flow, error) {
	r := &flow{Flow: f, began: time.Now(), cancel: cancel}
	r.id = uint32(r.began.UnixNano() >> 10)
	if (f.Window > 0) == (f.Rate > 0) {
		return r, errors.New("a flow has either a window or a rate")
	}
	r.sources = make([]*source, len(f.Publishers))
	r.sinks = make([]*sink, len(f.Readers))
	for i, p := range f.Publishers {
		s, err := newSource(r, i, p)
		if err != nil {
			return r, err
		}
		r.sources[i] = s
	}
	for i, reader := range f.Readers {
		r.sinks[i] = newSink(r, reader)
		if err := r.sinks[i].expect(r.sources); err != nil {
			return r, err
		}
	}
	err := together(ctx, len(r.sinks), dialers, func(i int) error { return r.sinks[i].open(ctx) })
	if err != nil {
		return r, err
	}
	return r, together(ctx, len(r.sources), dialers, func(i int) error { return r.sources[i].open(ctx) })
}

// measure starts the readers and the load and measures one span of it.
func (r *flow) measure(ctx context.Context) (out Outcome, err error) {
	if err := r.setDeadlines(time.Now().Add(r.Warm + r.Span + answerTime)); err != nil {
		return out, err
	}
	for _, s := range r.sinks {
		r.work.Go(func() { r.ended(s.read()) })
	}
	for _, s := range r.sources {
		if r.QoS > 0 {
			r.work.Go(func() { r.ended(s.read()) })
		}
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	during, over := context.WithCancel(ctx)
	defer over()
	defer r.stopped.Store(true)
	beside.Go(func() { r.watch(during) })
	if r.Beside != nil {
		beside.Go(func() { r.failed(r.Beside(during)) })
	}
	if r.Rate > 0 {
		beside.Go(func() { r.failed(r.arrive(during)) })
	} else {
		for _, s := range r.sources {
			if err := s.pump(nil); err != nil {
				return out, err
			}
		}
	}
	if err := r.warmUp(ctx); err != nil {
		return out, err
	}
	before, started, used, err := r.sample()
	if err != nil {
		return out, err
	}
	r.measuring.Store(true)
	if err := pause(ctx, r.Span); err != nil {
		return out, err
	}
	r.measuring.Store(false)
	after, ended, usedNow, err := r.sample()
	return Outcome{Counted: after - before, Span: ended.Sub(started), Used: usedNow - used}, err
}

// warmUp waits until what happens once has happened.
func (r *flow) warmUp(ctx context.Context) error {
	return warmUp(ctx, r.Warm, func() bool {
		for _, s := range r.sources {
			if s.sent.Load() < uint64(r.WarmMessages) {
				return false
			}
		}
		return true
	})
}

// setDeadlines makes a broker that hangs a failure instead of a hang.
func (r *flow) setDeadlines(end time.Time) error {
	var errs []error
	for _, s := range r.sources {
		errs = append(errs, s.client.conn.SetDeadline(end))
	}
	for _, k := range r.sinks {
		errs = append(errs, k.client.conn.SetDeadline(end))
	}
	return errors.Join(errs...)
}

// sample reads the counters at one moment.
func (r *flow) sample() (received int64, at time.Time, used time.Duration, err error) {
	if r.Probe != nil {
		used, err = r.Probe()
	}
	for _, s := range r.sinks {
		received += s.arrived.Load()
	}
	return received, time.Now(), used, err
}

// Waiting for the last messages: how often to look, and how long nothing may
// change until nothing more is expected.
const (
	lookEvery = 20 * time.Millisecond
	lostAfter = time.Second
)

// drain waits until all that is due has arrived, or nothing more comes.
func (r *flow) drain(ctx context.Context) error {
	last, since := int64(-1), time.Now()
	for {
		now, open := int64(0), false
		for _, s := range r.sources {
			open = open || !s.settled()
		}
		for _, s := range r.sinks {
			now += s.arrived.Load()
		}
		switch {
		case !open:
			return nil
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) > lostAfter:
			return nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// watch gives up what does not arrive: at QoS 0 a broker may lose it, and a
// closed loop would stand still for ever. It shows in the delivered share.
func (r *flow) watch(ctx context.Context) {
	for pause(ctx, lostAfter) == nil {
		for _, s := range r.sources {
			r.failed(s.forgive())
		}
	}
}

func (r *flow) total(out *Outcome) {
	out.Latency = NewLatency()
	for _, s := range r.sinks {
		delivered, duplicates := s.delivered()
		out.Delivered += delivered
		out.Duplicates += duplicates
		out.Latency.Add(s.latency)
	}
	for _, s := range r.sources {
		out.Due += int64(s.sent.Load()) * int64(len(s.readers))
	}
}

// ended is called when a connection ends, which only close may cause.
func (r *flow) ended(err error) {
	if !r.closing.Load() {
		r.cancel(fmt.Errorf("a connection ended: %w", err))
	}
}

func (r *flow) failed(err error) {
	if err != nil && !errors.Is(err, context.Canceled) && !r.closing.Load() {
		r.cancel(err)
	}
}

// close ends every connection and waits for its goroutine. It may be called again.
func (r *flow) close() {
	r.stopped.Store(true)
	r.closing.Store(true)
	for _, s := range r.sources {
		if s != nil && s.client != nil {
			_ = s.client.Close()
		}
	}
	for _, s := range r.sinks {
		if s != nil && s.client != nil {
			_ = s.client.Close()
		}
	}
	r.work.Wait()
}
