package opa

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/plan"
)

// receiveRules are a policy of delivery, which the built-in bundle has none of.
const receiveRules = `package cordon.receive

import data.cordon.roles

decision := {"allow": true} if {
	input.principal.kind == "device"
	["iot-2", "type", input.principal.type, "id", input.principal.id, _, _, _, _] = input.levels
}

else := {"allow": true} if {
	input.principal.kind == "application"
	input.levels[5] in roles.subscribes
}

else := {"allow": false, "reason": "not for you"}
`

// coldQuestion is one question to one entry point of the built-in bundle.
type coldQuestion struct {
	facts   *policy.Facts
	request *policy.Request
}

func coldQuestions(b testing.TB) (*Bundle, map[string]coldQuestion) {
	b.Helper()
	files := fsWith(builtinBundle().(fstest.MapFS), "cordon/receive/receive.rego", receiveRules)
	facts := deviceFacts(b)
	key := *facts.Principal
	key.Kind, key.Roles, key.APIKey, key.Type, key.ID, key.App = policy.KindApplication, []string{"PD_STANDARD_APP"}, "a-acme01-0123456789", "", "", "app1"
	application := &policy.Facts{Principal: &key, Org: facts.Org}
	received := publishTo(b, "iot-2/evt/status/fmt/json")
	received.Action = policy.ActionReceive
	return mustLoad(b, files), map[string]coldQuestion{
		"connect":             {facts, &policy.Request{Action: policy.ActionConnect}},
		"publish":             {facts, publishTo(b, "iot-2/evt/status/fmt/json")},
		"publish-application": {application, publishTo(b, "iot-2/evt/status/fmt/json")},
		"subscribe":           {facts, subscribeTo(b, "iot-2/cmd/+/fmt/+")},
		"receive":             {facts, received},
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
