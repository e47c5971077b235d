package opa

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestResult is the outcome of one test_ rule.
type TestResult struct {
	Package  string // such as "data.cordon.publish_test"
	Name     string
	Position string // "file:line:col"
	Passed   bool
	Skipped  bool   // a todo_test_ rule
	Error    string // what went wrong in evaluation; empty for a plain failure
	Output   string // what print() wrote
	Duration time.Duration
}

// RunTests runs the tests of the bundle in fsys, by package and name. The error
// is that of a bundle that does not compile; a failing test is no error.
func RunTests(ctx context.Context, fsys, schemas fs.FS) ([]TestResult, error) {
	_, report := Load(ctx, fsys, schemas)
	report.Problems = slices.DeleteFunc(report.Problems, func(p Problem) bool { return p.Code == CodeTest })
	return report.Tests, report.Err()
}

// runTests compiles everything, tests included, and runs them. Its problems are
// those of compiling, or the tests that are not true.
func runTests(ctx context.Context, src *source, modules map[string]*ast.Module, data map[string]any, s *shapes, report *Report, tracer topdown.QueryTracer) []TestResult {
	results, err := tester.NewRunner().
		SetCompiler(newCompiler(data, s).WithEnablePrintStatements(true)).
		SetStore(newStore(data)).
		SetModules(modules).
		RaiseBuiltinErrors(true).
		CapturePrintOutput(true).
		SetCoverageQueryTracer(tracer).
		SetCoverageRuns([]cover.Kind{}).
		RunTests(ctx, nil)
	if err != nil {
		report.addErrors(src, err)
		return nil
	}
	var all []TestResult
	for r := range results {
		t := TestResult{
			Package: r.Package, Name: r.Name, Passed: r.Pass() && !r.Skip, Skipped: r.Skip,
			Output: string(r.Output), Duration: r.Duration,
		}
		message := r.Name + " is not true"
		if r.Error != nil {
			t.Error = located(r.Error).Error()
			message = r.Name + ": " + t.Error
		}
		found := newProblem(src, r.Location, CodeTest, message, "")
		t.Position = found.Position
		if !t.Passed && !t.Skipped {
			report.Problems = append(report.Problems, found)
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b TestResult) int {
		if c := strings.Compare(a.Package, b.Package); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}
