package opa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/cordon-mq/cordon/policy/opa/plan"
)

// planned is the plan of one entry point, and the trust in it: its first answer
// and then one of comparedOf is compared with topdown's. One that differs ends the
// use of the plan.
type planned struct {
	program *plan.Program
	asked   atomic.Uint64
	off     atomic.Bool
}

const comparedOf = 1024

// value is what the rules of entry give, nil when it is undefined. Topdown is
// asked where there is no plan, and has the word where a plan ends with an error:
// its errors say where.
func (entry *entryPoint) value(ctx context.Context, input ast.Value, now time.Time, cancel topdown.Cancel, log *slog.Logger) (ast.Value, error) {
	p := entry.plan
	if p == nil || p.off.Load() {
		return entry.interpret(ctx, input, now, cancel)
	}
	v, err := p.program.Eval(ctx, plan.Question{Input: input, Now: now, Cancel: cancel})
	switch {
	case errors.Is(err, plan.ErrStopped):
		return nil, err
	case err != nil:
		return entry.interpret(ctx, input, now, cancel)
	case p.asked.Add(1)%comparedOf != 1:
		return v, nil
	}
	want, err := entry.interpret(ctx, input, now, cancel)
	if cancel.Cancelled() {
		return want, err
	}
	if err != nil || !sameValue(v, want) {
		p.off.Store(true)
		// Of the answers nothing but their difference: they may hold secrets.
		log.Error("the plan of a rule differs from its evaluation; it is not used any more", "rule", entry.ref.String())
	}
	return want, err
}

// sameValue compares two values, of which nil is undefined.
func sameValue(a, b ast.Value) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Compare(b) == 0
}

// interpret is value by topdown alone.
func (entry *entryPoint) interpret(ctx context.Context, input ast.Value, now time.Time, cancel topdown.Cancel) (ast.Value, error) {
	results, err := entry.query.Eval(ctx,
		rego.EvalParsedInput(input),
		rego.EvalTime(now),
		rego.EvalMetrics(metrics.NoOp()),
		rego.EvalExternalCancel(cancel),
	)
	switch {
	case err != nil || len(results) == 0:
		return nil, err
	case len(results) > 1 || len(results[0].Expressions) != 1:
		return nil, fmt.Errorf("%s has %w: more than one", entry.ref, errNoValue)
	}
	term, ok := results[0].Expressions[0].Value.(*ast.Term)
	if !ok {
		return nil, fmt.Errorf("%s has %w: a %T", entry.ref, errNoValue, results[0].Expressions[0].Value)
	}
	return term.Value, nil
}
