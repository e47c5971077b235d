package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// topdownValue is what topdown gives; nil: undefined.
func topdownValue(c *ast.Compiler, store storage.Store, ref ast.Ref, input ast.Value, now time.Time) (ast.Value, error) {
	ctx := context.Background()
	txn := storage.NewTransactionOrDie(ctx, store)
	defer store.Abort(ctx, txn)
	query := ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(ref)))
	q := topdown.NewQuery(query).WithCompiler(c).WithStore(store).WithTransaction(txn).
		WithStrictBuiltinErrors(true).WithTime(now)
	if input != nil {
		q = q.WithInput(ast.NewTerm(input))
	}
	found, err := q.Run(ctx)
	switch {
	case err != nil || len(found) == 0:
		return nil, err
	case len(found) > 1:
		return nil, fmt.Errorf("%d values", len(found))
	}
	return found[0][result].Value, nil
}

// differ says how the two evaluators differ; empty: not at all. asks is whether
// the plan left the answer to topdown.
func differ(p *Program, c *ast.Compiler, store storage.Store, ref ast.Ref, input ast.Value) (how string, asks bool) {
	now := time.Unix(1700000000, 5)
	want, wantErr := topdownValue(c, store, ref, input, now)
	got, err := p.Eval(context.Background(), Question{Input: input, Now: now})
	var failure *topdown.Error
	switch {
	case err != nil:
		return "", wantErr == nil
	case errors.As(wantErr, &failure) && failure.Code == topdown.InternalErr:
		return "", false // topdown says that it met a fault of OPA's compiler
	case wantErr != nil:
		return fmt.Sprintf("got %v, topdown ends with %v", got, wantErr), false
	case (got == nil) != (want == nil) || got != nil && got.Compare(want) != 0:
		return fmt.Sprintf("got %v, topdown %v", got, want), false
	}
	return "", false
}

func TestSemantics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/semantics.rego")
	if err != nil {
		t.Fatal(err)
	}
	c := ast.MustCompileModules(map[string]string{"semantics.rego": string(text)})
	store := inmem.NewFromObjectWithOpts(map[string]any{
		"fruits": []any{"apple", "pear"},
		"prices": map[string]any{"x": 1, "y": map[string]any{"z": 2}},
	}, inmem.OptReturnASTValuesOnRead(true))
	inputs := map[string]ast.Value{"none": nil}
	for name, input := range map[string]string{
		"usual": `{"n": 1, "zero": 0, "text": "x", "xs": [1, 2, 3], "o": {"a": {"b": {"c": 4}}, "x": "y"}, "three": [1, "fixed", 2], "unify": {"p": 3, "q": 1}, "letters": {"l": "a", "m": "b"}}`,
		"other": `{"n": 2, "zero": 1, "text": "y", "xs": ["x", "a"], "o": {"z": 1, "1": 2}, "three": [1, 2], "unify": {"p": 3}, "letters": ["b", "b"]}`,
		"same":  `{"n": 0, "zero": 5, "text": "nobody", "xs": [2, 2], "o": {}, "three": {}, "a": {"b": 1}}`,
		"sets":  `{"n": {1}, "text": ["x"], "xs": {1, 2}, "o": {"a", "x"}, "a": {"b": {"e": 1}}}`,
		"text":  `"input"`,
		"empty": `{}`,
	} {
		inputs[name] = ast.MustParseTerm(input).Value
	}
	var refused []string
	seen, asked := map[string]bool{}, 0
	for _, rule := range c.Modules["semantics.rego"].Rules {
		ref := ast.MustParseRef("data.semantics").Extend(rule.Head.Ref().GroundPrefix())
		if len(rule.Head.Args) > 0 || seen[ref.String()] {
			continue
		}
		seen[ref.String()] = true
		p, err := Compile(context.Background(), c, store, ref)
		if err != nil {
			refused = append(refused, string(ref[2].Value.(ast.String)))
			continue
		}
		for name, input := range inputs {
			how, asks := differ(p, c, store, ref, input)
			if how != "" {
				t.Errorf("%v of the input %q: %s", ref, name, how)
			}
			if asks {
				asked++
			}
		}
	}
	// Some negations mean too many rules; one term is a comprehension alone.
	want := []string{"not_uneven", "not_uneven_deep", "not_inner", "not_uneven_equal", "not_every_uneven", "not_flag", "not_flag_deep", "not_flag_with", "alone", "not_keys", "not_literals", "not_deep_literals"}
	if !slices.Equal(refused, want) {
		t.Errorf("refused %q, want %q", refused, want)
	}
	if len(seen) < 80 || asked > 12 {
		t.Errorf("%d rules; %d answers were left to topdown, want almost none", len(seen), asked)
	}
}
