package opa

import (
	"context"
	"io/fs"
	"regexp"
	"runtime"
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
	results, err := newRunner(modules, data, s).
		SetCoverageQueryTracer(tracer).
		SetCoverageRuns([]cover.Kind{}).
		RunTests(ctx, nil)
	if err != nil {
		report.addErrors(src, err)
		return nil
	}
	var all []TestResult
	var failed []int // of the problems: tests that are just not true
	var names []string
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
			if t.Error == "" && len(failed) < maxExplained {
				failed, names = append(failed, len(report.Problems)), append(names, regexp.QuoteMeta(r.Package+"."+r.Name))
			}
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
	if len(failed) > 0 {
		where := whereTestsFail(ctx, names, modules, data, s)
		for _, i := range failed {
			p := &report.Problems[i]
			p.Hint = "if this is what was changed, the test has to say so too"
			if at, ok := where[p.Position]; ok {
				p.Hint = "false or undefined at " + at + "; " + p.Hint
			}
		}
	}
	return all
}

// maxExplained is how many failing tests are looked into.
const maxExplained = 20

func newRunner(modules map[string]*ast.Module, data map[string]any, s *shapes) *tester.Runner {
	return tester.NewRunner().
		SetCompiler(newCompiler(data, s).WithEnablePrintStatements(true)).
		SetStore(newStore(data)).
		SetModules(modules).
		RaiseBuiltinErrors(true).
		SetParallel(max(1, runtime.GOMAXPROCS(0)/2)). // there may be a broker beside
		CapturePrintOutput(true)
}

func anyOf(names []string) string { return "^(" + strings.Join(names, "|") + ")$" }

// whereTestsFail runs the tests of these names again and notes the expression of each at which
// it failed, by the position of the test.
func whereTestsFail(ctx context.Context, names []string, modules map[string]*ast.Module, data map[string]any, s *shapes) map[string]string {
	where := map[string]string{}
	// Every step is kept until a test ends, so that one may not take long.
	results, err := newRunner(modules, data, s).EnableTracing(true).SetTimeout(200*time.Millisecond).Filter(anyOf(names)).RunTests(ctx, nil)
	if err != nil {
		return where
	}
	src := &source{}
	for r := range results { // to its end, or its goroutines wait for ever
		if r.Pass() || r.Skip || r.Location == nil {
			continue
		}
		for _, event := range slices.Backward(r.Trace) {
			at := event.Location
			if event.Op != topdown.FailOp || at == nil || at.File != r.Location.File || at.Row < r.Location.Row {
				continue
			}
			if text, _, _ := strings.Cut(strings.TrimSpace(string(at.Text)), "\n"); text != "" && text != r.Name {
				where[newProblem(src, r.Location, "", "", "").Position] = newProblem(src, at, "", "", "").Position + ": " + cutLine(text, 0)
				break
			}
		}
	}
	return where
}
