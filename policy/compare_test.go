package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	mounts, err := topic.NewMounts([]topic.Mount{{Client: "a/", Org: "b/"}})
	if err != nil {
		t.Fatal(err)
	}
	allow := policy.Decision{Allow: true, ID: "1", Revision: "r", Limits: policy.DefaultLimits(), Roles: []string{"x", "y"}}
	deny := policy.Decision{Cause: policy.CausePolicy, Reason: "no"}
	changed := func(from policy.Decision, change func(*policy.Decision)) *policy.Decision {
		change(&from)
		return &from
	}
	tests := []struct {
		name          string
		action        policy.Action
		before, after *policy.Decision
		verdict       policy.Verdict
		fields        []string
	}{
		{"the same", policy.ActionConnect, &allow, changed(allow, func(d *policy.Decision) { d.ID, d.Revision = "2", "s" }), policy.VerdictSame, nil},
		{"roles in another order", policy.ActionConnect, &allow, changed(allow, func(d *policy.Decision) { d.Roles = []string{"y", "x", "x"} }), policy.VerdictSame, nil},
		{"no roles and none at all", policy.ActionConnect, changed(allow, func(d *policy.Decision) { d.Roles = nil }), changed(allow, func(d *policy.Decision) { d.Roles = []string{} }), policy.VerdictSame, []string{"roles"}},
		{"taken away", policy.ActionPublish, &allow, &deny, policy.VerdictDenied, nil},
		{"given", policy.ActionPublish, &deny, &allow, policy.VerdictGiven, nil},
		{"how long it holds", policy.ActionPublish, &allow, changed(allow, func(d *policy.Decision) { d.Until = time.Unix(1, 0) }), policy.VerdictSame, nil},
		{"another session", policy.ActionConnect, &allow, changed(allow, func(d *policy.Decision) {
			d.Mounts, d.Groups, d.Limits.QoSMax, d.Share, d.ExpiresAt = mounts, []string{"g"}, 1, "s", time.Unix(1, 0)
		}), policy.VerdictSame, []string{"mounts", "groups", "limits", "expires_at", "share"}},
		{"retain", policy.ActionPublish, &allow, changed(allow, func(d *policy.Decision) { d.Retain = policy.RetainKeep }), policy.VerdictSame, []string{"retain"}},
		{"qos", policy.ActionSubscribe, &allow, changed(allow, func(d *policy.Decision) { d.MaxQoS = 1 }), policy.VerdictSame, []string{"qos"}},
		{"another reason", policy.ActionSubscribe, &deny, changed(deny, func(d *policy.Decision) {
			d.Reason, d.Cause, d.OnDeny = "never", policy.CauseError, policy.Close
		}), policy.VerdictSame, []string{"reason", "cause", "on_deny"}},
		{"what is to be done about it", policy.ActionPublish, &deny, changed(deny, func(d *policy.Decision) {
			d.Register, d.Notify.Code = true, 180
		}), policy.VerdictSame, []string{"register", "notify"}},
	}
	for _, test := range tests {
		d := policy.Compare(test.action, test.before, test.after)
		if d.Verdict != test.verdict || !slices.Equal(d.Fields, test.fields) || d.IsZero() != (test.verdict == policy.VerdictSame && test.fields == nil) {
			t.Errorf("%s: %v %v, want %v %v", test.name, d.Verdict, d.Fields, test.verdict, test.fields)
		}
	}
}
