package policytest

import (
	"context"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// DenyAll denies everything, as a broker without a policy does.
type DenyAll struct{}

// AllowAll allows everything: every client gets the identity mount and the
// default limits, every filter QoS 2, and retained messages are kept. The token
// verifier is the only one.
type AllowAll struct{}

var (
	_ policy.Decider = DenyAll{}
	_ policy.Decider = AllowAll{}
)

// Verifiers names none.
func (DenyAll) Verifiers(context.Context, *policy.Client, *policy.Organisation) ([]policy.VerifierRef, error) {
	return nil, &policy.Error{Kind: policy.KindForbidden, Op: "choose verifiers", Public: "not authorised"}
}

// Judge denies with CauseUndefined.
func (DenyAll) Judge(*policy.Facts) policy.Judge {
	return fixedJudge{denied, func(policy.Action) bool { return false }}
}

// Verifiers names the token verifier.
func (AllowAll) Verifiers(context.Context, *policy.Client, *policy.Organisation) ([]policy.VerifierRef, error) {
	return []policy.VerifierRef{{Verifier: "token"}}, nil
}

// Judge allows.
func (AllowAll) Judge(*policy.Facts) policy.Judge {
	return fixedJudge{
		func(_ context.Context, r *policy.Request) *policy.Decision { return Allowed(r.Action) },
		func(a policy.Action) bool { return a != policy.ActionReceive }, // which is optional
	}
}

// Allowed is a new decision that allows a: with the identity mount and default
// limits for connect, QoS 2 for subscribe, a kept retain flag for publish.
func Allowed(a policy.Action) *policy.Decision {
	d := &policy.Decision{Allow: true, ID: "allowed", Revision: "policytest"}
	switch a {
	case policy.ActionConnect:
		d.Mounts = IdentityMount()
		d.Limits = policy.DefaultLimits()
	case policy.ActionPublish:
		d.Retain = policy.RetainKeep
	case policy.ActionSubscribe:
		d.MaxQoS = 2
	case policy.ActionNone, policy.ActionReceive, policy.ActionAdminister: // to be allowed is all
	}
	return d
}

// Denied is a new decision that denies with CausePolicy and reason.
func Denied(reason string) *policy.Decision {
	return &policy.Decision{Cause: policy.CausePolicy, Reason: reason, ID: "denied", Revision: "policytest"}
}

// IdentityMount maps every topic to itself.
func IdentityMount() topic.Mounts {
	mounts, err := topic.NewMounts([]topic.Mount{{}})
	if err != nil {
		// The zero Mount is the identity mount; a test of this package holds it.
		return topic.Mounts{}
	}
	return mounts
}

func denied(context.Context, *policy.Request) *policy.Decision {
	return &policy.Decision{Cause: policy.CauseUndefined, ID: "denied", Revision: "policytest"}
}

type fixedJudge struct {
	decide  func(context.Context, *policy.Request) *policy.Decision
	decides func(policy.Action) bool
}

func (f fixedJudge) Decide(ctx context.Context, r *policy.Request) *policy.Decision {
	return f.decide(ctx, r)
}

func (fixedJudge) Generation() policy.Generation  { return 1 }
func (f fixedJudge) Decides(a policy.Action) bool { return f.decides(a) }
