package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Storm connects and disconnects, over and over: CONNECT, CONNACK, DISCONNECT,
// and the wait for the broker to close. Over TLS each connection is a full handshake.
type Storm struct {
	Target     Target
	Identities []Identity // at least one for each worker; none is connected twice at a time
	Workers    int        // connections at a time
	// Before Span is measured Warm passes, and every identity connects twice: a
	// broker may remember what it has checked.
	Warm, Span time.Duration
	Probe      func() (time.Duration, error) // as in Flow
}

// Run storms for Warm and Span. Latency is that of a connect alone.
func (s Storm) Run(ctx context.Context) (out Outcome, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var connects atomic.Int64
	var work sync.WaitGroup
	stop := make(chan struct{})
	latencies := make([]*Latency, s.Workers)
	for w := range s.Workers {
		latencies[w] = NewLatency()
		work.Go(func() {
			if err := s.storm(ctx, stop, w, &connects, latencies[w]); err != nil {
				cancel(err)
			}
		})
	}
	out, err = s.measure(ctx, &connects)
	close(stop)
	work.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	out.Due, out.Delivered = connects.Load(), connects.Load()
	out.Latency = NewLatency()
	for _, l := range latencies {
		out.Latency.Add(l)
	}
	return out, err
}

func (s Storm) storm(ctx context.Context, stop <-chan struct{}, worker int, connects *atomic.Int64, latency *Latency) error {
	for i := worker; ; i += s.Workers {
		select {
		case <-stop:
			return nil
		default:
		}
		if i >= len(s.Identities) {
			i = worker
		}
		started := time.Now()
		c, err := Connect(ctx, s.Target, s.Identities[i], true)
		if err != nil {
			return err
		}
		latency.Record(time.Since(started))
		connects.Add(1)
		if err := c.Disconnect(); err != nil {
			return err
		}
	}
}

func (s Storm) measure(ctx context.Context, connects *atomic.Int64) (out Outcome, err error) {
	var used [2]time.Duration
	var counted [2]int64
	var at [2]time.Time
	known := func() bool { return connects.Load() >= 2*int64(len(s.Identities)) }
	for i, wait := range []func() error{
		func() error { return warmUp(ctx, s.Warm, known) },
		func() error { return pause(ctx, s.Span) },
	} {
		if err := wait(); err != nil {
			return out, err
		}
		if s.Probe != nil {
			if used[i], err = s.Probe(); err != nil {
				return out, err
			}
		}
		counted[i], at[i] = connects.Load(), time.Now()
	}
	return Outcome{Counted: counted[1] - counted[0], Span: at[1].Sub(at[0]), Used: used[1] - used[0]}, nil
}
