package opa

import (
	"context"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/plan"
)

// coldQuestion is one question to one entry point of the built-in bundle.
type coldQuestion struct {
	facts   *policy.Facts
	request *policy.Request
}

func coldQuestions(b testing.TB) (*Bundle, map[string]coldQuestion) {
	b.Helper()
	facts := deviceFacts(b)
	key := *facts.Principal
	key.Kind, key.Roles, key.APIKey, key.Type, key.ID, key.App = policy.KindApplication, []string{"PD_STANDARD_APP"}, "a-acme01-0123456789", "", "", "app1"
	application := &policy.Facts{Principal: &key, Org: facts.Org}
	behind := &policy.Device{Type: "sensor", ID: "d1", Registered: true, Status: "enabled", Groups: []string{"hall"}}
	hub := *facts.Principal
	hub.Kind, hub.Type, hub.ID, hub.Roles, hub.Restricted = policy.KindGateway, "hub", "g1", []string{"PD_STANDARD_GW_DEVICE"}, true
	gateway := &policy.Facts{Principal: &hub, Org: facts.Org, Client: facts.Client}
	of := func(a policy.Action, r *policy.Request) *policy.Request {
		r.Action, r.Device = a, behind
		return r
	}
	return mustLoad(b, builtinBundle()), map[string]coldQuestion{
		"connect":             {facts, &policy.Request{Action: policy.ActionConnect}},
		"publish":             {facts, publishTo(b, "iot-2/evt/status/fmt/json")},
		"publish-application": {application, publishTo(b, "iot-2/evt/status/fmt/json")},
		"subscribe":           {facts, subscribeTo(b, "iot-2/cmd/+/fmt/+")},
		"publish-gateway":     {gateway, of(policy.ActionPublish, publishTo(b, "iot-2/evt/status/fmt/json"))},
		"subscribe-gateway":   {gateway, of(policy.ActionSubscribe, subscribeTo(b, "iot-2/cmd/+/fmt/+"))},
		"receive":             {gateway, of(policy.ActionReceive, publishTo(b, "iot-2/cmd/status/fmt/json"))},
		"administer":          {application, &policy.Request{Action: policy.ActionAdminister, Method: "GET", Route: "/device/types"}},
	}
}

// ColdDecision: a decision that is not remembered, from the request to the answer.
func BenchmarkColdDecision(b *testing.B) {
	bundle, questions := coldQuestions(b)
	e := New(Options{Timeout: 10 * time.Second})
	e.Activate(bundle)
	for _, name := range sortedKeys(questions) {
		q := questions[name]
		b.Run(name, func(b *testing.B) {
			j := e.Judge(q.facts).(*judge)
			snap := e.live.Load()
			b.ReportAllocs()
			for b.Loop() {
				if a, _ := j.answer(context.Background(), snap.entry(q.request.Action), q.request, e.now()); !a.Allow {
					b.Fatal(a.Cause, a.Reason)
				}
			}
		})
	}
}

// ColdEvaluation: the evaluation alone, in the ways there are. RATIONALE.md has
// the numbers.
func BenchmarkColdEvaluation(b *testing.B) {
	bundle, questions := coldQuestions(b)
	e := New(Options{})
	ctx := context.Background()
	for _, name := range sortedKeys(questions) {
		q := questions[name]
		entry := bundle.entry(q.request.Action)
		facts, err := convertFacts(q.facts)
		if err != nil {
			b.Fatal(err)
		}
		input := facts.input(q.request, entry.reads)
		native, err := ast.JSON(input)
		if err != nil {
			b.Fatal(err)
		}
		for way, evaluate := range map[string]func() (any, error){
			"plan": func() (any, error) {
				return entry.plan.program.Eval(ctx, plan.Question{Input: input, Now: e.now(), Cancel: new(stop)})
			},
			"topdown": func() (any, error) { return entry.interpret(ctx, input, e.now(), new(stop)) },
			"topdown-unindexed": func() (any, error) {
				return entry.query.Eval(ctx, rego.EvalParsedInput(input), rego.EvalTime(e.now()), rego.EvalMetrics(metrics.NoOp()),
					rego.EvalExternalCancel(new(stop)), rego.EvalRuleIndexing(false))
			},
			"topdown-json": func() (any, error) {
				return entry.query.Eval(ctx, rego.EvalInput(native), rego.EvalTime(e.now()), rego.EvalMetrics(metrics.NoOp()), rego.EvalExternalCancel(new(stop)))
			},
		} {
			b.Run(name+"/"+way, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if v, err := evaluate(); err != nil || v == nil {
						b.Fatal(v, err)
					}
				}
			})
		}
	}
}
