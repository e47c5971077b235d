package opa

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Cold: a decision of the built-in bundle that is not remembered.
func BenchmarkCold(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	facts := deviceFacts(b)
	key := *facts.Principal
	key.Kind, key.Roles, key.APIKey, key.Type, key.ID, key.App = policy.KindApplication, []string{"PD_STANDARD_APP"}, "a-acme01-0123456789", "", "", "app1"
	for name, c := range map[string]struct {
		facts   *policy.Facts
		request *policy.Request
	}{
		"connect":    {facts, &policy.Request{Action: policy.ActionConnect}},
		"publish":    {facts, publishTo(b, "iot-2/evt/status/fmt/json")},
		"subscribe":  {facts, subscribeTo(b, "iot-2/cmd/+/fmt/+")},
		"administer": {&policy.Facts{Principal: &key, Org: facts.Org}, &policy.Request{Action: policy.ActionAdminister, Method: "GET", Route: "/device/types"}},
	} {
		b.Run(name, func(b *testing.B) {
			j := e.Judge(c.facts).(*judge)
			snap := e.live.Load()
			b.ReportAllocs()
			for b.Loop() {
				if a, _ := j.answer(context.Background(), snap.entry(c.request.Action), c.request, e.now()); !a.Allow {
					b.Fatal(a.Cause, a.Reason)
				}
			}
		})
	}
}

// Remembered: one of many topics that the session published before.
func BenchmarkRemembered(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	judge := e.Judge(deviceFacts(b))
	requests := make([]*policy.Request, 64)
	for i := range requests {
		requests[i] = publishTo(b, fmt.Sprintf("iot-2/evt/event%d/fmt/json", i))
		judge.Decide(context.Background(), requests[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		judge.Decide(context.Background(), requests[i%len(requests)])
	}
}

// LastTopic: the topic that the session published last.
func BenchmarkLastTopic(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	judge := e.Judge(deviceFacts(b))
	r := publishTo(b, "iot-2/evt/status/fmt/json")
	judge.Decide(context.Background(), r)
	again := publishTo(b, "iot-2/evt/status/fmt/json")
	b.ReportAllocs()
	for b.Loop() {
		judge.Decide(context.Background(), again)
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		mustLoad(b, builtinBundle())
	}
}

// Churn: every topic is new. Without covers each one is evaluated.
func BenchmarkChurn(b *testing.B) {
	covering := strings.Replace(ownEvents, `"covers": `, `"ttl": 100, "covers": `, 1)
	for name, rules := range map[string]string{"covers": covering, "plain": strings.Replace(ownEvents, `, "covers": [concat("/", array.concat(_own, ["+", "fmt", "+"]))]`, "", 1)} {
		b.Run(name, func(b *testing.B) {
			e := engineOf(b, module(map[string]string{"publish": rules}), Options{})
			defer e.Close()
			judge := e.Judge(deviceFacts(b))
			churn(b, e, judge, 0, 3)
			r := publishTo(b, "iot-2/evt/status/fmt/json")
			names := make([]topic.Name, 1<<16)
			events := make([]string, len(names))
			for i := range names {
				events[i] = fmt.Sprint("n", i)
				names[i], _ = topic.ParseName("iot-2/evt/" + events[i] + "/fmt/json")
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Topic, r.Levels[6] = names[i%len(names)], events[i%len(names)]
				if !judge.Decide(context.Background(), r).Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}

// DecidesReceive: what a delivery costs whom cordon.receive is not about.
func BenchmarkDecidesReceive(b *testing.B) {
	e := New(Options{})
	e.Activate(mustLoad(b, builtinBundle()))
	j := e.Judge(deviceFacts(b))
	for b.Loop() {
		if j.Decides(policy.ActionReceive) {
			b.Fatal("a device is not restricted")
		}
	}
}
