package opa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/confined"
)

var errEvaluationShare = errors.New("the organisation has used its share of time for evaluations")

// evaluateOwn asks the rule of an organisation, within what its rules may use.
// Whatever goes wrong is a cause, as with evaluate.
func (e *Engine) evaluateOwn(ctx context.Context, t *tenant, rule *narrowRule, input ast.Value, now time.Time) (v ast.Value, cause policy.Cause, err error) {
	u := e.useOf(t)
	if !u.decided.left(time.Now()) {
		e.counters.overShare.Add(1)
		return nil, policy.CauseQuota, errEvaluationShare
	}
	tooLong := fmt.Errorf("%s took longer than %v", rule.ref, e.narrowing.timeout)
	waiting, cancel := context.WithTimeout(ctx, e.narrowing.timeout)
	defer cancel()
	for _, slots := range []chan struct{}{u.running, e.narrowing.running} {
		if enter(waiting, slots) != nil {
			return nil, policy.CauseTimeout, tooLong
		}
		defer func() { <-slots }()
	}
	e.counters.evaluations.Add(1)
	began := time.Now()
	defer func() { u.decided.take(time.Now(), time.Since(began)) }()
	defer e.timed(began)

	flag := new(stop)
	timer := time.AfterFunc(e.narrowing.timeout, flag.Cancel)
	defer timer.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, flag.Cancel)()
	}
	term, err := rule.program.Run(ctx, rule.entry, input, now, confined.Limits{Cancel: flag, Most: e.outputMax * 16})
	switch {
	case flag.Cancelled() && err != nil:
		return nil, policy.CauseTimeout, tooLong
	case errors.Is(err, confined.ErrPanic):
		return nil, policy.CausePanic, err
	case err != nil:
		return nil, policy.CauseError, err
	case term == nil:
		return nil, policy.CauseUndefined, fmt.Errorf("%s: %w", rule.ref, errUndefined)
	case measureValue(term.Value, e.outputMax) < 0:
		return nil, policy.CauseOutputSize, fmt.Errorf("%s has an answer of more than %d bytes", rule.ref, e.outputMax)
	}
	return term.Value, policy.CauseNone, nil
}

// ownDetail begins what the log says of a failure that is the organisation's.
const ownDetail = "the organisation's bundle: "

// narrow asks the organisation about what the platform allowed.
func (j *judge) narrow(ctx context.Context, rule *narrowRule, r *policy.Request, input ast.Value, a answer, keep bool, now time.Time) (answer, bool) {
	refuse := func(cause policy.Cause, err error) answer {
		no := answer{Decision: policy.Decision{Cause: cause, Detail: ownDetail + err.Error()}}
		no.OrgRevision = rule.of.revision
		return no
	}
	if o, ok := input.(ast.Object); ok {
		o.Insert(platformKey, platformTerm(r.Action, &a))
	}
	value, cause, err := j.engine.evaluateOwn(ctx, j.tenant, rule, input, now)
	var n answer
	switch cause {
	case policy.CauseNone:
		if n, err = decodeNarrowing(r.Action, value, &a); err != nil {
			n = refuse(policy.CauseMalformed, err)
		}
	case policy.CauseUndefined:
		n = refuse(cause, err)
	default:
		return refuse(cause, err), false
	}
	if rule.clock && !n.hasTTL {
		if r.Action == policy.ActionConnect || r.Action == policy.ActionSubscribe {
			n.ttl, n.hasTTL = clockTTL, true
		} else {
			keep = false
		}
	}
	n = narrower(&a, &n)
	n.OrgRevision = rule.of.revision
	return n, keep && (!n.hasTTL || n.ttl > 0)
}
