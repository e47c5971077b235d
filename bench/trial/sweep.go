package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
)

// sweepConfig is what the sweep trial is run with.
type sweepConfig struct {
	binary     string
	sessions   int
	filters    int // of each session
	rounds     int // activations that are measured
	pairs      int // whose messages are timed meanwhile
	rate       int // messages a second of each pair
	lead, span time.Duration

	publishers int // while revisions are switched
	switchRate int // messages a second of all publishers
	switchFor  time.Duration
	switchGap  time.Duration
}

// What an activation is to keep.
const (
	sweepGoal     = 4 * time.Second // until every session was judged again
	callGoal      = 100 * time.Millisecond
	besideGoal    = 1.5 // ratio of the 99th percentiles, during and before
	switchWindow  = 50  // messages in flight of each publisher
	sweepPatience = time.Minute
)

func sweepCommand(ctx context.Context, args []string, out io.Writer) error {
	var c sweepConfig
	flags := flag.NewFlagSet("sweep", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.sessions, "sessions", 10_000, "that are judged again; each takes a descriptor here and in the broker")
	flags.IntVar(&c.filters, "filters", 10, "subscriptions of each session")
	flags.IntVar(&c.rounds, "rounds", 5, "activations that are measured; each takes one filter away, so at most -filters")
	flags.IntVar(&c.pairs, "pairs", 10, "publishers, each with a reader, that are timed meanwhile")
	flags.IntVar(&c.rate, "rate", 100, "messages a second of each pair")
	flags.DurationVar(&c.lead, "lead", 3*time.Second, "load before each measurement")
	flags.DurationVar(&c.span, "span", 8*time.Second, "of the baseline")
	flags.IntVar(&c.publishers, "publishers", 20, "while revisions are switched, each with a reader")
	flags.IntVar(&c.switchRate, "switch-rate", 5000, "messages a second of all publishers")
	flags.DurationVar(&c.switchFor, "switch-for", 30*time.Second, "how long revisions are switched")
	flags.DurationVar(&c.switchGap, "switch-gap", 200*time.Millisecond, "between two switches")
	if err := errors.Join(parse(flags, args), atLeast(1, c.sessions, "sessions"), atLeast(1, c.filters, "filters"), atLeast(1, c.rounds, "rounds"),
		atLeast(1, c.filters-c.rounds+1, "filters"), atLeast(1, c.pairs, "pairs"), atLeast(1, c.rate, "rate"),
		atLeast(1, c.publishers, "publishers"), atLeast(c.publishers, c.switchRate, "switch-rate")); err != nil {
		return err
	}
	found, err := sweep(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// sweepRound is one activation.
type sweepRound struct {
	call   time.Duration // until the operator's door answered
	judged time.Duration // until every session was, from the beginning of the call
	half   time.Duration // until half of them were
	cpu    time.Duration // of the broker, until then
	beside []time.Duration
}

// sweepFound is what the sweep trial found.
type sweepFound struct {
	sweepConfig
	alone    []time.Duration // latencies before any activation, sorted
	rounds   []sweepRound
	resident int64 // with every session connected

	switches int
	calls    []time.Duration // sorted
	balance  switchBalance
	faults   []string
}

func (f *sweepFound) worst(of func(sweepRound) time.Duration) (most time.Duration) {
	for _, r := range f.rounds {
		most = max(most, of(r))
	}
	return most
}

// beside are the latencies while sessions were judged, of all rounds, sorted.
func (f *sweepFound) beside() (all []time.Duration) {
	for _, r := range f.rounds {
		all = append(all, r.beside...)
	}
	slices.Sort(all)
	return all
}

func (f *sweepFound) ratio() float64 {
	return milliseconds(quantile(f.beside(), 0.99)) / max(milliseconds(quantile(f.alone, 0.99)), 0.001)
}

// right reports whether every message was treated as the revisions say, which
// does not depend on the machine.
func (f *sweepFound) right() bool { return f.balance.right() && len(f.faults) == 0 }

func (f *sweepFound) verdict() error {
	if f.right() && f.ratio() <= besideGoal &&
		f.worst(func(r sweepRound) time.Duration { return r.judged }) <= sweepGoal &&
		f.worst(func(r sweepRound) time.Duration { return r.call }) <= callGoal {
		return nil
	}
	return errBroken
}

// summary is the page.
func (f *sweepFound) summary() *summary {
	s := &summary{}
	s.title("%s sessions with %d subscriptions each are judged again", count(f.sessions), f.filters)
	s.text("Each revision takes one filter from every session, so a session counts as judged when the log says that it lost it. %d pairs publish %d messages/s each at QoS 0 meanwhile. RSS %s.",
		f.pairs, f.rate, megabytes(f.resident))
	var rows [][]string
	for i, r := range f.rounds {
		slices.Sort(r.beside)
		rows = append(rows, []string{
			fmt.Sprintf("activation %d", i+1), r.call.Round(time.Millisecond).String(), r.half.Round(time.Millisecond).String(), r.judged.Round(time.Millisecond).String(),
			r.cpu.String(), latency(r.beside, 0.5), latency(r.beside, 0.99),
		})
	}
	rows = append(rows, []string{"nothing else", "", "", "", "", latency(f.alone, 0.5), latency(f.alone, 0.99)})
	s.table([]string{"", "the call", "half judged", "all judged", "CPU of the broker", "p50, ms", "p99, ms"}, rows)
	s.text("Goals: the call %s, all judged %s, p99 beside at most %.1f times that of nothing else: **%.2f** (%s of %s samples, %s of %s).",
		callGoal, sweepGoal, besideGoal, f.ratio(), latency(f.beside(), 0.99), count(len(f.beside())), latency(f.alone, 0.99), count(len(f.alone)))

	b := f.balance
	s.title("%d switches in %s under %d messages/s", f.switches, f.switchFor, f.switchRate)
	s.text("Revision A allows all topics, B refuses half of them; activate and rollback in turn. QoS 1 and 2, MQTT 5. A message may be treated as any revision says that was live between its PUBLISH and its answer.")
	s.table([]string{"", ""}, [][]string{
		{"messages", count(b.sent)},
		{"a second", count(int(float64(b.sent) / max(f.switchFor.Seconds(), 0.001)))},
		{"acknowledged", count(b.acknowledged)},
		{"refused", count(b.refused)},
		{"sent while the revision changed", count(b.between)},
		{"**acknowledged and not delivered**", count(b.missing)},
		{"**delivered twice**", count(b.twice)},
		{"**refused and delivered**", count(b.leaked)},
		{"**acknowledged although no live revision allowed it**", count(b.wronglyAllowed)},
		{"**refused although every live revision allowed it**", count(b.wronglyRefused)},
		{"**without an answer**", count(b.unanswered)},
		{"the call, p50 and longest", fmt.Sprintf("%s, %s", quantile(f.calls, 0.5).Round(time.Millisecond), quantile(f.calls, 1).Round(time.Millisecond))},
	})
	s.list("Errors logged", f.faults)
	return s
}

func latency(sorted []time.Duration, share float64) string {
	return report.Number(milliseconds(quantile(sorted, share)))
}
