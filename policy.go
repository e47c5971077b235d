package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// policyCmd is about policy bundles as folders; none of its commands needs a
// broker.
type policyCmd struct {
	Init  policyInitCmd  `cmd:"" help:"Write the built-in policies into a folder for editing."`
	Check policyCheckCmd `cmd:"" help:"Say whether a folder of policies may go live."`
	Test  policyTestCmd  `cmd:"" help:"Run the tests of a folder of policies."`
}

type policyInitCmd struct {
	Dir string `arg:"" help:"Folder to write; new or empty."`
}

// Run writes the built-in bundle.
func (c *policyInitCmd) Run(std *streams) error {
	if err := opa.Init(c.Dir, rego.Bundle()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "wrote the built-in policies to %[1]s\nuse them with: cordon serve --policy %[1]s\n", c.Dir)
	return err
}

type policyCheckCmd struct {
	Dir string `arg:"" help:"Folder to check."`
}

// Run prints what activation would say about the bundle, all of it.
func (c *policyCheckCmd) Run(ctx context.Context, std *streams) error {
	bundle, report := opa.Load(ctx, os.DirFS(c.Dir), rego.Schemas())
	if _, err := report.WriteTo(std.out); err != nil {
		return err
	}
	if bundle == nil {
		return errReported
	}
	_, err := fmt.Fprintf(std.out, "ok: revision %s, tests passed: %d\n", bundle.Revision(), count(report.Tests, passed))
	return err
}

type policyTestCmd struct {
	Dir string `arg:"" help:"Folder whose tests to run."`
}

// Run prints a line for each test and one for all. A folder without tests
// fails, since the caller meant one that has some.
func (c *policyTestCmd) Run(ctx context.Context, std *streams) error {
	_, report := opa.Load(ctx, os.DirFS(c.Dir), rego.Schemas())
	report.Problems = slices.DeleteFunc(report.Problems, func(p opa.Problem) bool { return p.Code == opa.CodeTest })
	if len(report.Tests) == 0 || len(report.Problems) > 0 {
		if _, err := report.WriteTo(std.out); err != nil {
			return err
		}
		return errReported
	}
	for _, t := range report.Tests {
		if err := printTest(std, t); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(std.out, "%d passed, %d failed, %d skipped\n",
		count(report.Tests, passed), count(report.Tests, failed), count(report.Tests, skipped))
	if err == nil && count(report.Tests, failed) > 0 {
		err = errReported
	}
	return err
}

// printTest prints one test, and what it printed if it failed.
func printTest(std *streams, t opa.TestResult) error {
	line := "pass"
	switch {
	case failed(t):
		line = "FAIL"
	case skipped(t):
		line = "skip"
	}
	line += " " + strings.TrimPrefix(t.Package, "data.") + "." + t.Name
	if failed(t) {
		line += " " + t.Position
		if t.Error != "" {
			line += ": " + t.Error
		}
		for text := range strings.Lines(t.Output) {
			line += "\n    " + strings.TrimRight(text, "\n")
		}
	}
	_, err := fmt.Fprintln(std.out, line)
	return err
}

func passed(t opa.TestResult) bool  { return t.Passed && !t.Skipped }
func failed(t opa.TestResult) bool  { return !t.Passed && !t.Skipped }
func skipped(t opa.TestResult) bool { return t.Skipped }

func count(tests []opa.TestResult, is func(opa.TestResult) bool) int {
	n := 0
	for _, t := range tests {
		if is(t) {
			n++
		}
	}
	return n
}
