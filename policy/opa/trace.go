package opa

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxAttempts bounds what one trace keeps: rules that iterate make many.
const maxAttempts = 10_000

// attempt is one try of a rule, or of a body inside one.
type attempt struct {
	id     uint64
	rule   *ast.Rule // nil: a body
	parent *attempt
	order  int
	worked bool // it gave a value

	reached int       // index of the furthest expression that was tried; -1: none
	failed  *ast.Expr // of that index, the one that failed; nil: none did
	locals  *ast.ValueMap
	names   map[ast.Var]topdown.VarMetadata
}

// tracer is a topdown.QueryTracer that keeps how far each rule got.
type tracer struct {
	byID map[uint64]*attempt
	all  []*attempt
	full bool
}

func newTracer() *tracer { return &tracer{byID: map[uint64]*attempt{}} }

// Enabled is always true.
func (*tracer) Enabled() bool { return true }

// Config asks for the values of variables.
func (*tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent notes what an evaluation does.
func (t *tracer) TraceEvent(e topdown.Event) {
	a := t.byID[e.QueryID]
	if a == nil {
		if t.full = t.full || len(t.all) >= maxAttempts; t.full {
			return
		}
		a = &attempt{id: e.QueryID, parent: t.byID[e.ParentID], order: len(t.all), reached: -1}
		t.byID[e.QueryID] = a
		t.all = append(t.all, a)
	}
	switch e.Op {
	case topdown.EnterOp:
		if rule, ok := e.Node.(*ast.Rule); ok {
			a.rule = rule
		}
	case topdown.EvalOp:
		if x, ok := e.Node.(*ast.Expr); ok && x.Index > a.reached {
			a.reached, a.failed = x.Index, nil
		}
	case topdown.FailOp:
		if x, ok := e.Node.(*ast.Expr); ok && x.Index == a.reached && a.failed == nil {
			a.failed, a.names = x, e.LocalMetadata
			a.locals = plugged(e.Locals)
		}
	case topdown.ExitOp:
		a.worked = true
	}
}

// plugged follows variables that stand for others to their values: later steps of the
// evaluation would change them.
func plugged(locals *ast.ValueMap) *ast.ValueMap {
	out := ast.NewValueMap()
	locals.Iter(func(k, v ast.Value) bool {
		for range 8 {
			next, ok := v.(ast.Var)
			if !ok {
				break
			}
			bound := locals.Get(next)
			if bound == nil {
				break
			}
			v = bound
		}
		out.Put(k, v)
		return false
	})
	return out
}

// of lists the attempts of rules that ref names, in order.
func (t *tracer) of(ref ast.Ref) (found []*attempt) {
	for _, a := range t.all {
		if a.rule != nil && (a.rule.Ref().Equal(ref) || ref.HasPrefix(a.rule.Ref().GroundPrefix())) {
			found = append(found, a)
		}
	}
	return found
}

// fired lists the rules that gave a value, each once, without generated ones.
func (t *tracer) fired() (rules []*ast.Rule) {
	for _, a := range t.all {
		if a.worked && a.rule != nil && !slices.Contains(rules, a.rule) {
			rules = append(rules, a.rule)
		}
	}
	return rules
}
