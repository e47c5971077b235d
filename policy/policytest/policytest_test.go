package policytest

import (
	"context"
	"errors"
	"testing"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

func actions() []policy.Action {
	return []policy.Action{policy.ActionConnect, policy.ActionPublish, policy.ActionSubscribe, policy.ActionReceive, policy.ActionAdminister}
}

func TestDenyAll(t *testing.T) {
	t.Parallel()
	var d policy.Decider = DenyAll{}
	for _, a := range actions() {
		if got := d.Judge(nil).Decide(context.Background(), &policy.Request{Action: a}); got.Allow || got.Cause == policy.CauseNone || d.Judge(nil).Decides(a) {
			t.Errorf("%v: %+v", a, got)
		}
	}
	if refs, err := d.Verifiers(context.Background(), nil, nil); err == nil || len(refs) > 0 {
		t.Errorf("verifiers %v, error %v", refs, err)
	}
}

func TestAllowAll(t *testing.T) {
	t.Parallel()
	var d policy.Decider = AllowAll{}
	for _, a := range actions() {
		if got := d.Judge(nil).Decide(context.Background(), &policy.Request{Action: a}); !got.Allow || got.Cause != policy.CauseNone {
			t.Errorf("%v: %+v", a, got)
		}
	}
	connect := d.Judge(nil).Decide(context.Background(), &policy.Request{Action: policy.ActionConnect})
	name, err := topic.ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	if routed, _, err := connect.Mounts.In(name); err != nil || routed.String() != "a/b" || connect.Limits != policy.DefaultLimits() {
		t.Errorf("a/b is %q inside (%v), limits %+v", routed, err, connect.Limits)
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	var r Recorder
	facts := &policy.Facts{}
	judge := r.Judge(facts)
	request := &policy.Request{Action: policy.ActionPublish, Levels: []string{"a"}, Properties: &policy.Properties{User: []policy.UserProperty{{Key: "k"}}}}

	if !judge.Decide(context.Background(), request).Allow {
		t.Error("an unscripted Recorder does not allow")
	}
	r.Deny(policy.ActionPublish, "not now")
	if d := judge.Decide(context.Background(), request); d.Allow || d.Cause != policy.CausePolicy || d.Reason != "not now" {
		t.Errorf("%+v", d)
	}
	request.Levels[0], request.Properties.User[0].Key = "b", "l"
	asked := r.Asked(policy.ActionPublish)
	if len(asked) != 2 || asked[0].Facts != facts || asked[0].Request.Levels[0] != "a" || asked[0].Request.Properties.User[0].Key != "k" {
		t.Errorf("asked %+v", asked)
	}
	r.Forget()
	if n := len(r.Asked(policy.ActionPublish)); n != 0 {
		t.Errorf("%d questions are left", n)
	}

	if r.Decides(policy.ActionReceive) || !r.Decides(policy.ActionConnect) {
		t.Error("only receive is optional")
	}
	r.Deny(policy.ActionReceive, "")
	if !r.Decides(policy.ActionReceive) {
		t.Error("a scripted receive is not decided")
	}

	if before := r.Generation(); r.Activate() != before+1 || r.Generation() != before+1 {
		t.Error("an activation is not the next generation")
	}

	failed := errors.New("failed")
	r.OnVerifiers(func(*policy.Client) ([]policy.VerifierRef, error) { return nil, failed })
	if _, err := r.Verifiers(context.Background(), nil, nil); !errors.Is(err, failed) {
		t.Errorf("verifiers: %v", err)
	}
}
