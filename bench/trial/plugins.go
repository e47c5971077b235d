package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
)

// pluginsConfig is what the plugins trial is run with.
type pluginsConfig struct {
	binary        string
	modules       []string
	copies        int
	rate          int // ordinary connects a second
	hostile       int // connects a second that ask hostile modules
	runs          int
	span          time.Duration
	workers       int
	reloads       int
	verifications int
}

const (
	// pluginsGoal is the most by which hostile modules may slow ordinary connects:
	// the ratio of the medians of the 99th percentiles.
	pluginsGoal = 1.5
	// pauseGoal is the longest time for which a garbage collection may stop everybody.
	pauseGoal = 20 * time.Millisecond
)

func pluginsCommand(ctx context.Context, args []string, out io.Writer) error {
	var c pluginsConfig
	flags := flag.NewFlagSet("plugins", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	modules := flags.String("modules", strings.Join(hostileModules(), ","), "hostile modules of plugins/wasm/testdata/guests that are asked")
	flags.IntVar(&c.copies, "copies", 4, "of each hostile module, for a quarantined one is not asked")
	flags.IntVar(&c.rate, "rate", 100, "ordinary connects a second")
	flags.IntVar(&c.hostile, "hostile", 20, "connects a second that ask hostile modules")
	flags.IntVar(&c.runs, "runs", 5, "how often each case runs, in turn")
	flags.DurationVar(&c.span, "span", 10*time.Second, "of each measurement")
	flags.IntVar(&c.workers, "workers", 16, "clients that connect as fast as they can, for the connect rate")
	flags.IntVar(&c.reloads, "reloads", 50, "new settings of the plugin jwt; RSS is compared before and after")
	flags.IntVar(&c.verifications, "verifications", 20_000, "connects with a token that is verified each time; RSS likewise")
	if err := errors.Join(parse(flags, args), atLeast(1, c.copies, "copies"), atLeast(1, c.rate, "rate"), atLeast(1, c.hostile, "hostile"),
		atLeast(1, c.runs, "runs"), atLeast(1, int(c.span/time.Second), "span"), atLeast(1, c.workers, "workers"),
		atLeast(0, c.reloads, "reloads"), atLeast(0, c.verifications, "verifications")); err != nil {
		return err
	}
	c.modules = strings.Split(*modules, ",")
	found, err := besidePlugins(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// pluginsFound is what the plugins trial found.
type pluginsFound struct {
	pluginsConfig
	alone, beside pluginRuns  // without and with hostile modules being asked
	rates         [][]float64 // connects a second, for each of rateNames
	resident      []resident
	faults        []string
}

// pluginRuns are the runs of one case.
type pluginRuns struct {
	p50, p99 []float64 // ms, of each run
	pauses   []float64 // ms, the longest stop for a collection in each run
	connects int
	failed   int
	refused  int // connects that asked a hostile module, and were refused
	let      int // and that were not
	cpu      []float64
}

// resident is memory before and after something was done often.
type resident struct {
	what          string
	before, after int64
	meanwhile     []int64 // after each tenth
}

// grown is whether that is more than a store, a cache and the allocator explain.
func (r resident) grown() bool { return r.after > r.before+r.before/4+64<<20 }

func (f *pluginsFound) ratio() float64 {
	return report.SpreadOf(f.beside.p99).Median / report.SpreadOf(f.alone.p99).Median
}

func (f *pluginsFound) longestPause() time.Duration {
	return time.Duration(slices.Max(f.beside.pauses) * float64(time.Millisecond))
}

func (f *pluginsFound) verdict() error {
	grown := slices.ContainsFunc(f.resident, resident.grown)
	if f.ratio() <= pluginsGoal && f.longestPause() <= pauseGoal && !grown &&
		f.alone.failed+f.beside.failed+f.beside.let == 0 && len(f.faults) == 0 {
		return nil
	}
	return errBroken
}

// summary is the page.
func (f *pluginsFound) summary() *summary {
	s := &summary{}
	s.title("Connects beside hostile plugins")
	s.text("%d connects/s with an API key; beside them %d connects/s that ask, in turn, %d copies each of %s. %d runs of each case in turn, %s each.",
		f.rate, f.hostile, f.copies, strings.Join(f.modules, ", "), f.runs, f.span)
	var rows [][]string
	for _, c := range []struct {
		name string
		runs *pluginRuns
	}{{"connects alone", &f.alone}, {"beside hostile modules", &f.beside}} {
		rows = append(rows, []string{
			c.name, report.SpreadOf(c.runs.p50).String(), report.SpreadOf(c.runs.p99).String(), listed(c.runs.p99), listed(c.runs.pauses),
			report.SpreadOf(c.runs.cpu).String(), count(c.runs.connects), count(c.runs.failed), count(c.runs.refused),
		})
	}
	s.table([]string{
		"", "p50, ms", "p99, ms", "p99 of each run", "longest stop for a collection, ms, of each run", "CPU, processors", "connects", "failed",
		"hostile modules refused",
	}, rows)
	s.text("Ratio of the medians of p99: **%.2f** (goal: at most %.1f). Longest stop for a collection beside hostile modules: **%s** (goal: at most %s). Let in by a hostile module: **%d**.",
		f.ratio(), pluginsGoal, f.longestPause(), pauseGoal, f.beside.let)
	rows = nil
	for i, name := range rateNames() {
		rate, key := report.SpreadOf(f.rates[i]), report.SpreadOf(f.rates[i-i%2])
		rows = append(rows, []string{name, rate.String(), fmt.Sprintf("%.2f", rate.Median/key.Median)})
	}
	s.table([]string{"connects a second, " + itoa(f.workers) + " at a time", "", "ratio"}, rows)
	rows = nil
	for _, r := range f.resident {
		var tenths []string
		for _, n := range r.meanwhile {
			tenths = append(tenths, megabytes(n))
		}
		rows = append(rows, []string{r.what, megabytes(r.before), strings.Join(tenths, " "), megabytes(r.after), fmt.Sprintf("%.2f", float64(r.after)/float64(r.before))})
	}
	s.table([]string{"RSS", "before", "after each tenth", "after", "ratio"}, rows)
	s.list("Errors logged", f.faults)
	return s
}

// besidePlugins runs the trial.
func besidePlugins(ctx context.Context, c pluginsConfig) (*pluginsFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	t := &pluginsTrial{pluginsConfig: c, program: program, found: &pluginsFound{pluginsConfig: c}}
	program.env = []string{"GODEBUG=gctrace=1"} // which is how stops are seen from outside
	program.watch = t.watch
	if err := t.install(ctx); err != nil {
		return nil, err
	}
	if t.broker, err = program.run(ctx); err != nil {
		return nil, err
	}
	defer t.broker.kill()
	for _, step := range []func(context.Context) error{t.latencies, t.rates, t.verify, t.reload} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, t.broker.log.tail())
		}
	}
	t.found.faults = t.faults()
	return t.found, t.broker.stop()
}
