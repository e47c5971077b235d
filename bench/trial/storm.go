package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
)

// stormConfig is what the storm trial is run with.
type stormConfig struct {
	binary     string
	clients    int
	tls        bool
	alive      bool
	maxPending int
	within     time.Duration
}

func stormCommand(ctx context.Context, args []string, out io.Writer) error {
	var c stormConfig
	flags := flag.NewFlagSet("storm", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.clients, "clients", 18_000, "how many, half with kept sessions; each takes a descriptor here and in the broker")
	flags.BoolVar(&c.tls, "tls", false, "over TLS, full handshakes")
	flags.BoolVar(&c.alive, "alive", false, "cut the clients and leave the broker alone, instead of killing it")
	flags.IntVar(&c.maxPending, "max-pending", 20_000, "as serve takes it; its default is 8192")
	flags.DurationVar(&c.within, "within", 3*time.Minute, "after which a client counts as failed")
	if err := errors.Join(parse(flags, args), atLeast(2, c.clients, "clients"), atLeast(1, c.maxPending, "max-pending")); err != nil {
		return err
	}
	found, err := storm(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// stormFound is what the storm trial found.
type stormFound struct {
	stormConfig
	start    time.Duration   // of the broker, before anybody connects again
	back     []time.Duration // when each client was, sorted
	attempts int             // that failed and were repeated
	failed   int             // clients that never came back
	lost     int             // kept sessions that were not there
	cpu      time.Duration   // of the broker, until all were back
	before   int64           // RSS with everybody connected, before the storm
	peak     int64
	settled  int64 // stormRest after the last
	reasons  []string
	faults   []string
}

const stormRest = 10 * time.Second

func (f *stormFound) verdict() error {
	if f.failed > 0 || f.lost > 0 || len(f.faults) > 0 {
		return errBroken
	}
	return nil
}

// summary is the page.
func (f *stormFound) summary() *summary {
	s := &summary{}
	listener, event := "plain", "after kill -9"
	if f.tls {
		listener = "TLS"
	}
	if f.alive {
		event = "the broker lives"
	}
	s.title("%s clients reconnect at once, %s, %s", count(f.clients), listener, event)
	s.text("Half clean, which subscribe again, half with a kept session and its subscription. `--max-pending %d`; loopback addresses have no limit on connects. Clients run on the same processors.", f.maxPending)
	rows := [][]string{{"broker ready after", f.start.Round(time.Millisecond).String()}}
	for _, share := range []float64{0.5, 0.99, 1} {
		rows = append(rows, []string{fmt.Sprintf("%g %% of clients back after", 100*share), quantile(f.back, share).Round(time.Millisecond).String()})
	}
	rows = append(rows,
		[]string{"attempts that failed and were repeated", count(f.attempts)},
		[]string{"**clients that failed**", count(f.failed)},
		[]string{"**kept sessions lost**", count(f.lost)},
		[]string{"CPU of the broker", f.cpu.String()},
		[]string{"CPU for each client", (f.cpu / time.Duration(f.clients)).Round(time.Microsecond).String()},
		[]string{"RSS before", megabytes(f.before)},
		[]string{"RSS at its peak", megabytes(f.peak)},
		[]string{"RSS " + stormRest.String() + " later", megabytes(f.settled)},
	)
	s.table([]string{"", ""}, rows)
	s.list("Why attempts failed", f.reasons)
	s.list("Errors logged", f.faults)
	return s
}

// quantile of sorted values; 0 where there are none.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// storm runs the trial.
func storm(ctx context.Context, c stormConfig) (found *stormFound, err error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	program.args = []string{"--max-pending", itoa(c.maxPending)}
	if c.tls {
		if program.mqtts, err = listenAddress(); err != nil {
			return nil, err
		}
	}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { b.kill() }()
	t := &stormTrial{stormConfig: c, program: program, conns: make([]*client.Conn, c.clients), found: &stormFound{stormConfig: c}}
	defer t.cut()
	if c.tls {
		if t.trust, err = program.tlsConfig(); err != nil {
			return nil, err
		}
	}
	say("connecting %d clients", c.clients)
	if err := each(ctx, c.clients, connecting, func(i int) error { return t.connect(ctx, i, true) }); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	u, err := usageOf(b.pid())
	if err != nil {
		return nil, err
	}
	t.found.before = u.resident
	if c.alive {
		t.cut()
	} else {
		b.kill()
		t.cut()
		if b, err = program.run(ctx); err != nil {
			return nil, err
		}
		if t.found.start, err = b.ready(ctx); err != nil {
			return nil, err
		}
		u = usage{} // another process
	}
	say("everybody reconnects")
	if err := t.rush(ctx); err != nil {
		return nil, err
	}
	after, err := usageOf(b.pid())
	if err != nil {
		return nil, err
	}
	t.found.cpu, t.found.peak = after.cpu-u.cpu, after.peak
	if err := pause(ctx, stormRest); err != nil {
		return nil, err
	}
	if after, err = usageOf(b.pid()); err != nil {
		return nil, err
	}
	t.found.settled = after.resident
	t.found.faults, _ = b.log.faults()
	t.cut()
	return t.found, b.stop()
}

// stormTrial is all clients.
type stormTrial struct {
	stormConfig
	program *program
	trust   *tls.Config
	conns   []*client.Conn // each written by its own goroutine

	guarded struct {
		sync.Mutex
		reasons map[string]int
	}
	found *stormFound
}

func (t *stormTrial) cut() {
	for i, conn := range t.conns {
		if conn != nil {
			_ = conn.Close()
			t.conns[i] = nil
		}
	}
}

// errLost is a kept session that is not there any more.
var errLost = errors.New("the kept session is lost")

// connect makes one connection that is subscribed. A kept session that is not
// new is subscribed already.
func (t *stormTrial) connect(ctx context.Context, i int, first bool) error {
	clean := i%2 == 0
	who := t.program.application("c"+itoa(i), versionOf(i/2), clean)
	who.Local, who.TLS, who.AnswerTime = loopback(i), t.trust, t.within
	if t.tls {
		who.Address = t.program.mqtts
	} else {
		who.ReadBuffer = 4096
	}
	conn, err := client.Dial(ctx, who)
	if err != nil {
		return err
	}
	if clean || first || !conn.Present {
		err = conn.Subscribe(1, func(*client.Packet) error { return nil }, fmt.Sprintf("iot-2/type/storm/id/c%d/cmd/+/fmt/+", i))
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	t.conns[i] = conn
	if !clean && !first && !conn.Present {
		return errLost
	}
	return nil
}

// retryAfter is about how long a client waits after a failure.
const retryAfter = 200 * time.Millisecond

// rush lets everybody connect at once, each until it is back.
func (t *stormTrial) rush(ctx context.Context) error {
	all, cancel := context.WithTimeout(ctx, t.within)
	defer cancel()
	t.guarded.reasons = make(map[string]int)
	back := make([]time.Duration, t.clients) // 0: never
	var work sync.WaitGroup
	started := time.Now()
	for i := range t.clients {
		work.Go(func() {
			for {
				err := t.connect(all, i, false)
				if err == nil || errors.Is(err, errLost) {
					back[i] = time.Since(started)
				}
				if err == nil {
					return
				}
				t.note(err)
				again := retryAfter/2 + time.Duration(rand.Int64N(int64(retryAfter))) //nolint:gosec // only to be apart from others
				if back[i] > 0 || pause(all, again) != nil {
					return
				}
			}
		})
	}
	work.Wait()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	t.sum(back)
	return nil
}

func (t *stormTrial) note(err error) {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if errors.Is(err, errLost) {
		t.found.lost++
		return
	}
	t.found.attempts++
	t.guarded.reasons[cause(err)]++
}

// cause is an error without what differs from client to client.
func cause(err error) string {
	var refused *client.RefusedError
	var system syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &system):
		return system.Error()
	case errors.Is(err, io.EOF):
		return "closed by the broker"
	case errors.As(err, &network) && network.Timeout():
		return "timed out"
	}
	return "other"
}

func (t *stormTrial) sum(back []time.Duration) {
	for _, d := range back {
		if d == 0 {
			t.found.failed++
		} else {
			t.found.back = append(t.found.back, d)
		}
	}
	slices.Sort(t.found.back)
	for reason, n := range t.guarded.reasons {
		t.found.reasons = append(t.found.reasons, fmt.Sprintf("%s: %d", reason, n))
	}
	slices.Sort(t.found.reasons)
}
