package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// startupConfig is what the startup trial is run with.
type startupConfig struct {
	binary   string
	sessions int
	queued   int
	bodies   string
	starts   int
}

// What queues hold.
const (
	ownBodies    = "own"    // each message is for one session
	sharedBodies = "shared" // each message is for all of them
	mixedBodies  = "mixed"  // half and half, for which a session has two subscriptions
)

func startupCommand(ctx context.Context, args []string, out io.Writer) error {
	var c startupConfig
	flags := flag.NewFlagSet("startup", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.sessions, "sessions", 50_000, "kept sessions that are offline")
	flags.IntVar(&c.queued, "queued", 20, "messages that wait in each, QoS 1")
	flags.StringVar(&c.bodies, "bodies", mixedBodies, "own, shared (one message in every queue) or mixed (half each)")
	flags.IntVar(&c.starts, "starts", 3, "how often the broker is killed and started")
	err := errors.Join(parse(flags, args), atLeast(1, c.sessions, "sessions"), atLeast(0, c.queued, "queued"), atLeast(1, c.starts, "starts"))
	if c.bodies != ownBodies && c.bodies != sharedBodies && c.bodies != mixedBodies {
		say("-bodies is own, shared or mixed")
		err = errors.Join(err, errUsage)
	}
	if err != nil {
		return err
	}
	found, err := startup(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// startupFound is what the startup trial found.
type startupFound struct {
	startupConfig
	before int64 // RSS of the broker that was killed
	folder int64 // of the data, when it was
	starts []start
	short  int // sessions of the sample whose queue was not whole
	sample int
	faults []string
}

// start is one of them.
type start struct {
	ready    time.Duration // from exec to the line that says so
	restored restored
	resident int64 // when it was ready
	settled  int64 // startRest later
	cpu      time.Duration
}

const (
	startRest     = 5 * time.Second
	startupSample = 100 // sessions that are looked into at the end
)

func (f *startupFound) verdict() error {
	for _, s := range f.starts {
		if s.restored.sessions != f.sessions || s.restored.messages != f.sessions*f.queued {
			return errBroken
		}
	}
	if f.short > 0 || len(f.faults) > 0 {
		return errBroken
	}
	return nil
}

// summary is the page.
func (f *startupFound) summary() *summary {
	s := &summary{}
	s.title("Start with %s kept sessions", count(f.sessions))
	s.text("%d messages in each, bodies %s, QoS 1, 64 bytes. Data folder %s; the broker that was killed had %s in memory.",
		f.queued, f.bodies, megabytes(f.folder), megabytes(f.before))
	var rows [][]string
	for i, start := range f.starts {
		rows = append(rows, []string{
			itoa(i + 1), start.ready.Round(time.Millisecond).String(), start.restored.took.String(),
			count(start.restored.sessions), count(start.restored.messages), start.cpu.String(),
			megabytes(start.resident), megabytes(start.settled),
		})
	}
	s.table([]string{"start", "ready after", "restore took", "sessions", "messages", "CPU", "RSS when ready", "RSS " + startRest.String() + " later"}, rows)
	s.text("Of %d sessions looked into, %d had not got their whole queue.", f.sample, f.short)
	s.list("Errors logged", f.faults)
	return s
}

// startup runs the trial.
func startup(ctx context.Context, c startupConfig) (found *startupFound, err error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { b.kill() }()
	t := &startupTrial{startupConfig: c, program: program}
	if err := t.fill(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	found = &startupFound{startupConfig: c}
	u, err := usageOf(b.pid())
	if err != nil {
		return nil, err
	}
	found.before = u.resident
	if found.folder, err = folderSize(program.data); err != nil {
		return nil, err
	}
	for i := range c.starts {
		b.kill()
		say("start %d of %d", i+1, c.starts)
		if b, err = program.run(ctx); err != nil {
			return nil, err
		}
		s, err := look(ctx, b)
		if err != nil {
			return nil, err
		}
		lines, _ := b.log.faults()
		found.starts, found.faults = append(found.starts, s), append(found.faults, lines...)
	}
	found.sample = min(c.sessions, startupSample)
	found.short, err = t.short(ctx, found.sample)
	return found, errors.Join(err, b.stop())
}

// look measures a broker that has just become ready.
func look(ctx context.Context, b *broker) (s start, err error) {
	if s.ready, err = b.ready(ctx); err != nil {
		return s, err
	}
	u, err := usageOf(b.pid())
	if err != nil {
		return s, err
	}
	s.restored, s.resident, s.cpu = b.log.found(), u.resident, u.cpu
	if err := pause(ctx, startRest); err != nil {
		return s, err
	}
	u, err = usageOf(b.pid())
	s.settled = u.resident
	return s, err
}

// startupTrial fills the data folder.
type startupTrial struct {
	startupConfig
	program *program
}

func (t *startupTrial) own() int {
	switch t.bodies {
	case ownBodies:
		return t.queued
	case sharedBodies:
		return 0
	}
	return t.queued / 2
}

const sharedTopic = "iot-2/type/all/id/all/cmd/c/fmt/bin"

func ownTopic(i int) string { return fmt.Sprintf("iot-2/type/own/id/s%d/cmd/c/fmt/bin", i) }

// filters are those of session i; one is enough where all messages are alike.
func (t *startupTrial) filters(i int) (filters []string) {
	if t.own() > 0 || t.queued == 0 {
		filters = append(filters, ownTopic(i))
	}
	if t.own() < t.queued {
		filters = append(filters, sharedTopic)
	}
	return filters
}

// loopback is one of a few addresses to connect from: one has ports for 28 000
// connections, those that ended a moment ago among them.
func loopback(i int) net.IP {
	const addresses = 8
	return net.IPv4(127, 0, 0, byte(2+i%addresses))
}

func (t *startupTrial) session(i int) client.Config {
	who := t.program.application("s"+itoa(i), versionOf(i), false)
	who.Local = loopback(i)
	return who
}

// connecting is how many clients connect at a time while nobody measures.
const connecting = 64

// fill makes the sessions and their queues.
func (t *startupTrial) fill(ctx context.Context) error {
	say("making %d sessions", t.sessions)
	err := each(ctx, t.sessions, connecting, func(i int) error {
		conn, err := client.Dial(ctx, t.session(i))
		if err != nil {
			return err
		}
		if err := conn.Subscribe(1, nil, t.filters(i)...); err != nil {
			return errors.Join(err, conn.Close())
		}
		return conn.Disconnect()
	})
	if err != nil {
		return err
	}
	own, shared := t.own()*t.sessions, t.queued-t.own()
	say("publishing %d messages for one session each and %d for all", own, shared)
	const publishers, window = 8, 50
	err = each(ctx, publishers, publishers, func(i int) error {
		from, to := own/publishers*i, own/publishers*(i+1)
		if i == publishers-1 {
			to = own
		}
		return t.publish(ctx, i, to-from, window, func(n uint64) string { return ownTopic((from + int(n)) % t.sessions) })
	})
	if err != nil {
		return err
	}
	return t.publish(ctx, publishers, shared, 1, func(uint64) string { return sharedTopic })
}

// publish sends messages at QoS 1 and waits for all acknowledgements.
func (t *startupTrial) publish(ctx context.Context, i, messages, window int, topic func(n uint64) string) error {
	if messages == 0 {
		return nil
	}
	conn, err := client.Dial(ctx, t.program.application("p"+itoa(i), wire.V311, true))
	if err != nil {
		return err
	}
	unbind := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unbind()
	sender := &client.Sender{Version: wire.V311, QoS: 1, Message: func(n uint64) client.Message {
		return client.Message{Topic: topic(n), Payload: client.Stamp{Publisher: uint32(i), Number: n}.Payload(crashPayload)}
	}}
	var out []byte
	for sender.InFlight() > 0 || sender.Sent() < uint64(messages) {
		for sender.InFlight() < window && sender.Sent() < uint64(messages) {
			out = sender.Publish(out)
		}
		if err := conn.Write(out); err != nil {
			return errors.Join(err, conn.Close())
		}
		answer, err := conn.Next()
		if err == nil {
			out, _, _, err = sender.Handle(out[:0], answer)
		}
		if err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	return conn.Disconnect()
}

// short resumes a sample of sessions and counts those that do not get their
// whole queue.
func (t *startupTrial) short(ctx context.Context, sample int) (short int, err error) {
	for n := range sample {
		i := n * (t.sessions / sample)
		who := t.session(i)
		who.AnswerTime = patience
		whole, err := t.whole(ctx, who)
		if err != nil {
			return short, fmt.Errorf("session %d: %w", i, err)
		}
		if !whole {
			short++
		}
	}
	return short, nil
}

// whole resumes a session and reports whether its queue comes: everything that
// was to be in it, within patience.
func (t *startupTrial) whole(ctx context.Context, who client.Config) (bool, error) {
	conn, err := client.Dial(ctx, who)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if !conn.Present {
		return false, nil
	}
	unbind := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unbind()
	var receiver client.Receiver
	got := 0
	timer := time.AfterFunc(patience, func() { _ = conn.Close() })
	defer timer.Stop()
	for got < t.queued {
		m, err := conn.Next()
		if err != nil {
			return false, ctx.Err() // it got no more, which is the answer
		}
		out, fresh := receiver.Handle(nil, conn.Version, m)
		if fresh {
			got++
		}
		if err := conn.Write(out); err != nil {
			return false, err
		}
	}
	return true, conn.Disconnect()
}
