package opa

import (
	"context"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// Deliveries are decided for whom applies says, and for nobody else.
func TestAppliesSaysWhoseDeliveriesAreDecided(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		receive string
		want    [2]bool // of who is restricted, and of who is not
	}{
		"no such rule":   {"", [2]bool{true, true}},
		"by the asker":   {"applies if input.principal.restricted", [2]bool{true, false}},
		"true":           {"applies := true", [2]bool{true, true}},
		"false":          {"applies := false", [2]bool{false, false}},
		"several":        {"applies if input.principal.restricted\n\napplies if input.principal.kind == \"device\"", [2]bool{true, true}},
		"by the client":  {"applies if input.client.listener == \"https\"", [2]bool{false, false}},
		"no boolean":     {"applies := \"no\"", [2]bool{true, true}},
		"one that fails": {"applies if to_number(input.client.id) > 1", [2]bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, module(map[string]string{"receive": "decision := {\"allow\": false}\n\n" + tt.receive}), Options{})
			for i, restricted := range []bool{true, false} {
				f := deviceFacts(t)
				p := *f.Principal
				p.Restricted = restricted
				j := e.Judge(&policy.Facts{Principal: &p, Org: f.Org, Client: f.Client})
				for range 2 { // found, and remembered
					if got := j.Decides(policy.ActionReceive); got != tt.want[i] {
						t.Errorf("restricted %t: %t", restricted, got)
					}
				}
				if j.Decides(policy.ActionPublish) {
					t.Error("there is no rule for publish")
				}
				e.Activate(mustLoad(t, module(map[string]string{"receive": `decision := {"allow": true}`})))
				if !j.Decides(policy.ActionReceive) {
					t.Error("what an earlier bundle said holds")
				}
				e.Activate(mustLoad(t, module(map[string]string{"receive": "decision := {\"allow\": false}\n\n" + tt.receive})))
			}
		})
	}
}

// It is asked once, so it may not read what differs from message to message.
func TestAppliesReadsNoMessage(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		`applies if input.qos == 1`, `applies if input.device.registered`, `applies if input.levels[0] == "a"`,
		`applies if time.now_ns() > 0`, `applies if count(input) > 0`, "applies if _secret\n\n_secret if input.size > 1",
	} {
		b, report := Load(context.Background(), module(map[string]string{"receive": "decision := {\"allow\": true}\n\n" + rule}), builtinSchemas())
		if b != nil || report.Err() == nil || !strings.Contains(report.Err().Error(), "neither the message nor the clock") {
			t.Errorf("%s: %v", rule, report.Err())
		}
	}
}

// The bundle of an organisation is asked whatever the platform's says.
func TestAppliesLeavesTheOrganisationsRules(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"receive": "decision := {\"allow\": true}\n\napplies := false"}), Options{})
	j := e.Judge(deviceFacts(t))
	if j.Decides(policy.ActionReceive) {
		t.Fatal("the platform's is asked")
	}
	own, report := LoadNarrowing(context.Background(), module(map[string]string{"receive": `decision := {"allow": input.qos == 0}`}), builtinSchemas())
	if own == nil {
		t.Fatal(report.Err())
	}
	e.Narrow(mustOrg(t, "acme01"), own)
	r := publishTo(t, "iot-2/evt/a/fmt/json")
	r.Action = policy.ActionReceive
	if !j.Decides(policy.ActionReceive) || j.Decide(context.Background(), r).Allow {
		t.Error("the organisation's bundle is not asked")
	}
	e.Narrow(mustOrg(t, "acme01"), nil)
	if j.Decides(policy.ActionReceive) {
		t.Error("it is asked after it is gone")
	}
}
