package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// stallConfig is what the stall trial is run with.
type stallConfig struct {
	binary  string
	pairs   int
	stalled int
	rate    int // messages a second of each pair
	payload int
	runs    int
	lead    time.Duration
	span    time.Duration
}

// stallGoal is the most by which stalled readers may slow others down: the
// ratio of the medians of the 99th percentiles.
const stallGoal = 1.5

func stallCommand(ctx context.Context, args []string, out io.Writer) error {
	var c stallConfig
	flags := flag.NewFlagSet("stall", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.pairs, "pairs", 20, "publishers, each with a reader that reads")
	flags.IntVar(&c.stalled, "stalled", 100, "readers of everything that stop reading, QoS 0 and 1")
	flags.IntVar(&c.rate, "rate", 50, "messages a second of each pair")
	flags.IntVar(&c.payload, "payload", 1024, "bytes of each message")
	flags.IntVar(&c.runs, "runs", 5, "how often each case runs, in turn")
	flags.DurationVar(&c.lead, "lead", 4*time.Second, "load before each measurement, so that buffers are full")
	flags.DurationVar(&c.span, "span", 8*time.Second, "of each measurement")
	if err := errors.Join(parse(flags, args), atLeast(1, c.pairs, "pairs"), atLeast(1, c.stalled, "stalled"),
		atLeast(1, c.rate, "rate"), atLeast(1, c.runs, "runs"), atLeast(1, int(c.span/time.Second), "span")); err != nil {
		return err
	}
	found, err := stall(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// stallFound is what the stall trial found.
type stallFound struct {
	stallConfig
	alone, beside stallRuns // without and with readers that stop
	faults        []string
}

// stallRuns are the runs of one case.
type stallRuns struct {
	p50, p99 []float64 // ms, of each run
	sent     int
	missing  int
	cpu      []float64 // share of one processor
	resident int64     // at the end of the last
}

// ratio is how many times longer the 99th percentile is beside stalled readers.
func (f *stallFound) ratio() float64 {
	return report.SpreadOf(f.beside.p99).Median / report.SpreadOf(f.alone.p99).Median
}

func (f *stallFound) verdict() error {
	if f.ratio() <= stallGoal && f.alone.missing+f.beside.missing == 0 && len(f.faults) == 0 {
		return nil
	}
	return errBroken
}

// summary is the page.
func (f *stallFound) summary() *summary {
	s := &summary{}
	s.title("%d pairs beside %d readers that stop", f.pairs, f.stalled)
	s.text("QoS 0, %d messages/s of %d bytes for each pair; the stalled readers subscribe to all of them. %d runs of each case in turn, %s each after %s.",
		f.rate, f.payload, f.runs, f.span, f.lead)
	var rows [][]string
	for _, c := range []struct {
		name string
		runs *stallRuns
	}{{"pairs alone", &f.alone}, {"beside stalled readers", &f.beside}} {
		rows = append(rows, []string{
			c.name, report.SpreadOf(c.runs.p50).String(), report.SpreadOf(c.runs.p99).String(), listed(c.runs.p99),
			report.SpreadOf(c.runs.cpu).String(), megabytes(c.runs.resident), count(c.runs.sent), count(c.runs.missing),
		})
	}
	s.table([]string{"", "p50, ms", "p99, ms", "p99 of each run", "CPU, processors", "RSS at the end", "messages", "missing"}, rows)
	s.text("Ratio of the medians of p99: **%.2f** (goal: at most %.1f).", f.ratio(), stallGoal)
	s.list("Errors logged", f.faults)
	return s
}

func listed(values []float64) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = report.Number(v)
	}
	return strings.Join(texts, ", ")
}

// stall runs the trial.
func stall(ctx context.Context, c stallConfig) (*stallFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	found := &stallFound{stallConfig: c}
	t := &stallTrial{stallConfig: c, program: program, broker: b}
	for i := range c.runs {
		for _, with := range []bool{false, true} {
			runs, stalled := &found.alone, 0
			if with {
				runs, stalled = &found.beside, c.stalled
			}
			if err := t.run(ctx, runs, stalled); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
			}
			say("run %d of %d with %d stalled: p99 %s ms", i+1, c.runs, stalled, report.Number(runs.p99[i]))
		}
	}
	found.faults, _ = b.log.faults()
	return found, b.stop()
}

// stallTrial is what every run shares.
type stallTrial struct {
	stallConfig
	program *program
	broker  *broker
}

func (t *stallTrial) topic(i int) string {
	return fmt.Sprintf("iot-2/type/stall/id/p%d/evt/e/fmt/bin", i)
}

// run measures once.
func (t *stallTrial) run(ctx context.Context, runs *stallRuns, stalled int) error {
	var conns []*client.Conn
	cut := func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	var readers, publishers sync.WaitGroup
	defer readers.Wait()
	defer publishers.Wait()
	defer cut() // first: it ends them all
	dial := func(name string, buffer int, subscribe func(*client.Conn) error) (*client.Conn, error) {
		who := t.program.application(name, wire.V311, true)
		who.ReadBuffer = buffer
		conn, err := client.Dial(ctx, who)
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
		return conn, subscribe(conn)
	}
	for i := range stalled {
		everything := func(c *client.Conn) error { return c.Subscribe(byte(i%2), nil, "iot-2/type/stall/id/+/evt/+/fmt/bin") }
		if _, err := dial("stalled"+itoa(i), 4096, everything); err != nil {
			return err
		}
	}
	var reading, publishing []*client.Conn
	for i := range t.pairs {
		own := func(c *client.Conn) error { return c.Subscribe(0, nil, t.topic(i)) }
		reader, err := dial("reader"+itoa(i), 0, own)
		if err != nil {
			return err
		}
		publisher, err := dial("publisher"+itoa(i), 0, func(*client.Conn) error { return nil })
		if err != nil {
			return err
		}
		reading, publishing = append(reading, reader), append(publishing, publisher)
	}

	clock := stallClock{zero: time.Now().Add(lookEvery), from: uint64(t.led()), to: uint64(t.led() + t.measured())}
	latencies, errs := make([][]time.Duration, t.pairs), make([]error, t.pairs)
	for i := range t.pairs {
		readers.Go(func() { latencies[i] = clock.measure(reading[i]) })
		publishers.Go(func() { errs[i] = t.publish(ctx, publishing[i], i, clock) })
	}
	if err := pause(ctx, t.lead); err != nil {
		return err
	}
	before, err := usageOf(t.broker.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	publishers.Wait()
	after, err := usageOf(t.broker.pid())
	if err != nil {
		return err
	}
	span := time.Since(began)
	timer := time.AfterFunc(patience, cut) // for readers that miss the last message
	readers.Wait()
	timer.Stop()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	runs.sent += t.pairs * t.measured()
	runs.missing += t.pairs*t.measured() - len(all)
	runs.p50 = append(runs.p50, milliseconds(quantile(all, 0.50)))
	runs.p99 = append(runs.p99, milliseconds(quantile(all, 0.99)))
	runs.cpu = append(runs.cpu, (after.cpu-before.cpu).Seconds()/span.Seconds())
	runs.resident = after.resident
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (t *stallTrial) every() time.Duration { return time.Second / time.Duration(t.rate) }

// measured is how many messages of a publisher count: those after led.
func (t *stallTrial) measured() int { return int(t.span / t.every()) }

func (t *stallTrial) led() int { return int(t.lead / t.every()) }

// publish sends at its rate, whatever becomes of the messages, and stamps them
// with the time at which each was due: lateness of the sender counts too. One
// more than is measured tells the reader that it was the last.
func (t *stallTrial) publish(ctx context.Context, conn *client.Conn, i int, clock stallClock) error {
	offset := t.every() * time.Duration(i) / time.Duration(t.pairs)
	due := func(n uint64) time.Duration { return offset + t.every()*time.Duration(n) }
	sender := client.Sender{Version: wire.V311, Message: func(n uint64) client.Message {
		return client.Message{Topic: t.topic(i), Payload: client.Stamp{Number: n, Sent: int64(due(n))}.Payload(t.payload)}
	}}
	for n := range uint64(t.led() + t.measured() + 1) {
		if err := pause(ctx, time.Until(clock.zero.Add(due(n)))); err != nil {
			return err
		}
		if err := conn.Write(sender.Publish(nil)); err != nil {
			return err
		}
	}
	return nil
}

// stallClock says which messages of a run count.
type stallClock struct {
	zero     time.Time // times are after it
	from, to uint64    // numbers: from, and before to
}

// measure reads until the message after the last that counts, or the end of the
// connection.
func (c stallClock) measure(conn *client.Conn) (latencies []time.Duration) {
	for {
		m, err := conn.Next()
		if err != nil {
			return latencies
		}
		stamp, err := client.ParseStamp(m.Payload)
		switch {
		case err != nil || stamp.Number >= c.to:
			return latencies
		case stamp.Number >= c.from:
			latencies = append(latencies, time.Since(c.zero)-time.Duration(stamp.Sent))
		}
	}
}
