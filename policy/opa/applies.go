package opa

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/cordon-mq/cordon/policy"
)

// Each delivery of each subscriber is a question to cordon.receive, and most
// principals may have whatever they could subscribe to. So the package may have a
// rule applies, which says by the principal, its organisation and its client whose
// deliveries are decided at all. It is asked once for a holder and a bundle, so it
// may read nothing that changes in between: not the message, and not the clock.

const appliesRule = "applies"

// prepareApplies is nil where there is no such rule.
func (s *shapes) prepareApplies(ctx context.Context, c *ast.Compiler, store storage.Store, src *source, report *Report) *entryPoint {
	ref := entryRef(packageOf[policy.ActionReceive], appliesRule)
	e, err := newEntryPoint(ctx, c, store, ref)
	if err != nil {
		report.addErrors(src, err)
		return nil
	}
	if e != nil && (e.reads != 0 || e.clock) {
		report.problem(src, c.GetRules(ref)[0].Location, CodeAnswer,
			ref.String()+" is asked once for each principal, so it can read input.principal, input.org and input.client, and neither the message nor the clock", "")
	}
	return e
}

// receives reports whether the live bundle decides what j's holder may receive. A
// rule that fails counts as one that says so: then the decision is asked.
func (j *judge) receives(snap *snapshot) bool {
	if snap.receives == nil {
		return true
	}
	const known, yes = 2, 1
	at := uint64(snap.generation)<<2 | known
	switch kept := j.applies.Load(); kept {
	case at:
		return false
	case at | yes:
		return true
	}
	applies := j.asksReceive(snap)
	if applies {
		at |= yes
	}
	j.applies.Store(at)
	return applies
}

func (j *judge) asksReceive(snap *snapshot) bool {
	constant, cause, _ := j.constantPart()
	if cause != policy.CauseNone {
		return true
	}
	input := constant.input(&policy.Request{Action: policy.ActionReceive}, 0)
	v, cause, _ := j.engine.evaluate(context.Background(), snap.receives, input, time.Time{})
	switch cause {
	case policy.CauseUndefined:
		return false
	case policy.CauseNone:
		b, ok := v.(ast.Boolean)
		return !ok || bool(b)
	default:
		return true
	}
}
