package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"
)

// reviewConfig is what the review trial is run with.
type reviewConfig struct {
	binary     string
	sessions   int
	filters    int // of each session
	rounds     int // of each measurement
	decisions  int // recorded before the start
	pairs      int // whose messages are timed beside
	rate       int // messages a second of each pair
	lead, span time.Duration

	costMessages int // of each round of the log's cost
	explained    int // over the door; a tenth of them by the command
}

// What reviews are to keep.
const (
	impactGoal  = 2 * time.Second // until every session was judged
	replayGoal  = 20_000          // decisions a second
	explainGoal = 50 * time.Millisecond
)

func reviewCommand(ctx context.Context, args []string, out io.Writer) error {
	var c reviewConfig
	flags := flag.NewFlagSet("review", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.sessions, "sessions", 10_000, "that are judged; each takes a descriptor here and in the broker")
	flags.IntVar(&c.filters, "filters", 3, "subscriptions of each session")
	flags.IntVar(&c.rounds, "rounds", 5, "of each measurement")
	flags.IntVar(&c.decisions, "decisions", 200_000, "recorded before the start")
	flags.IntVar(&c.pairs, "pairs", 10, "publishers, each with a reader, that are timed beside")
	flags.IntVar(&c.rate, "rate", 100, "messages a second of each pair")
	flags.DurationVar(&c.lead, "lead", 3*time.Second, "load before each measurement")
	flags.DurationVar(&c.span, "span", 8*time.Second, "of the baseline")
	flags.IntVar(&c.costMessages, "cost-messages", 400_000, "of each round that measures what the decision log costs; 0: none")
	flags.IntVar(&c.explained, "explained", 200, "decisions that are explained")
	if err := errors.Join(parse(flags, args), atLeast(1, c.sessions, "sessions"), atLeast(1, c.filters, "filters"), atLeast(1, c.rounds, "rounds"),
		atLeast(1000, c.decisions, "decisions"), atLeast(1, c.pairs, "pairs"), atLeast(1, c.rate, "rate"), atLeast(10, c.explained, "explained")); err != nil {
		return err
	}
	found, err := review(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// reviewRound is one run of a review beside the load.
type reviewRound struct {
	took     time.Duration
	sessions time.Duration // until the sessions were judged
	cpu      time.Duration // of the broker
	beside   []time.Duration
	removed  int // subscriptions
	replayed int
}

// costRound is one run of messages through one broker.
type costRound struct {
	rate float64 // messages a second
	cpu  float64 // microseconds of the broker for each
}

// reviewFound is what the review trial found.
type reviewFound struct {
	reviewConfig
	filled   time.Duration // to make and store the decisions
	alone    []time.Duration
	sessions []reviewRound // impact on who is connected
	both     []reviewRound // and on what was recorded
	replays  []reviewRound // with the load
	quiet    []reviewRound // and without
	door     []time.Duration
	command  []time.Duration
	with     []costRound // the decision log as it is by default
	without  []costRound
	faults   []string
}

// besideOf are the latencies beside all rounds, sorted.
func besideOf(rounds []reviewRound) (all []time.Duration) {
	for _, r := range rounds {
		all = append(all, r.beside...)
	}
	slices.Sort(all)
	return all
}

func (f *reviewFound) ratio() float64 {
	return milliseconds(quantile(besideOf(f.sessions), 0.99)) / max(milliseconds(quantile(f.alone, 0.99)), 0.001)
}

func worstOf(rounds []reviewRound) (most time.Duration) {
	for _, r := range rounds {
		most = max(most, r.took)
	}
	return most
}

// rateOf is the median of the decisions a second.
func rateOf(rounds []reviewRound) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, float64(r.replayed)/max(r.took.Seconds(), 0.001))
	}
	return middle(all)
}

func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// right reports whether each review counted what it was to count, which does not
// depend on the machine.
func (f *reviewFound) right() bool {
	for _, r := range slices.Concat(f.sessions, f.both) {
		if r.removed != f.reviewConfig.sessions {
			return false
		}
	}
	for _, r := range slices.Concat(f.both, f.replays, f.quiet) {
		if r.replayed < f.decisions {
			return false
		}
	}
	return len(f.faults) == 0
}

func (f *reviewFound) verdict() error {
	if f.right() && worstOf(f.sessions) <= impactGoal && f.ratio() <= besideGoal && rateOf(f.quiet) >= replayGoal && quantile(f.door, 0.99) <= explainGoal {
		return nil
	}
	return errBroken
}

// summary is the page.
func (f *reviewFound) summary() *summary {
	s := &summary{}
	s.title("%s sessions with %d subscriptions each, %s recorded decisions", count(f.reviewConfig.sessions), f.filters, count(f.decisions))
	s.text("%d pairs publish %d messages/s each at QoS 0 meanwhile. The candidate takes one subscription from each of the sessions. Making and storing the decisions took %s.",
		f.pairs, f.rate, f.filled.Round(time.Millisecond))
	var rows [][]string
	add := func(name string, rounds []reviewRound) {
		for i, r := range rounds {
			slices.Sort(r.beside)
			rate := "–"
			if r.replayed > 0 && r.sessions == 0 {
				rate = count(int(float64(r.replayed) / max(r.took.Seconds(), 0.001)))
			}
			p50, p99 := "–", "–"
			if len(r.beside) > 0 {
				p50, p99 = latency(r.beside, 0.5), latency(r.beside, 0.99)
			}
			rows = append(rows, []string{fmt.Sprintf("%s %d", name, i+1), r.took.Round(time.Millisecond).String(), r.cpu.String(), rate, p50, p99})
		}
	}
	add("impact, sessions", f.sessions)
	add("impact, and decisions", f.both)
	add("replay", f.replays)
	add("replay, no load", f.quiet)
	rows = append(rows, []string{"nothing else", "", "", "", latency(f.alone, 0.5), latency(f.alone, 0.99)})
	s.table([]string{"", "took", "CPU of the broker", "decisions/s", "p50 beside, ms", "p99 beside, ms"}, rows)
	s.text("Goals: impact on the sessions %s, p99 beside at most %.1f times that of nothing else: **%.2f**; replay %s decisions/s: **%s** (median without load).",
		impactGoal, besideGoal, f.ratio(), count(replayGoal), count(int(rateOf(f.quiet))))
	s.table([]string{"explain", "p50", "p99"}, [][]string{
		{"over the operator's door", quantile(f.door, 0.5).Round(10 * time.Microsecond).String(), quantile(f.door, 0.99).Round(10 * time.Microsecond).String()},
		{"`cordon policy explain`", quantile(f.command, 0.5).Round(10 * time.Microsecond).String(), quantile(f.command, 0.99).Round(10 * time.Microsecond).String()},
	})
	if len(f.with) > 0 {
		rows = nil
		for i := range f.with {
			rows = append(rows, []string{fmt.Sprintf("round %d", i+1), f.with[i].text(), f.without[i].text()})
		}
		rows = append(rows, []string{"median", medianOf(f.with).text(), medianOf(f.without).text()})
		s.title("What the decision log costs")
		s.text("%s messages at QoS 1 through %d pairs, as fast as they are acknowledged: messages/s, and CPU of the broker for each. One after the other, in turn.", count(f.costMessages), f.pairs)
		s.table([]string{"", "by default", "`--decision-log-size 0`"}, rows)
	}
	s.list("Errors logged", f.faults)
	return s
}

func (r costRound) text() string {
	return fmt.Sprintf("%s/s, %.1f µs", count(int(r.rate)), r.cpu)
}

func medianOf(rounds []costRound) costRound {
	var rates, cpus []float64
	for _, r := range rounds {
		rates, cpus = append(rates, r.rate), append(cpus, r.cpu)
	}
	return costRound{middle(rates), middle(cpus)}
}
