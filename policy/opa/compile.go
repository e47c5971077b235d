package opa

import (
	"context"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/plan"
)

// entryPoint is one rule that is asked, ready to evaluate.
type entryPoint struct {
	ref   ast.Ref
	query rego.PreparedEvalQuery
	plan  *planned // the same, faster; nil: not supported
	reads fields   // what of a request its rules can read
	clock bool     // whether its rules can read the clock

	client clientFields // what of the client
	paths  inputPaths   // which parts of input the rules of the platform can read

	// own is what an organisation's bundle says on top; nil: nothing. Then platform
	// is who is asked first, nil where that has no rule, and the fields above are
	// those of both.
	platform *entryPoint
	own      *narrowRule
}

func entryRef(pkg, rule string) ast.Ref {
	return ast.Ref{ast.DefaultRootDocument, ast.StringTerm("cordon"), ast.StringTerm(pkg), ast.StringTerm(rule)}
}

// newCompiler is the compiler of tests and of the live bundle alike: strict,
// without the removed built-ins, with input typed.
func newCompiler(data map[string]any, s *shapes) *ast.Compiler {
	plan.Register() // before anybody asks OPA to evaluate: its list of targets has no lock
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithStrict(true).
		WithDefaultRegoVersion(ast.RegoV1).
		WithPathConflictsCheck(func(path []string) (bool, error) { return hasPath(data, path), nil }).
		SetErrorLimit(0) // all of them
	return s.apply(c)
}

func hasPath(data map[string]any, path []string) bool {
	for i, key := range path {
		v, ok := data[key]
		if !ok {
			return false
		}
		if i == len(path)-1 {
			return true
		}
		if data, ok = v.(map[string]any); !ok {
			return true // a value that a rule would have to be inside of
		}
	}
	return false
}

func newStore(data map[string]any) storage.Store {
	return inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
}

// compileLive compiles the bundle without its tests, checks the answers it can
// give, and prepares the entry points.
func compileLive(ctx context.Context, src *source, modules map[string]*ast.Module, data map[string]any, s *shapes, report *Report) *Bundle {
	live := map[string]*ast.Module{}
	for name, m := range modules {
		if !strings.HasSuffix(name, "_test.rego") {
			live[name] = m
		}
	}
	c := newCompiler(data, s)
	if c.Compile(live); c.Failed() {
		report.addErrors(src, c.Errors)
		return nil
	}

	b := &Bundle{words: wordsOf(live, data)}
	store := newStore(data)
	prepare := func(pkg, rule string) *entryPoint {
		e, err := newEntryPoint(ctx, c, store, entryRef(pkg, rule))
		if err != nil {
			report.addErrors(src, err)
		}
		if e == nil && pkg != packageOf[policy.ActionReceive] {
			report.warning(src, nil, CodeMissing, entryRef(pkg, rule).String()+" has no rule, which "+withoutRule[rule], "")
		}
		return e
	}
	b.compiler, b.shapes = c, s
	for rule, into := range map[string]**entryPoint{"mask": &b.mask, "drop": &b.drop} {
		var err error
		if *into, err = newEntryPoint(ctx, c, store, logRef(rule)); err != nil {
			report.addErrors(src, err)
		}
	}
	b.verifiers = prepare(packageOf[policy.ActionConnect], "verifiers")
	for action := policy.ActionConnect; action <= policy.ActionAdminister; action++ {
		pkg := packageOf[action]
		b.decisions[action] = prepare(pkg, "decision")
		if b.decisions[action] != nil {
			s.checkAnswers(c, action, entryRef(pkg, "decision"), src, report)
		}
	}
	if b.decisions[policy.ActionReceive] != nil {
		b.receives = s.prepareApplies(ctx, c, store, src, report)
	}
	return b
}

// withoutRule says what a missing rule does. Read only.
var withoutRule = map[string]string{
	"verifiers": "refuses every credential",
	"decision":  "denies everything",
}

// newEntryPoint is nil when ref has no rule.
func newEntryPoint(ctx context.Context, c *ast.Compiler, store storage.Store, ref ast.Ref) (*entryPoint, error) {
	rules := c.GetRules(ref)
	if len(rules) == 0 {
		return nil, nil
	}
	query, err := rego.New(
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))),
		rego.Compiler(c),
		rego.Store(store),
		rego.StrictBuiltinErrors(true),
		rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t, nil }),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	e := &entryPoint{ref: ref, query: query}
	e.reads, e.client, e.clock = readsOf(c, rules)
	e.paths = pathsOf(c, rules)
	if program, err := plan.Compile(ctx, c, store, ref); err == nil { // else topdown evaluates
		e.plan = &planned{program: program}
	}
	return e, nil
}
