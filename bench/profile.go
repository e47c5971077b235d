package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A profile of less says little.
const (
	leastProfile = 2 * time.Second
	leastSamples = 200
)

// profile runs fan-in at QoS 0 and says which part of the broker's CPU time was
// spent in package policy/opa and what it called. perf looks at the program as
// it is; nothing is built into it.
func (t *trial) profile(ctx context.Context) (sample, error) {
	dir, err := os.MkdirTemp("", "cordon-bench-perf-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data := filepath.Join(dir, "perf.data")
	f := t.fanIn(0, t.process.Plain)
	f.Span = max(f.Span, leastProfile)
	f.Beside = func(ctx context.Context) error { return record(ctx, t.process.PID(), f.Warm, data) }
	if _, err := f.Run(ctx); err != nil {
		return nil, err
	}
	var complaints bytes.Buffer
	script := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "ip,sym")
	script.Stderr = &complaints
	out, err := script.Output()
	if err != nil {
		return nil, fmt.Errorf("perf script: %w\n%s", err, &complaints)
	}
	all, inside, err := countStacks(bytes.NewReader(out), "cordon/policy/opa.")
	if err != nil {
		return nil, err
	}
	if all < leastSamples {
		return nil, fmt.Errorf("perf took %d samples only", all)
	}
	return sample{authShare: 100 * float64(inside) / float64(all)}, nil
}

// record samples the process, after a delay, until ctx is done.
func record(ctx context.Context, pid int, delay time.Duration, file string) error {
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-F", "999", "-o", file,
		"-D", strconv.FormatInt(delay.Milliseconds(), 10), "-p", strconv.Itoa(pid))
	cmd.Stderr = &complaints
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it writes its file then
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() == nil {
		return fmt.Errorf("perf record: %w\n%s", err, &complaints)
	}
	return nil
}

// countStacks reads stacks, one frame a line, an empty line after each, and
// counts all and those with a frame whose name contains inside.
func countStacks(r io.Reader, inside string) (all, hits int, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // names of generic functions are long
	frames, hit := 0, false
	end := func() {
		if frames > 0 {
			all++
		}
		if hit {
			hits++
		}
		frames, hit = 0, false
	}
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			end()
			continue
		}
		frames++
		hit = hit || strings.Contains(line, inside)
	}
	end()
	return all, hits, lines.Err()
}

// decision runs one of the engine's own benchmarks.
func (t *trial) decision(ctx context.Context, name string) (sample, error) {
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", t.size.span.String(), "./policy/opa")
	cmd.Dir, cmd.Stderr = t.root, &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s%s", err, out, &complaints)
	}
	ns, ok := parseBenchmark(string(out), name)
	if !ok {
		t.note(name + " is no benchmark of policy/opa")
		return sample{}, nil
	}
	return sample{nanoseconds: ns}, nil
}

// parseBenchmark finds the nanoseconds of one benchmark in the output of go test.
func parseBenchmark(out, name string) (float64, bool) {
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)
	found := line.FindStringSubmatch(out)
	if found == nil {
		return 0, false
	}
	ns, err := strconv.ParseFloat(found[1], 64)
	return ns, err == nil
}
