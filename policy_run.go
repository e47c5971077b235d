package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

type policyTestCmd struct {
	Source    policySource `embed:""`
	Verbose   bool         `name:"verbose" short:"v" help:"Also say how long each test took, and print what those printed that passed."`
	Coverage  bool         `name:"coverage" help:"Also say which lines of the rules no test evaluated."`
	Threshold float64      `name:"threshold" placeholder:"PCT" help:"Fail when the tests evaluate less than this percentage of the lines."`
	JSON      bool         `name:"json" help:"Print one JSON object and nothing else."`
	JUnit     string       `name:"junit" placeholder:"FILE" help:"Also write the results as JUnit XML."`
}

// Validate looks at the threshold; kong calls it.
func (c *policyTestCmd) Validate() error {
	if !(c.Threshold >= 0 && c.Threshold <= 100) {
		return fmt.Errorf("threshold: %v is no percentage", c.Threshold)
	}
	return nil
}

// Run prints a line for each test and one for all. A folder without tests
// fails, since the caller meant one that has some.
func (c *policyTestCmd) Run(ctx context.Context, std *streams) error {
	source, err := c.Source.open()
	if err != nil {
		return err
	}
	var report *opa.Report
	var coverage *opa.Coverage
	if c.Coverage || c.Threshold > 0 {
		report, coverage = opa.Test(ctx, source, rego.Schemas())
	} else {
		_, report = opa.Load(ctx, source, rego.Schemas())
	}
	report.Problems = slices.DeleteFunc(report.Problems, func(p opa.Problem) bool { return p.Code == opa.CodeTest })
	if c.JUnit != "" {
		if err := writeJUnit(c.JUnit, report.Tests); err != nil {
			return err
		}
	}
	if err := c.print(std.out, report, coverage); err != nil {
		return err
	}
	low := coverage != nil && coverage.Percent < c.Threshold
	if low && !c.JSON {
		if _, err := fmt.Fprintf(std.out, "coverage %.1f %% is below %v %%\n", coverage.Percent, c.Threshold); err != nil {
			return err
		}
	}
	if low || len(report.Tests) == 0 || len(report.Problems) > 0 || count(report.Tests, failed) > 0 {
		return errReported
	}
	return nil
}

func (c *policyTestCmd) print(w io.Writer, report *opa.Report, coverage *opa.Coverage) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(testedOf(report, coverage))
	}
	if len(report.Tests) == 0 || len(report.Problems) > 0 {
		_, err := report.WriteTo(w)
		return err
	}
	var b strings.Builder
	for _, t := range report.Tests {
		c.writeTest(&b, t)
	}
	if c.Coverage && coverage != nil {
		writeCoverage(&b, coverage)
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n",
		count(report.Tests, passed), count(report.Tests, failed), count(report.Tests, skipped))
	_, err := io.WriteString(w, b.String())
	return err
}

// writeTest writes one test, and what it printed if it failed.
func (c *policyTestCmd) writeTest(b *strings.Builder, t opa.TestResult) {
	b.WriteString(resultOf(t) + " " + strings.TrimPrefix(t.Package, "data.") + "." + t.Name)
	if failed(t) {
		b.WriteString(" " + t.Position)
		if t.Error != "" {
			b.WriteString(": " + t.Error)
		}
	}
	if c.Verbose && !skipped(t) {
		fmt.Fprintf(b, " (%v)", t.Duration.Round(1000))
	}
	if failed(t) || c.Verbose {
		for text := range strings.Lines(t.Output) {
			b.WriteString("\n    " + strings.TrimRight(text, "\n"))
		}
	}
	b.WriteByte('\n')
}

func writeCoverage(b *strings.Builder, c *opa.Coverage) {
	for _, f := range c.Files {
		fmt.Fprintf(b, "%5.1f %% %s", f.Percent, f.Path)
		for i, gap := range f.Gaps {
			b.WriteString(map[bool]string{true: ", not tested: ", false: ", "}[i == 0])
			fmt.Fprint(b, gap.First)
			if gap.Last > gap.First {
				fmt.Fprintf(b, "-%d", gap.Last)
			}
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "%5.1f %% of %d lines\n", c.Percent, c.Covered+c.Missed)
}

func passed(t opa.TestResult) bool  { return t.Passed && !t.Skipped }
func failed(t opa.TestResult) bool  { return !t.Passed && !t.Skipped }
func skipped(t opa.TestResult) bool { return t.Skipped }

func resultOf(t opa.TestResult) string {
	switch {
	case failed(t):
		return "FAIL"
	case skipped(t):
		return "skip"
	default:
		return "pass"
	}
}

func count(tests []opa.TestResult, is func(opa.TestResult) bool) int {
	n := 0
	for _, t := range tests {
		if is(t) {
			n++
		}
	}
	return n
}
