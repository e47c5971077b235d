package plan

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
)

var update = flag.Bool("update", false, "write testdata/conformance.txt anew")

// conformanceCases are those of the OPA module that go.mod names.
func conformanceCases(t *testing.T) map[string]cases.TestCase {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]cases.TestCase{}
	for _, version := range []string{"v0", "v1"} {
		dir := filepath.Join(strings.TrimSpace(string(out)), "v1", "test", "cases", "testdata", version)
		found, err := cases.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found.Cases {
			name, err := filepath.Rel(filepath.Dir(dir), c.Filename)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.ToSlash(name)+": "+c.Note] = c
		}
	}
	return all
}

// OPA's own cases. A Program gives what they want, and what topdown gives when a
// failing built-in ends the evaluation. What is left to topdown is in a file, so
// that it cannot grow unseen.
func TestConformance(t *testing.T) {
	all := conformanceCases(t)
	if len(all) < 2500 {
		t.Fatalf("found %d cases", len(all))
	}
	var left []string
	for _, name := range sortedNames(all) {
		t.Run(name, func(t *testing.T) {
			if why := conforms(t, all[name]); why != "" {
				left = append(left, name+": "+why)
			}
		})
	}
	text := strings.Join(left, "\n") + "\n"
	const file = "testdata/conformance.txt"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("what is left to topdown has changed; look at it and run with -update:\n%s", text)
	}
	t.Logf("%d cases, %d of them left to topdown", len(all), len(left))
}

func sortedNames(all map[string]cases.TestCase) []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// conforms fails the test on a wrong answer. What it returns says why there was
// none.
func conforms(t *testing.T, c cases.TestCase) (why string) {
	t.Helper()
	ctx := context.Background()
	for k, v := range c.Env {
		t.Setenv(k, v)
	}
	if strings.Contains(strings.Join(c.Modules, ""), "test.sleep") {
		return "needs a built-in that only OPA's tests have"
	}
	compiler, store := prepare(t, c)
	var input ast.Value
	switch {
	case c.InputTerm != nil:
		input = ast.MustParseTerm(*c.InputTerm).Value
	case c.Input != nil:
		input = ast.MustInterfaceToValue(*c.Input)
	}
	now := time.Now()
	want, wantErr := interpret(t, compiler, store, c.Query, input, now)

	var rules []*ast.Rule
	for _, m := range compiler.Modules {
		rules = append(rules, m.Rules...)
	}
	if err := guard(compiler, rules); err != nil {
		return err.Error()
	}
	planned, err := planOf(ctx, compiler, store, ast.MustParseBody(c.Query))
	if err != nil {
		return oneLine(err)
	}
	data, err := read(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	p, err := compile(planned, data)
	if errors.Is(err, ErrUnsupported) {
		return oneLine(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got ast.Set
	for range 2 { // the second time with a machine that was used
		m := p.take(ctx, Question{Input: input, Now: now})
		if err = m.run(); err == nil {
			got = bindings(m.results)
		}
		p.give(m)
	}

	switch {
	case wantErr != nil && err == nil:
		t.Errorf("got %v, but topdown ends with %v", got, wantErr)
	case wantErr != nil:
		return ""
	case err != nil:
		return "asks topdown: " + oneLine(err)
	case got.Compare(want) != 0:
		t.Errorf("got     %v\ntopdown %v", got, want)
	}
	if c.WantResult != nil && !c.SortBindings {
		wanted := ast.NewSet()
		for _, b := range *c.WantResult {
			o := ast.NewObject()
			for k, v := range b {
				o.Insert(ast.StringTerm(k), ast.NewTerm(ast.MustInterfaceToValue(v)))
			}
			wanted.Add(ast.NewTerm(o))
		}
		if asJSON(t, got).Compare(asJSON(t, wanted)) != 0 && !c.IgnoreGeneratedVars {
			t.Errorf("got    %v\nwanted %v", got, wanted)
		}
	}
	if c.WantErrorCode != nil && !c.StrictError {
		t.Errorf("got %v, wanted the error %s", got, *c.WantErrorCode)
	}
	return ""
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }

func prepare(t *testing.T, c cases.TestCase) (*ast.Compiler, storage.Store) {
	t.Helper()
	version := ast.RegoV1
	if strings.Contains(filepath.ToSlash(c.Filename), "/testdata/v0/") {
		version = ast.RegoV0
	}
	options := ast.ParserOptions{RegoVersion: version}
	if c.ExperimentalKeywords {
		options.Capabilities = ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(true))
	}
	modules := map[string]string{}
	for i, m := range c.Modules {
		modules[fmt.Sprintf("test-%d.rego", i)] = m
	}
	compiler := ast.MustCompileModulesWithOpts(modules, ast.CompileOpts{ParserOptions: options})
	data := map[string]any{}
	if c.Data != nil {
		data = *c.Data
	}
	return compiler, inmem.NewFromObjectWithOpts(data, inmem.OptReturnASTValuesOnRead(true))
}

// interpret is what topdown gives.
func interpret(t *testing.T, compiler *ast.Compiler, store storage.Store, query string, input ast.Value, now time.Time) (ast.Set, error) {
	t.Helper()
	ctx := context.Background()
	compiled, err := compiler.QueryCompiler().Compile(ast.MustParseBody(query))
	if err != nil {
		t.Fatal(err)
	}
	txn := storage.NewTransactionOrDie(ctx, store)
	defer store.Abort(ctx, txn)
	q := topdown.NewQuery(compiled).WithCompiler(compiler).WithStore(store).WithTransaction(txn).
		WithStrictBuiltinErrors(true).WithTime(now)
	if input != nil {
		q = q.WithInput(ast.NewTerm(input))
	}
	found, err := q.Run(ctx)
	all := ast.NewSet()
	for _, b := range found {
		o := ast.NewObject()
		for k, v := range b {
			if !strings.HasPrefix(string(k), "__local") {
				o.Insert(ast.StringTerm(string(k)), v)
			}
		}
		all.Add(ast.NewTerm(o))
	}
	return all, err
}

// bindings are results without the variables that OPA adds to a query.
func bindings(results []*ast.Term) ast.Set {
	all := ast.NewSet()
	for _, r := range results {
		o := ast.NewObject()
		r.Value.(ast.Object).Foreach(func(k, v *ast.Term) {
			if name := string(k.Value.(ast.String)); !strings.HasPrefix(name, "^") && !strings.HasPrefix(name, "__local") {
				o.Insert(k, v)
			}
		})
		all.Add(ast.NewTerm(o))
	}
	return all
}

// asJSON writes sets as arrays, as the cases do.
func asJSON(t *testing.T, v ast.Value) ast.Value {
	t.Helper()
	j, err := ast.JSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return ast.MustInterfaceToValue(j)
}
