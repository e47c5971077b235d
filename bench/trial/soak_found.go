package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
)

// soakFound is what the soak trial found.
type soakFound struct {
	soakConfig
	samples []sample
	faults  []string
}

// Memory is steady when its median in the last third is no more than this above
// that of the first, which has the warm-up in it.
const (
	steadyFactor = 1.25
	steadySlack  = 32 << 20 // bytes
)

func (f *soakFound) verdict() error {
	first, last := f.thirds(func(s sample) float64 { return float64(s.resident) })
	if last > first*steadyFactor+steadySlack || len(f.faults) > 0 {
		return errBroken
	}
	return nil
}

// thirds are the medians of the first and the last third of the samples.
func (f *soakFound) thirds(of func(sample) float64) (first, last float64) {
	values := f.values(of)
	third := (len(values) + 2) / 3
	return report.SpreadOf(values[:third]).Median, report.SpreadOf(values[len(values)-third:]).Median
}

func (f *soakFound) values(of func(sample) float64) []float64 {
	values := make([]float64, len(f.samples))
	for i, s := range f.samples {
		values[i] = of(s)
	}
	return values
}

// slope is the least-squares line through the last two thirds, per hour.
func (f *soakFound) slope(of func(sample) float64) float64 {
	from := len(f.samples) / 3
	var n, sumX, sumY, sumXX, sumXY float64
	for i, y := range f.values(of) {
		if i < from {
			continue
		}
		x := f.samples[i].at.Hours()
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	if below := n*sumXX - sumX*sumX; below > 0 {
		return (n*sumXY - sumX*sumY) / below
	}
	return 0
}

// rates are messages a second and processors in use between two samples.
func (f *soakFound) rates() (messages, processors []float64) {
	var before sample
	for i, s := range f.samples {
		span := (s.at - before.at).Seconds()
		messages = append(messages, float64(s.delivered-before.delivered)/span)
		used := 0.0
		if i > 0 {
			used = (s.cpu - before.cpu).Seconds() / span
		}
		processors = append(processors, used)
		before = s
	}
	if len(processors) > 1 {
		processors[0] = processors[1] // the start of the broker is in it
	}
	return messages, processors
}

// summary is the page; graph is the file of the plot beside it, or empty.
func (f *soakFound) summary(graph string) *summary {
	s := &summary{}
	s.title("Soak of %s", f.length)
	bundle := "the built-in policies"
	if f.open {
		bundle = "a bundle that keeps the retain flag, and retained messages"
	}
	s.text("%d messages/s over %d pairs of each kind (QoS 0, 1 and 2, clean and kept, MQTT 3.1.1 and 5) that connect anew every %d messages or so; %d clients that come, subscribe and go; %s.",
		f.rate, f.pairs, soakChurn, wanderers, bundle)
	var rows [][]string
	for _, line := range []struct {
		name string
		of   func(sample) float64
	}{
		{"RSS, MiB", func(s sample) float64 { return float64(s.resident) / (1 << 20) }},
		{"heap after collection, MiB", func(s sample) float64 { return float64(s.heap) / (1 << 20) }},
		{"data folder, MiB", func(s sample) float64 { return float64(s.folder) / (1 << 20) }},
		{"threads", func(s sample) float64 { return float64(s.threads) }},
	} {
		first, last := f.thirds(line.of)
		rows = append(rows, []string{line.name, report.Number(first), report.Number(last), fmt.Sprintf("%+.1f", f.slope(line.of))})
	}
	s.table([]string{"", "median of the first third", "of the last third", "slope of the last two thirds, per hour"}, rows)
	messages, processors := f.rates()
	s.text("Delivered %s messages, %s a second; processors in use %s.",
		count(f.samples[len(f.samples)-1].delivered), report.SpreadOf(messages), report.SpreadOf(processors))
	verdict := "Memory is steady."
	if errors.Is(f.verdict(), errBroken) {
		verdict = "**Memory is not steady, or errors were logged.**"
	}
	s.text("%s", verdict)
	if graph != "" {
		s.text("![Curves over time](%s)", graph)
	}
	s.list("Errors logged", f.faults)
	return s
}

func (f *soakFound) plot() plot {
	messages, processors := f.rates()
	p := plot{title: fmt.Sprintf("Soak of %s", f.length), curves: []curve{
		{"RSS", "MiB", f.values(func(s sample) float64 { return float64(s.resident) / (1 << 20) })},
		{"Heap after collection", "MiB", f.values(func(s sample) float64 { return float64(s.heap) / (1 << 20) })},
		{"Data folder", "MiB", f.values(func(s sample) float64 { return float64(s.folder) / (1 << 20) })},
		{"Delivered", "messages/s", messages},
		{"Processors in use", "", processors},
	}}
	for _, s := range f.samples {
		p.times = append(p.times, s.at)
	}
	return p
}

// save writes the page and the graph, named by date and commit.
func (f *soakFound) save(ctx context.Context) (string, error) {
	folder := f.out
	if folder == "" {
		out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cordon-mq/cordon").Output()
		if err != nil {
			return "", fmt.Errorf("not in Cordon's module: %w", err)
		}
		folder = filepath.Join(string(bytes.TrimSpace(out)), "bench", "results")
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", err
	}
	name := "soak-" + time.Now().Format(time.DateOnly)
	if commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		name += "-" + string(bytes.TrimSpace(commit))
	}
	var page, graph bytes.Buffer
	_, _ = f.summary(name + ".svg").WriteTo(&page) // a Buffer never fails
	_, _ = f.plot().WriteTo(&graph)
	if err := os.WriteFile(filepath.Join(folder, name+".svg"), graph.Bytes(), 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(folder, name+".md")
	return path, os.WriteFile(path, page.Bytes(), 0o600)
}
