package opa

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa/confined"
)

// ReplayNarrowed is Replay with n, a bundle of the organisation org, on top of b: also
// where another one of the organisation answered. A decision about anybody else is
// skipped.
func (b *Bundle) ReplayNarrowed(ctx context.Context, org policy.OrgID, n *Narrowing, ev *audit.Event) (*Replayed, error) {
	action, entry, err := b.asked(ev)
	if err != nil {
		return nil, err
	}
	if org.IsZero() || ev.Custom.Org != org.String() {
		return &Replayed{Skipped: "it is about another organisation"}, nil
	}
	alone := *ev
	alone.Bundles = nil // what answered then does not matter: both are asked again
	both := over(entry, action, n)
	if why := skipped(&alone, both); why != "" {
		return &Replayed{Skipped: why}, nil
	}
	if both != nil && both.own != nil && masked(ev) {
		return &Replayed{Skipped: "a mask hides input, and the organisation's rules may read it"}, nil
	}
	input, err := b.readInput(action, ev.Input)
	if err != nil {
		return nil, err
	}
	a := answer{Decision: policy.Decision{Allow: true}}
	if entry != nil || both == nil {
		if a, err = b.answerTo(ctx, action, entry, input, timeOf(ev)); err != nil {
			return nil, err
		}
	}
	if a.Allow && both != nil && both.own != nil {
		a = both.own.replay(ctx, action, input, &a, timeOf(ev))
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	out := &Replayed{Allow: a.Allow, Reason: a.Reason, Cause: a.Cause, Detail: a.Detail}
	if a.Cause == policy.CauseNone || a.Cause == policy.CausePolicy {
		out.Result = resultOf(action, &a.Decision).encode()
	}
	out.Differences, err = differences(ev, out)
	return out, err
}

// masked reports whether anything of the input is hidden: what the rules of an
// organisation read is known by field and not by path.
func masked(ev *audit.Event) bool {
	for _, paths := range [][]string{ev.Erased, ev.Masked} {
		for _, path := range paths {
			if len(path) >= len("/input") && path[:len("/input")] == "/input" {
				return true
			}
		}
	}
	return false
}

// replay is what the rule makes of the platform's answer.
func (r *narrowRule) replay(ctx context.Context, action policy.Action, input ast.Object, a *answer, at time.Time) answer {
	n, _ := r.answer(ctx, action, input, a, at, func(ctx context.Context, entry string, input ast.Value, now time.Time, l confined.Limits) (*ast.Term, *confined.Trace, error) {
		t, err := r.program.Run(ctx, entry, input, now, l)
		return t, nil, err
	})
	return n
}

// answer runs the rule. Nobody waits for it, so it has more time than beside a
// connection.
func (r *narrowRule) answer(ctx context.Context, action policy.Action, input ast.Object, a *answer, at time.Time,
	run func(context.Context, string, ast.Value, time.Time, confined.Limits) (*ast.Term, *confined.Trace, error),
) (answer, *confined.Trace) {
	refuse := func(cause policy.Cause, err error) answer {
		return answer{Decision: policy.Decision{Cause: cause, Detail: ownDetail + err.Error(), OrgRevision: r.of.revision}}
	}
	cancel := new(stop)
	timer := time.AfterFunc(replayTime, cancel.Cancel)
	defer timer.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}
	input.Insert(platformKey, platformTerm(action, a))
	term, trace, err := run(ctx, r.entry, input, at, confined.Limits{Cancel: cancel})
	switch {
	case err != nil:
		return refuse(policy.CauseError, err), trace
	case term == nil:
		return refuse(policy.CauseUndefined, errUndefined), trace
	}
	n, err := decodeNarrowing(action, term.Value, a)
	if err != nil {
		return refuse(policy.CauseMalformed, err), trace
	}
	n = narrower(a, &n)
	n.OrgRevision = r.of.revision
	return n, trace
}
