package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
	"github.com/cordon-mq/cordon/bench/peers"
)

// flow runs f and sums it up.
func (t *trial) flow(ctx context.Context, f load.Flow) (sample, error) {
	var own []time.Duration
	f.Probe = func() (time.Duration, error) {
		own = append(own, ownTime())
		return t.process.CPU()
	}
	out, err := f.Run(ctx)
	if err != nil {
		return nil, err
	}
	if out.Counted == 0 {
		return nil, errors.New("nothing was delivered")
	}
	if out.Duplicates > 0 {
		t.note(fmt.Sprintf("%s, %s: some messages came twice", t.id, t.peer.Name))
	}
	return sample{
		cpuPerMessage: micro(out.Used) / float64(out.Counted),
		perSecond:     out.Rate(),
		delivered:     100 * out.Share(),
		ownCPU:        micro(own[1]-own[0]) / float64(out.Counted),
		p50:           micro(out.Latency.Quantile(0.5)),
		p99:           micro(out.Latency.Quantile(0.99)),
	}, nil
}

// ownTime is the CPU that this process has used: the generator is the only part
// of it that works during a trial.
func ownTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it does not fail on Linux
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// fallbackRate is for a run without Mosquitto: messages a second.
const fallbackRate = 20_000

// openArrival sends at half of what Mosquitto carries at most. That is the
// median of its fan-in so far, or found now; then it stays for the whole run.
func (t *trial) openArrival(ctx context.Context, qos byte) (sample, error) {
	if t.open[qos] == 0 {
		most, err := t.mosquittoMaximum(ctx, qos)
		if err != nil {
			return nil, err
		}
		t.open[qos] = most / 2
		t.note(fmt.Sprintf("open arrival at QoS %d: %.0f messages/s", qos, t.open[qos]))
	}
	f := t.fanIn(qos, t.process.Plain)
	f.Window, f.Rate = 0, t.open[qos]
	return t.flow(ctx, f)
}

func (t *trial) mosquittoMaximum(ctx context.Context, qos byte) (rate float64, err error) {
	known := t.found.spread(fmt.Sprintf("fan-in-qos%d", qos), peers.Mosquitto, perSecond)
	if !math.IsNaN(known.Median) {
		return known.Median, nil
	}
	for _, p := range t.lab.Peers {
		if p.Name != peers.Mosquitto {
			continue
		}
		process, err := p.Start(ctx, false)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, process.Stop()) }()
		other := trial{bench: t.bench, benchCase: t.benchCase, peer: p, process: process}
		s, err := other.flow(ctx, other.fanIn(qos, process.Plain))
		return s[perSecond], err
	}
	t.note(fmt.Sprintf("open arrival: without Mosquitto, at %d messages/s", fallbackRate))
	return 2 * fallbackRate, nil
}

// uncovered is churn where each topic has to be judged by itself.
func (t *trial) uncovered(ctx context.Context) (s sample, err error) {
	t.process, err = t.peer.Uncovered().Start(ctx, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.process.Stop()) }()
	return t.flow(ctx, t.churn(t.process.Plain))
}

// The crowd beside fan-in.
const (
	crowdPerSession = 500 // subscriptions, the most that the default policies allow
	churnRate       = 200 // subscribe and unsubscribe, a second
)

// crowded is fan-in while others hold subscriptions that do not match, and one
// of them comes and goes.
func (t *trial) crowded(ctx context.Context) (sample, error) {
	sessions := max(1, t.size.crowd/crowdPerSession)
	per := t.size.crowd / sessions
	identities := make([]load.Identity, sessions+1)
	for i := range identities {
		identities[i] = t.peer.Application(fmt.Sprintf("crowd%d", i))
	}
	clients, err := load.Hold(ctx, t.process.Plain, identities)
	defer func() { _ = load.Release(clients) }()
	if err != nil {
		return nil, err
	}
	err = load.Crowd(ctx, clients[:sessions], per, func(i, k int) string {
		return peers.FilterOf(fmt.Sprintf("x%d-%d", i, k))
	})
	if err != nil {
		return nil, err
	}
	f := t.fanIn(0, t.process.Plain)
	f.Beside = func(ctx context.Context) error {
		_, err := load.Churn(ctx, clients[sessions], churnRate, func(n int) string { return peers.FilterOf(fmt.Sprintf("y%d", n)) })
		return err
	}
	return t.flow(ctx, f)
}

// pairsKept measures live pairs whose readers have persistent sessions. Then
// messages are left for absent readers, the broker is killed with kill -9 and
// started again, and what the sessions still have is counted.
func (t *trial) pairsKept(ctx context.Context) (sample, error) {
	f := t.fanIn(1, t.process.Plain)
	f.Publishers, f.Window, f.Keep = t.publishers(t.size.pairs), pairsWindow, true
	f.Readers = make([]load.Reader, t.size.pairs)
	for i := range f.Readers {
		f.Readers[i] = t.peer.ReaderOf(i)
	}
	s, err := t.flow(ctx, f)
	if err != nil {
		return nil, err
	}
	left, err := f.Leave(ctx, t.size.left)
	if err != nil {
		return nil, fmt.Errorf("messages for absent readers: %w", err)
	}
	t.process.Kill()
	if err := t.process.Restart(ctx); err != nil {
		return nil, fmt.Errorf("after kill -9: %w", err)
	}
	kept, err := left.Collect(ctx, t.process.Plain)
	if err != nil {
		return nil, fmt.Errorf("after kill -9: %w", err)
	}
	s[keptShare] = 100 * float64(kept) / float64(left.Acknowledged)
	return s, nil
}

// Memory stands still when it changed by less than this in so many looks: what a
// collector gives back comes some seconds after the last connection.
const (
	settleLook  = 500 * time.Millisecond
	settleLooks = 12
	settleShare = 0.005
)

// idleFirst connections come and go before memory is looked at: what a broker
// sets up once is not a connection's.
const idleFirst = 100

// idle is what the process grew by, per connection.
func (t *trial) idle(ctx context.Context, target load.Target) (sample, error) {
	identities := make([]load.Identity, t.size.idle)
	for i := range identities {
		identities[i] = t.peer.Device(i)
	}
	first, err := load.Hold(ctx, target, identities[:idleFirst])
	if err := errors.Join(err, load.Release(first)); err != nil {
		return nil, err
	}
	before, err := t.settled(ctx)
	if err != nil {
		return nil, err
	}
	clients, err := load.Hold(ctx, target, identities)
	defer func() { _ = load.Release(clients) }()
	if err != nil {
		return nil, err
	}
	after, err := t.settled(ctx)
	return sample{bytesPerConn: float64(after-before) / float64(len(clients)) / 1000}, err
}

// settled returns the resident bytes once they stand still, or size.settle has passed.
func (t *trial) settled(ctx context.Context) (int64, error) {
	last, err := t.process.Resident()
	if err != nil {
		return 0, err
	}
	for end, still := time.Now().Add(t.size.settle), 0; time.Now().Before(end); {
		timer := time.NewTimer(settleLook)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		}
		now, err := t.process.Resident()
		if err != nil {
			return 0, err
		}
		if math.Abs(float64(now-last)) >= settleShare*float64(last) {
			last, still = now, 0
			continue
		}
		if still++; still == settleLooks {
			return now, nil
		}
	}
	return last, nil
}

// stormWorkers is how many connections are made at a time: enough to keep two
// cores busy.
const stormWorkers = 16

func (t *trial) storm(ctx context.Context, target load.Target) (sample, error) {
	identities := make([]load.Identity, t.size.many)
	for i := range identities {
		identities[i] = t.peer.Device(i)
	}
	return t.stormOf(ctx, target, identities)
}

// unmonitored is storm against the program without its monitor.
func (t *trial) unmonitored(ctx context.Context) (s sample, err error) {
	peer, err := t.peer.Unmonitored(ctx)
	if err != nil {
		return nil, err
	}
	if t.process, err = peer.Start(ctx, false); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.process.Stop()) }()
	return t.storm(ctx, t.process.Plain)
}

// pluggedStorm is storm with tokens that a plugin checks, and whose answers are
// remembered.
func (t *trial) pluggedStorm(ctx context.Context, target load.Target) (sample, error) {
	identities := make([]load.Identity, t.size.many)
	for i := range identities {
		who, ok := t.peer.Plugged(i)
		if !ok {
			return nil, fmt.Errorf("%s has no plugins", t.peer.Name)
		}
		identities[i] = who
	}
	return t.stormOf(ctx, target, identities)
}

func (t *trial) stormOf(ctx context.Context, target load.Target, identities []load.Identity) (sample, error) {
	out, err := load.Storm{
		Target: target, Identities: identities, Workers: stormWorkers,
		Warm: t.size.warm, Span: t.size.storm, Probe: t.process.CPU,
	}.Run(ctx)
	if err != nil {
		return nil, err
	}
	return sample{
		connects:      out.Rate(),
		cpuPerConnect: micro(out.Used) / float64(max(out.Counted, 1)),
		p50:           micro(out.Latency.Quantile(0.5)),
		p99:           micro(out.Latency.Quantile(0.99)),
	}, nil
}
