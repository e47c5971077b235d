package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
)

func TestParseUsage(t *testing.T) {
	t.Parallel()
	const stat = "7 (a (b) c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 1 1"
	const status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t9\n"
	got, err := parseUsage(stat, status)
	want := usage{cpu: 3 * time.Second, resident: 1 << 20, peak: 2 << 20, threads: 9}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range [][2]string{{"7 (x) S 1", status}, {stat, "VmRSS: 1 kB\n"}, {stat, strings.ReplaceAll(status, "9", "many")}} {
		if got, err := parseUsage(bad[0], bad[1]); err == nil {
			t.Errorf("%q became %+v", bad, got)
		}
	}
}

func TestBrokerLog(t *testing.T) {
	t.Parallel()
	l := newBrokerLog()
	for _, part := range []string{
		"time=x level=INFO msg=restored sessions=7 subscriptions=8 mess", "ages=140 retained=1 wills=2 dropped=3 took=66ms\n",
		"gc 4 @1.5s 1%: 0.1+1+0.1 ms clock, 0+0/1/0+0 ms cpu, 30->31->12 MB, 40 MB goal, 0 MB stacks, 0 MB globals, 2 P\n",
		"level=ERROR msg=\"not stored\"\npanic: x\nlevel=INFO msg=ready mqtt=127.0.0.1:1\n",
	} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got, want := l.found(), (restored{sessions: 7, messages: 140, dropped: 3, took: 66 * time.Millisecond}); got != want {
		t.Errorf("restored %+v, want %+v", got, want)
	}
	if got := l.heap(); got != 12<<20 {
		t.Errorf("heap %d", got)
	}
	if first, all := l.faults(); all != 2 || len(first) != 2 || first[1] != "panic: x" {
		t.Errorf("%d faults: %q", all, first)
	}
	if len(l.ready) != 1 {
		t.Error("ready was not seen")
	}
	if strings.Contains(l.tail(), "gc 4") || !strings.Contains(l.tail(), "dropped=3") {
		t.Errorf("tail: %q", l.tail())
	}
}

// A soak is judged by its memory.
func TestSoakFound(t *testing.T) {
	t.Parallel()
	run := func(resident func(i int) int64) *soakFound {
		f := &soakFound{soakConfig: soakConfig{length: time.Hour}}
		for i := range 61 {
			f.samples = append(f.samples, sample{
				at: time.Duration(i+1) * time.Minute, resident: resident(i), delivered: 600 * (i + 1), cpu: time.Duration(i) * time.Second,
			})
		}
		return f
	}
	steady := run(func(i int) int64 { return 200<<20 + int64(i%3)<<20 })
	if err := steady.verdict(); err != nil {
		t.Errorf("steady memory: %v", err)
	}
	leaking := run(func(i int) int64 { return int64(100+4*i) << 20 })
	if err := leaking.verdict(); !errors.Is(err, errBroken) {
		t.Errorf("4 MiB more each minute: %v", err)
	}
	if got := leaking.slope(func(s sample) float64 { return float64(s.resident) / (1 << 20) }); math.Abs(got-240) > 1e-6 {
		t.Errorf("slope %v MiB an hour, want 240", got)
	}
	first, last := leaking.thirds(func(s sample) float64 { return float64(s.resident) / (1 << 20) })
	if first != 140 || last != 300 {
		t.Errorf("thirds %v and %v, want 140 and 300", first, last)
	}
	messages, processors := leaking.rates()
	if messages[5] != 10 || math.Abs(processors[5]-1.0/60) > 1e-9 {
		t.Errorf("%v messages/s, %v processors", messages[5], processors[5])
	}
	var page strings.Builder
	_, _ = leaking.summary("x.svg").WriteTo(&page)
	if !strings.Contains(page.String(), "not steady") || !strings.Contains(page.String(), "| RSS, MiB | 140 | 300 | +240.0 |") {
		t.Errorf("page:\n%s", page.String())
	}
}

func TestGrowthVerdict(t *testing.T) {
	t.Parallel()
	folder := func(megabytes ...int64) *growthFound {
		f := &growthFound{}
		for _, m := range megabytes {
			f.stages = append(f.stages, stage{folder: m << 20})
		}
		return f
	}
	if err := folder(200, 400, 100, 500).verdict(); err != nil {
		t.Errorf("a folder that is compacted: %v", err)
	}
	if err := folder(200, 400, 600, 800).verdict(); !errors.Is(err, errBroken) {
		t.Errorf("a folder that grows: %v", err)
	}
	lossy := folder(1, 1)
	lossy.missing = 1
	if err := lossy.verdict(); !errors.Is(err, errBroken) {
		t.Errorf("a lost message: %v", err)
	}
}

func TestStartupVerdict(t *testing.T) {
	t.Parallel()
	f := startupFound{startupConfig: startupConfig{sessions: 5, queued: 4}, starts: []start{{restored: restored{sessions: 5, messages: 20}}}}
	if err := f.verdict(); err != nil {
		t.Errorf("everything was restored: %v", err)
	}
	f.starts = append(f.starts, start{restored: restored{sessions: 5, messages: 19}})
	if err := f.verdict(); !errors.Is(err, errBroken) {
		t.Errorf("a message was not: %v", err)
	}
}

// What is in queues, and what sessions have to subscribe to for it.
func TestStartupBodies(t *testing.T) {
	t.Parallel()
	for bodies, want := range map[string]struct{ own, filters int }{
		ownBodies: {20, 1}, sharedBodies: {0, 1}, mixedBodies: {10, 2},
	} {
		trial := startupTrial{startupConfig: startupConfig{sessions: 3, queued: 20, bodies: bodies}}
		if got := trial.own(); got != want.own || len(trial.filters(1)) != want.filters {
			t.Errorf("%s: %d own messages, filters %q", bodies, got, trial.filters(1))
		}
	}
}

func TestStallVerdict(t *testing.T) {
	t.Parallel()
	f := stallFound{alone: stallRuns{p99: []float64{2, 4, 90}}, beside: stallRuns{p99: []float64{5, 6, 7}}}
	if err := f.verdict(); err != nil || f.ratio() != 1.5 {
		t.Errorf("ratio %v: %v", f.ratio(), err)
	}
	f.beside.p99[1] = 7
	if err := f.verdict(); !errors.Is(err, errBroken) {
		t.Errorf("ratio %v: %v", f.ratio(), err)
	}
}

func TestStormVerdict(t *testing.T) {
	t.Parallel()
	if err := (&stormFound{attempts: 3}).verdict(); err != nil {
		t.Errorf("attempts that were repeated: %v", err)
	}
	for _, f := range []stormFound{{failed: 1}, {lost: 1}, {faults: []string{"x"}}} {
		if err := f.verdict(); !errors.Is(err, errBroken) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestCertificatesVerdict(t *testing.T) {
	t.Parallel()
	seen := map[string]int{platformName: 2, tenantName: 2}
	if err := (&certificatesFound{replaced: 1, seen: seen}).verdict(); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
	for _, f := range []certificatesFound{
		{replaced: 1, seen: seen, failed: []string{"x"}},
		{replaced: 1, seen: seen, faults: []string{"x"}},
		{seen: seen},
		{replaced: 1, seen: map[string]int{platformName: 1, tenantName: 2}},
	} {
		if err := f.verdict(); !errors.Is(err, errBroken) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// Causes do not tell one client from another.
func TestCause(t *testing.T) {
	t.Parallel()
	reset := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for want, err := range map[string]error{
		"refused: CONNACK 0x05":    &client.RefusedError{Code: 5},
		"connection reset by peer": errors.Join(reset, net.ErrClosed),
		"closed by the broker":     fmt.Errorf("subscribe: %w", io.EOF),
		"timed out":                &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
		"other":                    net.ErrClosed,
	} {
		if got := cause(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	sorted := []time.Duration{1, 2, 3, 4}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 4, 1: 4} {
		if got := quantile(sorted, share); got != want {
			t.Errorf("%v: %v, want %v", share, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	p := plot{title: "a < b", times: []time.Duration{time.Second, 2 * time.Second}, curves: []curve{{"RSS", "MiB", []float64{5, 10}}}}
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	// Half of the height at half of the time, all of it at the end.
	for _, want := range []string{"a &lt; b", "RSS, MiB", `points="417.0,123.0 744.0,68.0"`, "</svg>"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := count(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"fly"},
		{"crash", "-kills", "0"},
		{"crash", "extra"},
		{"startup", "-bodies", "none"},
		{"soak", "-for", "1s"},
		{"growth", "-messages", "1"},
		{"storm", "-clients", "x"},
		{"stall", "-runs", "0"},
		{"certificates", "-rate", "0"},
	} {
		if err := run(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	flags := flag.NewFlagSet("x", flag.ContinueOnError)
	if err := parse(flags, nil); err != nil {
		t.Errorf("no arguments: %v", err)
	}
}
