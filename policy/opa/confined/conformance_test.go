package confined_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/cordon-mq/cordon/policy/opa/confined"
)

var ruleQuery = regexp.MustCompile(`^data((\.[a-z_0-9]+)+) = \w+$`)

// An object of data whose keys are digits is not found by number here: data[2] is
// not data["2"]. In OPA that depends on how the reference was written.
var different = map[string]bool{"data/nested integer": true, "data/toplevel integer": true}

// OPA's own cases, as far as they are about what is allowed here, have the answers
// that OPA's evaluator gives.
func TestConformance(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Skip("the cases are not here: ", err)
	}
	set, err := cases.Load(filepath.Join(strings.TrimSpace(string(dir)), "v1/test/cases/testdata/v1"))
	if err != nil {
		t.Fatal(err)
	}
	ran, left := 0, 0
	for _, c := range set.Sorted().Cases {
		query := ruleQuery.FindStringSubmatch(c.Query)
		if query == nil || len(c.Modules) == 0 || different[c.Note] {
			left++
			continue
		}
		if compareCase(t, c, strings.ReplaceAll(query[1][1:], ".", "/")) {
			ran++
		} else {
			left++
		}
	}
	t.Logf("%d cases, %d left out", ran, left)
	if ran < 1200 {
		t.Errorf("only %d cases were run", ran)
	}
}

func compareCase(t *testing.T, c cases.TestCase, entry string) bool {
	modules := map[string]*ast.Module{}
	for i, text := range c.Modules {
		name := fmt.Sprintf("case%d.rego", i)
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			return false
		}
		modules[name] = m
	}
	if len(confined.CheckModules(modules)) > 0 {
		return false
	}
	compiler := ast.NewCompiler().WithCapabilities(confined.Capabilities()).WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(modules); compiler.Failed() {
		return false
	}
	ref := ast.MustParseRef("data." + strings.ReplaceAll(entry, "/", "."))
	if len(compiler.GetRules(ref)) == 0 {
		return false
	}
	data := map[string]any{}
	if c.Data != nil {
		text, _ := json.Marshal(*c.Data)
		if err := json.Unmarshal(text, &data); err != nil {
			return false
		}
	}
	var input ast.Value
	switch {
	case c.InputTerm != nil:
		term, err := ast.ParseTerm(*c.InputTerm)
		if err != nil {
			return false
		}
		input = term.Value
	case c.Input != nil:
		input = ast.MustInterfaceToValue(*c.Input)
	}

	ctx, now := context.Background(), time.Unix(1700000000, 0)
	options := []func(*rego.Rego){
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))), rego.Compiler(compiler),
		rego.Store(inmem.NewFromObject(data)), rego.StrictBuiltinErrors(true), rego.Time(now),
		rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t, nil }),
	}
	if input != nil {
		options = append(options, rego.ParsedInput(input))
	}
	results, wantErr := rego.New(options...).Eval(ctx)
	var want *ast.Term
	if wantErr == nil && len(results) == 1 {
		want, _ = results[0].Expressions[0].Value.(*ast.Term)
	}

	program, err := confined.Compile(ctx, modules, data, []string{entry})
	if err != nil {
		t.Errorf("%s: %v", c.Note, err)
		return true
	}
	got, gotErr := program.Run(ctx, entry, input, now, confined.Limits{})
	switch {
	case wantErr != nil && gotErr != nil:
		var e *topdown.Error
		if errors.As(wantErr, &e) && (e.Code == topdown.ConflictErr) != errors.Is(gotErr, confined.ErrConflict) && !strings.Contains(gotErr.Error(), "conflict") {
			t.Errorf("%s: %v, want %v", c.Note, gotErr, wantErr)
		}
	case gotErr != nil && strings.Contains(gotErr.Error(), "sprintf takes"):
		return false // a format that is not allowed here
	case (wantErr != nil) != (gotErr != nil):
		t.Errorf("%s: %v (%v), want %v (%v)", c.Note, got, gotErr, want, wantErr)
	case (got == nil) != (want == nil) || got != nil && ast.Compare(got.Value, want.Value) != 0:
		t.Errorf("%s: %v, want %v", c.Note, got, want)
	}
	return true
}
