package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/bench/peers"
)

// Every goal speaks of something that is measured: a spelling mistake would
// read "not measured" for ever.
func TestGoalsAreMeasured(t *testing.T) {
	t.Parallel()
	byID := map[string]benchCase{}
	for _, c := range cases() {
		if _, twice := byID[c.id]; twice {
			t.Errorf("two cases %q", c.id)
		}
		byID[c.id] = c
		if len(c.metrics) == 0 || len(c.peers) == 0 || c.run == nil || c.chart == "" {
			t.Errorf("case %q is not complete", c.id)
		}
	}
	for _, g := range goals() {
		for _, term := range []term{g.of, g.against} {
			if term == g.against && term.caseID == "" {
				continue
			}
			c, known := byID[term.caseID]
			if !known || !slices.Contains(c.peers, term.peer) || !slices.Contains(c.metrics, term.metric) {
				t.Errorf("%s: nobody measures %+v", g.what, term)
			}
		}
	}
}

// The rate of open arrival comes from fan-in.
func TestFanInComesFirst(t *testing.T) {
	t.Parallel()
	place := func(id string) int {
		return slices.IndexFunc(cases(), func(c benchCase) bool { return c.id == id })
	}
	for _, qos := range []string{"qos0", "qos1"} {
		if place("fan-in-"+qos) < 0 || place("fan-in-"+qos) > place("open-"+qos) {
			t.Errorf("open arrival at %s before its fan-in", qos)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	found := newResults()
	for _, cpu := range []float64{1, 9, 2} { // the median counts
		found.add("c", peers.Cordon, sample{cpuPerMessage: cpu})
	}
	found.add("c", peers.Mosquitto, sample{cpuPerMessage: 4})
	found.add("c", peers.NATS, sample{cpuPerMessage: 0})
	of := term{"c", peers.Cordon, cpuPerMessage}
	for _, test := range []struct {
		goal    goal
		want    float64
		verdict string
		wanted  string
	}{
		{goal{of: of, against: term{"c", peers.Mosquitto, cpuPerMessage}, limit: 0.5}, 0.5, met, "≤ 0.50 ×"},
		{goal{of: of, against: term{"c", peers.Mosquitto, cpuPerMessage}, limit: 0.4}, 0.5, missed, "≤ 0.40 ×"},
		{goal{of: of, limit: 2, atLeast: true, unit: "µs"}, 2, met, "≥ 2.00 µs"},
		{goal{of: of, limit: 3, atLeast: true}, 2, missed, "≥ 3.00"},
		{goal{of: of, against: term{"c", peers.Mochi, cpuPerMessage}}, math.NaN(), unknown, "≤ 0.00 ×"},
		{goal{of: of, against: term{"c", peers.NATS, cpuPerMessage}}, math.NaN(), unknown, "≤ 0.00 ×"},
		{goal{of: term{"c", peers.Cordon, perSecond}, limit: 1}, math.NaN(), unknown, "≤ 1.00"},
	} {
		got, verdict := test.goal.judge(found)
		if same := got == test.want || math.IsNaN(got) && math.IsNaN(test.want); !same || verdict != test.verdict {
			t.Errorf("%+v: %g, %s", test.goal, got, verdict)
		}
		if wanted := test.goal.wanted(); wanted != test.wanted {
			t.Errorf("%+v: wanted %q", test.goal, wanted)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	set, err := parse([]string{"-rounds", "2", "-only", "fan-.*qos0", "-peers", "cordon,nats"})
	if err != nil || set.rounds != 2 || !set.only.MatchString("fan-in-qos0") || !slices.Equal(set.peers, []string{peers.Cordon, peers.NATS}) {
		t.Errorf("%+v, %v", set, err)
	}
	for _, bad := range [][]string{
		{"-rounds", "0"}, {"-scale", "0"}, {"-only", "("}, {"-peers", "cordon,emqx"}, {"extra"},
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	if s := sizes(1); s.span != 2500*time.Millisecond || s.crowd != 100_000 || s.idle != 5000 || s.devices() != 5000 {
		t.Errorf("at scale 1: %+v", s)
	}
	for _, scale := range []float64{0.001, 100} {
		if s := sizes(scale); s.idle < idleFirst || s.idle > 8000 || s.devices() < s.many || s.crowd < 200 || s.span < 100*time.Millisecond {
			t.Errorf("at scale %g: %+v", scale, s)
		}
	}
}

func TestCountStacks(t *testing.T) {
	t.Parallel()
	const script = `
	  1 time.now
	  2 example.org/x/policy/opa.(*judge).Decide

	  3 runtime.mcall

	  4 example.org/x/policy/opa.f
	  5 example.org/x/policy/opa.g
`
	all, inside, err := countStacks(strings.NewReader(script), "policy/opa.")
	if err != nil || all != 3 || inside != 2 {
		t.Errorf("%d of %d, %v; want 2 of 3", inside, all, err)
	}
}

func TestParseBenchmark(t *testing.T) {
	t.Parallel()
	const out = "goos: linux\nBenchmarkLastTopic-2   \t42960462\t        27.81 ns/op\t       0 B/op\nBenchmarkLastTopicOther \t 1\t 5 ns/op\nPASS\n"
	if ns, ok := parseBenchmark(out, "BenchmarkLastTopic"); !ok || ns != 27.81 {
		t.Errorf("%g, %t", ns, ok)
	}
	if _, ok := parseBenchmark(out, "BenchmarkRemembered"); ok {
		t.Error("found what is not there")
	}
}

// The page has every goal, what was measured, and the remarks.
func TestPage(t *testing.T) {
	t.Parallel()
	b := &bench{settings: settings{rounds: 1, scale: 1, out: t.TempDir()}, found: newResults(), lab: &peers.Lab{}}
	b.lab.Peers = []*peers.Peer{{Name: peers.Cordon, Title: "Cordon", Version: "v", Setup: "s"}, {Name: peers.Mosquitto, Title: "Mosquitto"}}
	b.found.add("fan-in-qos0", peers.Cordon, sample{cpuPerMessage: 1, perSecond: 2})
	b.found.add("fan-in-qos0", peers.Mosquitto, sample{cpuPerMessage: 10, perSecond: 1})
	b.notes = []string{"a remark"}
	charts, err := b.writeCharts("day")
	if err != nil || len(charts) != 1 || charts["fan-in"] != "day-fan-in.svg" {
		t.Fatal(charts, err)
	}
	var page strings.Builder
	b.page(&page, "day", [][2]string{{"kernel", "k"}}, charts)
	for _, want := range []string{
		"| kernel | k |", "| Cordon | v: s |",
		"| fan-in QoS 0, CPU, / Mosquitto | ≤ 0.30 × | 0.10 × | met |", "| not measured |",
		"### Fan-in 50→1, QoS 0", "| Mosquitto | 10.0 | 1.00 | – |", "![fan-in](day-fan-in.svg)", "- a remark",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	if strings.Contains(page.String(), "Fan-out") {
		t.Error("a heading for what was not measured")
	}
}
