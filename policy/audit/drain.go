package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// drain takes entries out of the ring, has them rendered, and gives them to sinks
// and listeners. One goroutine runs it.
type drain struct {
	log      *Log
	renderer Renderer
	sinks    []*queue
	rates    rates

	live struct {
		sync.Mutex
		list []*Subscription // replaced, never changed
		taps []*func(*Entry) // so too
	}
	listeners atomic.Int32

	flushes chan chan struct{}
	quit    chan struct{}
	done    chan struct{}
	once    sync.Once
	cancel  context.CancelFunc // of what the goroutine and the sinks do
}

func startDrain(l *Log, o Options) *drain {
	ctx, cancel := context.WithCancel(context.Background())
	d := &drain{
		log: l, renderer: o.Renderer, rates: newRates(orDefault(o.Rate, 1000)),
		flushes: make(chan chan struct{}), quit: make(chan struct{}), done: make(chan struct{}), cancel: cancel,
	}
	for _, s := range o.Sinks {
		d.sinks = append(d.sinks, startQueue(ctx, s, l))
	}
	go d.run(ctx)
	return d
}

// wanted reports whether anybody would read a record.
func (d *drain) wanted() bool { return len(d.sinks) > 0 || d.listeners.Load() > 0 }

func (d *drain) run(ctx context.Context) {
	defer close(d.done)
	timer := time.NewTimer(foldTime)
	timer.Stop()
	defer timer.Stop()
	armed := false
	for {
		select {
		case e := <-d.log.ring:
			d.take(ctx, e)
		case <-d.log.wake:
			if !armed {
				timer.Reset(foldTime)
				armed = true
			}
		case <-timer.C:
			if armed = d.closeFolds(ctx, d.log.now().Add(-foldTime)); armed {
				timer.Reset(foldTime)
			}
		case ack := <-d.flushes:
			d.empty(ctx)
			close(ack)
		case <-d.quit:
			d.empty(ctx)
			return
		}
	}
}

// empty takes what waits at this moment, repetitions included.
func (d *drain) empty(ctx context.Context) {
	for range len(d.log.ring) {
		d.take(ctx, <-d.log.ring)
	}
	d.closeFolds(ctx, d.log.now())
}

func (d *drain) closeFolds(ctx context.Context, before time.Time) (open bool) {
	rests, open := d.log.closeFolds(before)
	for _, e := range rests {
		d.take(ctx, e)
	}
	return open
}

// take renders e and passes it on.
func (d *drain) take(ctx context.Context, e *Entry) {
	stats := &d.log.stats
	if !d.rates.take(e, d.log.now()) {
		stats.overRate.Add(1)
		return
	}
	d.tap(e)
	ev, err := d.renderer.Render(ctx, e)
	switch {
	case errors.Is(err, ErrDropped):
		stats.ruledOut.Add(1)
		return
	case err == nil:
		err = ev.seal()
	}
	if err != nil {
		stats.failed.Add(1)
		d.log.log.Error("decision not recorded", "decision", e.Decision.ID, "err", err)
		return
	}
	stats.recorded.Add(1)
	if len(ev.Erased)+len(ev.Masked) > 0 {
		stats.masked.Add(1)
	}
	if ev.Custom.MaskFailed {
		stats.maskFailed.Add(1)
	}
	for _, q := range d.sinks {
		q.offer(ev)
	}
	if d.listeners.Load() > 0 {
		d.live.Lock()
		list := d.live.list
		d.live.Unlock()
		for _, s := range list {
			s.offer(ev)
		}
	}
}

func (d *drain) flush(ctx context.Context, sinks []Sink) error {
	ack := make(chan struct{})
	select {
	case d.flushes <- ack:
	case <-d.done:
		return errors.New("audit: closed")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-ack:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, q := range d.sinks {
		if len(sinks) > 0 && !slices.Contains(sinks, q.sink) {
			continue
		}
		if err := q.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close lets everything that waits be written until ctx ends, and returns when
// nothing of this package runs any more.
func (d *drain) close(ctx context.Context) error {
	d.once.Do(func() { close(d.quit) })
	defer d.cancel()
	stop := context.AfterFunc(ctx, d.cancel)
	defer stop()
	<-d.done
	var errs []error
	for _, q := range d.sinks {
		q.end()
	}
	for _, q := range d.sinks {
		errs = append(errs, q.wait(ctx))
	}
	d.live.Lock()
	list := d.live.list
	d.live.list = nil
	d.live.Unlock()
	for _, s := range list {
		s.end()
	}
	return errors.Join(errs...)
}

// Subscription is a live view of the log.
type Subscription struct {
	drain   *drain
	tenant  *Tenant
	filter  Filter
	events  chan *Event
	dropped atomic.Uint64
	guarded struct {
		sync.Mutex
		ended bool
	}
}

// Subscribe shows what is recorded from now on, of one tenant or, with nil, of all.
// Of a listener that is slower than the log, the newest are dropped. Close it.
func (l *Log) Subscribe(t *Tenant, f Filter) *Subscription {
	s := &Subscription{drain: l.drain, tenant: t, filter: f, events: make(chan *Event, 256)}
	d := l.drain
	d.live.Lock()
	defer d.live.Unlock()
	d.live.list = append(slices.Clone(d.live.list), s)
	d.listeners.Add(1)
	return s
}

// Events are closed when the subscription or the log is.
func (s *Subscription) Events() <-chan *Event { return s.events }

// Dropped counts what the listener was too slow for.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called again.
func (s *Subscription) Close() {
	d := s.drain
	d.live.Lock()
	if i := slices.Index(d.live.list, s); i >= 0 {
		d.live.list = slices.Delete(slices.Clone(d.live.list), i, i+1)
	}
	d.live.Unlock()
	s.end()
}

func (s *Subscription) end() {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if !s.guarded.ended {
		s.guarded.ended = true
		s.drain.listeners.Add(-1)
		close(s.events)
	}
}

func (s *Subscription) offer(ev *Event) {
	if s.tenant != nil && !s.tenant.owns(ev) || !s.filter.Matches(ev) {
		return
	}
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.ended {
		return
	}
	select {
	case s.events <- ev:
	default:
		s.dropped.Add(1)
	}
}

// rates bound what one organisation may have recorded.
type rates struct {
	perSecond float64
	buckets   map[policy.OrgID]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets is when those that are full again are forgotten.
const maxBuckets = 4096

func newRates(perSecond int) rates {
	return rates{perSecond: float64(perSecond), buckets: map[policy.OrgID]*bucket{}}
}

func (r rates) take(e *Entry, now time.Time) bool {
	full := 4 * r.perSecond
	b := r.buckets[e.org()]
	if b == nil {
		if len(r.buckets) >= maxBuckets {
			for org, b := range r.buckets {
				if now.Sub(b.at).Seconds()*r.perSecond >= full {
					delete(r.buckets, org)
				}
			}
		}
		b = &bucket{left: full, at: now}
		r.buckets[e.org()] = b
	}
	b.left = min(full, b.left+max(0, now.Sub(b.at).Seconds())*r.perSecond)
	b.at = now
	least := 1.0
	if e.Decision.Allow {
		least = full / 2
	}
	if b.left < least {
		return false
	}
	b.left--
	return true
}
