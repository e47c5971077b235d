package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/bench/peers"
	"github.com/cordon-mq/cordon/bench/report"
)

// write puts everything into the results folder and returns the path of the page.
// Files of the same day are replaced.
func (b *bench) write(machine [][2]string) (string, error) {
	if err := os.MkdirAll(b.out, 0o750); err != nil {
		return "", err
	}
	day := time.Now().Format(time.DateOnly)
	charts, err := b.writeCharts(day)
	if err != nil {
		return "", err
	}
	page := filepath.Join(b.out, day+".md")
	var text bytes.Buffer
	b.page(&text, day, machine, charts)
	return page, os.WriteFile(page, text.Bytes(), 0o644) //nolint:gosec // to be read by everybody
}

// page writes the Markdown. Writes to a buffer do not fail.
func (b *bench) page(w io.Writer, day string, machine [][2]string, charts map[string]string) {
	fmt.Fprintf(w, "# Results of %s\n\nWhat the numbers mean: [README](../README.md). Rounds: %d; medians, with the lowest and the highest in\nparentheses. Load and broker share the machine; compare ratios, and only within this page.\n\n",
		day, b.settings.rounds)
	about := report.Table{Head: []string{"What", ""}, Left: true}
	for _, fact := range machine {
		about.Rows = append(about.Rows, fact[:])
	}
	about.Rows = append(about.Rows, []string{"scale", fmt.Sprint(b.scale)})
	for _, p := range b.lab.Peers {
		about.Rows = append(about.Rows, []string{p.Title, strings.TrimPrefix(p.Version+": "+p.Setup, ": ")})
	}
	_, _ = about.WriteTo(w)
	fmt.Fprintf(w, "## Goals\n\n")
	_, _ = b.goalTable().WriteTo(w)
	fmt.Fprintf(w, "## Figures\n\n")
	drawn := map[string]bool{}
	for _, c := range b.measured() {
		fmt.Fprintf(w, "### %s\n\n", c.title)
		_, _ = b.caseTable(c).WriteTo(w)
		if file := charts[c.chart]; file != "" && !drawn[c.chart] {
			drawn[c.chart] = true
			fmt.Fprintf(w, "![%s](%s)\n\n", c.chart, file)
		}
	}
	if len(b.notes) > 0 {
		fmt.Fprintf(w, "## Remarks\n\n")
		for _, note := range b.notes {
			fmt.Fprintf(w, "- %s\n", note)
		}
	}
}

// measured lists the cases of which there is something.
func (b *bench) measured() []benchCase {
	return slices.DeleteFunc(cases(), func(c benchCase) bool { return len(b.found[c.id]) == 0 })
}

func (b *bench) goalTable() report.Table {
	t := report.Table{Head: []string{"Goal", "wanted", "measured", "verdict"}}
	for _, g := range goals() {
		measured, verdict := g.judge(b.found)
		text := report.Number(measured)
		if !math.IsNaN(measured) {
			text += g.suffix()
		}
		t.Rows = append(t.Rows, []string{g.what, g.wanted(), text, verdict})
	}
	return t
}

func (b *bench) caseTable(c benchCase) report.Table {
	t := report.Table{Head: []string{"peer"}}
	for _, m := range c.metrics {
		t.Head = append(t.Head, string(m))
	}
	for _, p := range b.lab.Peers {
		if len(b.found[c.id][p.Name]) == 0 {
			continue
		}
		row := []string{p.Title}
		for _, m := range c.metrics {
			row = append(row, b.found.spread(c.id, p.Name, m).String())
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// writeCharts draws one chart for each name and returns their files.
func (b *bench) writeCharts(day string) (map[string]string, error) {
	files := map[string]string{}
	charts := map[string]*report.Chart{}
	for _, c := range b.measured() {
		chart := charts[c.chart]
		if chart == nil {
			name, unit, _ := strings.Cut(string(c.metrics[0]), ", ")
			chart = &report.Chart{Title: name, Unit: unit}
			charts[c.chart] = chart
		}
		group := report.Group{Title: c.title}
		for _, p := range b.lab.Peers {
			if len(b.found[c.id][p.Name]) > 0 {
				group.Bars = append(group.Bars, report.Bar{
					Label: p.Title, Series: slices.Index(peers.Names(), p.Name), Value: b.found.spread(c.id, p.Name, c.metrics[0]),
				})
			}
		}
		chart.Groups = append(chart.Groups, group)
	}
	for name, chart := range charts {
		var text bytes.Buffer
		_, _ = chart.WriteTo(&text)
		files[name] = day + "-" + name + ".svg"
		if err := os.WriteFile(filepath.Join(b.out, files[name]), text.Bytes(), 0o644); err != nil { //nolint:gosec // to be read by everybody
			return nil, err
		}
	}
	return files, nil
}

// machineFacts says where and on what this was measured. The load is that before the run.
func machineFacts(ctx context.Context, root string) [][2]string {
	facts := [][2]string{
		{"processor", fmt.Sprintf("%s, %d cores", firstField("/proc/cpuinfo", "model name"), runtime.NumCPU())},
		{"kernel", readLine("/proc/sys/kernel/osrelease")},
		{"load before", readLine("/proc/loadavg")},
		{"Go", runtime.Version()},
	}
	for _, git := range [][]string{{"rev-parse", "--short", "HEAD"}, {"status", "--porcelain"}} {
		cmd := exec.CommandContext(ctx, "git", git...)
		cmd.Dir = root
		out, err := cmd.Output()
		text := strings.TrimSpace(string(out))
		switch {
		case err != nil || text == "":
		case git[0] == "status":
			facts = append(facts, [2]string{"changes", "not committed"})
		default:
			facts = append(facts, [2]string{"commit", text})
		}
	}
	return facts
}

func readLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// firstField is the value of the first "name : value" line.
func firstField(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
