package opa

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// narrowing makes the bundle of an organisation.
func mustNarrow(t testing.TB, files fstest.MapFS) *Narrowing {
	t.Helper()
	n, report := LoadNarrowing(context.Background(), files, builtinSchemas())
	if n == nil {
		var out strings.Builder
		_, _ = report.WriteTo(&out)
		t.Fatalf("bundle does not load:\n%s", out.String())
	}
	return n
}

// publishNarrow is a rule about publishing, as an organisation writes it.
func publishNarrow(rules string) fstest.MapFS {
	return module(map[string]string{"publish": rules})
}

func decide(t testing.TB, j policy.Judge, r *policy.Request) *policy.Decision {
	t.Helper()
	return j.Decide(context.Background(), r)
}

// What an organisation's bundle says, and what it comes to on top of the built-in
// policies.
func TestNarrowing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pkg, rules string
		request    *policy.Request
		check      func(*policy.Decision) bool
	}{
		"denies with its own words": {
			"publish", `decision := {"allow": false, "reason": "closed for maintenance", "on_deny": "drop"}`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool {
				return !d.Allow && d.Cause == policy.CausePolicy && d.Reason == "closed for maintenance" && d.OnDeny == policy.Drop
			},
		},
		"is not asked where the platform denied": {
			"publish", `decision := {"allow": true, "reason": "come in"}`, publishTo(t, "iot-2/cmd/status/fmt/json"),
			func(d *policy.Decision) bool { return !d.Allow && d.Reason != "come in" && d.OrgRevision == "" },
		},
		"sees what the platform answered": {
			"connect", `decision := {"allow": input.platform.limits.payload_max == 131072, "reason": sprintf("%v", [input.platform])}`, &policy.Request{Action: policy.ActionConnect},
			func(d *policy.Decision) bool { return d.Allow && len(d.Mounts.List()) > 0 },
		},
		"lowers limits": {
			"connect", `decision := {"allow": true, "limits": {"payload_max": 1000, "publish_rate": 5, "qos_max": 1}, "ttl": 30}`, &policy.Request{Action: policy.ActionConnect},
			func(d *policy.Decision) bool {
				return d.Allow && d.Limits.PayloadMax == 1000 && d.Limits.PublishRate == 5 && d.Limits.QoSMax == 1 && d.Limits.InflightMax == 100 && !d.Until.IsZero()
			},
		},
		"raises none": {
			"connect", `decision := {"allow": true, "limits": {"payload_max": 100000000, "session_expiry_max": 100000000}}`, &policy.Request{Action: policy.ActionConnect},
			func(d *policy.Decision) bool { return d.Allow && d.Limits == policy.DefaultLimits() },
		},
		"ends a session sooner": {
			"connect", `decision := {"allow": true, "expires_at": 4102444800000}`, &policy.Request{Action: policy.ActionConnect},
			func(d *policy.Decision) bool { return d.Allow && d.ExpiresAt.Equal(time.UnixMilli(4102444800000)) },
		},
		"grants a lower QoS": {
			"subscribe", `decision := {"allow": true, "qos": 0}`, subscribeTo(t, "iot-2/cmd/+/fmt/+"),
			func(d *policy.Decision) bool { return d.Allow && d.MaxQoS == 0 },
		},
		"refuses retained messages": {
			"publish", `decision := {"allow": true, "retain": "refuse"}`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool { return d.Allow && d.Retain == policy.RetainRefuse },
		},
		"keeps none that are stripped": {
			"publish", `decision := {"allow": true, "retain": "keep"}`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool { return d.Allow && d.Retain == policy.RetainStrip },
		},
		"judges deliveries, where the platform does not": {
			"receive", `decision := {"allow": false, "reason": "quiet"}`, &policy.Request{Action: policy.ActionReceive, Levels: []string{"a"}},
			func(d *policy.Decision) bool { return !d.Allow && d.Reason == "quiet" },
		},
		"denies where it has no answer": {
			"publish", `decision := {"allow": true} if input.qos == 2`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool {
				return !d.Allow && d.Cause == policy.CauseUndefined && strings.Contains(d.Detail, ownDetail)
			},
		},
		"denies where its answer is none": {
			"publish", `decision := {"allow": true, "retain": lower(input.principal.id)}`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool {
				return !d.Allow && d.Cause == policy.CauseMalformed && strings.Contains(d.Detail, ownDetail)
			},
		},
		"denies where a built-in fails": {
			"publish", `decision := {"allow": true} if to_number(input.principal.id) > 0`, publishTo(t, "iot-2/evt/status/fmt/json"),
			func(d *policy.Decision) bool {
				return !d.Allow && d.Cause == policy.CauseError && strings.Contains(d.Detail, "cordon/publish/publish.rego:3:")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, builtinBundle(), Options{NarrowingTimeout: 10 * time.Second})
			defer e.Close()
			facts := deviceFacts(t)
			n := mustNarrow(t, module(map[string]string{c.pkg: c.rules}))
			e.Narrow(facts.Principal.Org, n)
			j := e.Judge(facts)
			first, again := decide(t, j, c.request), decide(t, j, c.request)
			if !c.check(first) || !c.check(again) {
				t.Errorf("%+v", first)
			}
			if first.OrgRevision != "" && first.OrgRevision != n.Revision() {
				t.Errorf("revision %q, want %q", first.OrgRevision, n.Revision())
			}
		})
	}
}

// Another organisation is not asked, and nobody is once the bundle is gone.
func TestNarrowingIsOfOneOrganisation(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{NarrowingTimeout: 10 * time.Second})
	defer e.Close()
	ours, theirs := deviceFacts(t), deviceFacts(t)
	other := *theirs.Principal
	other.Org = mustOrg(t, "other1")
	theirs.Principal = &other
	j, k := e.Judge(ours), e.Judge(theirs)
	r := publishTo(t, "iot-2/evt/status/fmt/json")
	before, untouched := j.Generation(), k.Generation()
	if !decide(t, j, r).Allow || !decide(t, k, r).Allow || j.Decides(policy.ActionReceive) {
		t.Fatal("the built-in policies changed")
	}
	e.Narrow(ours.Principal.Org, mustNarrow(t, module(map[string]string{"publish": `decision := {"allow": false}`, "receive": `decision := {"allow": true}`})))
	if decide(t, j, r).Allow || !decide(t, k, r).Allow || !j.Decides(policy.ActionReceive) || k.Decides(policy.ActionReceive) {
		t.Error("want one organisation narrowed")
	}
	if j.Generation() <= before || k.Generation() != untouched {
		t.Errorf("generations %d > %d, %d = %d", j.Generation(), before, k.Generation(), untouched)
	}
	narrowed := j.Generation()
	e.Activate(mustLoad(t, builtinBundle()))
	if decide(t, j, r).Allow || j.Generation() <= narrowed || k.Generation() <= untouched {
		t.Error("an activation of the platform's bundle takes the organisation's away")
	}
	narrowed = j.Generation()
	e.Narrow(ours.Principal.Org, nil)
	if !decide(t, j, r).Allow || j.Generation() <= narrowed {
		t.Error("a bundle that is gone still narrows")
	}
}
