package opa

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// bundlesThatRead are policies that look at different parts of a request.
var bundlesThatRead = map[string]map[string]string{
	"nothing": {
		"publish":   `decision := {"allow": true, "reason": input.principal.id}`,
		"subscribe": `decision := {"allow": false}`,
		"receive":   `decision := {"allow": true}`,
		"admin":     `decision := {"allow": true}`,
	},
	"the topic": {
		"publish":   `decision := {"allow": input.topic == "a/b", "reason": input.topic}`,
		"subscribe": `decision := {"allow": true, "reason": input.filter}`,
		"receive":   `decision := {"allow": true, "reason": concat("/", input.levels)}`,
		"admin":     `decision := {"allow": true, "reason": input.route}`,
	},
	"QoS, size and flags": {
		"publish":   `decision := {"allow": true, "reason": sprintf("%v %v %v %v", [input.qos, input.size, input.retain, input.will])}`,
		"subscribe": `decision := {"allow": true, "qos": input.qos, "reason": object.get(input, "share", "none")}`,
		"receive":   `decision := {"allow": input.size > 1}`,
		"admin":     `decision := {"allow": input.method == "GET", "reason": sprintf("%v", [input.target])}`,
	},
	"properties": {
		"publish":   "decision := {\"allow\": true, \"reason\": input.properties.content_type} if input.properties.content_type\n\nelse := {\"allow\": \"x\" in input.properties.user.a}",
		"subscribe": `decision := {"allow": true}`,
		"receive":   `decision := {"allow": true, "reason": sprintf("%v", [input.properties])}`,
		"admin":     `decision := {"allow": true}`,
	},
	"device, expiry and response topic": {
		"publish":   `decision := {"allow": input.device.registered, "reason": sprintf("%v %v", [input.device.id, input.device.groups])}`,
		"subscribe": `decision := {"allow": true}`,
		"receive":   "decision := {\"allow\": true, \"reason\": sprintf(\"%v\", [input.properties.message_expiry])} if input.properties.message_expiry\n\nelse := {\"allow\": false, \"reason\": input.properties.response_topic}",
		"admin":     `decision := {"allow": input.target.a == "b"}`,
	},
	"everything": {
		"publish":   `decision := {"allow": true, "reason": sprintf("%v", [input])}`,
		"subscribe": "decision := {\"allow\": true, \"reason\": concat(\",\", names)}\n\nnames contains k if some k, _ in input",
		"receive":   "decision := {\"allow\": true, \"reason\": f(input)}\n\nf(x) := sprintf(\"%v\", [x.levels])",
		"admin":     "decision := {\"allow\": true} if {\n\twalk(input, [_, v])\n\tv == \"a\"\n}",
	},
}

// drawRequest keeps to few values, so that requests differ in one field only.
func drawRequest(t *rapid.T) *policy.Request {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	r := &policy.Request{
		Action: rapid.SampledFrom([]policy.Action{policy.ActionPublish, policy.ActionSubscribe, policy.ActionReceive, policy.ActionAdminister}).Draw(t, "action"),
		QoS:    rapid.ByteRange(0, 2).Draw(t, "qos"),
	}
	switch r.Action {
	case policy.ActionSubscribe:
		r.Filter, _ = topic.ParseFilter(few("filter", "a/b", "a/+", "#"))
		r.Levels = strings.Split(few("levels", "a/b", "a/+"), "/")
		r.Share = few("share", "", "s", "none")
	case policy.ActionAdminister:
		r.Method = few("method", "GET", "PUT")
		r.Route = few("route", "/", "/a")
		r.Target = rapid.SampledFrom([]map[string]string{nil, {"a": "a"}, {"a": "b"}, {"b": "a"}}).Draw(t, "target")
	default:
		r.Topic, _ = topic.ParseName(few("topic", "a/b", "a/c"))
		r.Levels = rapid.SampledFrom([][]string{{"a", "b"}, {"a/b"}, {"a", "c"}}).Draw(t, "levels")
		r.Retain = rapid.Bool().Draw(t, "retain")
		r.Will = rapid.Bool().Draw(t, "will")
		r.Size = rapid.IntRange(0, 2).Draw(t, "size")
		r.Device = rapid.SampledFrom([]*policy.Device{
			nil,
			{Type: "t", ID: "d"},
			{Type: "t", ID: "d", Registered: true, Status: "enabled"},
			{Type: "t", ID: "e", Registered: true},
			{Type: "t", ID: "e", Registered: true, Groups: []string{"g"}},
		}).Draw(t, "device")
		if rapid.Bool().Draw(t, "has properties") {
			expiry := uint32(rapid.IntRange(0, 1).Draw(t, "expiry"))
			r.Properties = &policy.Properties{
				ContentType: few("content type", "", "x"), ResponseTopic: few("response topic", "", "y"),
				User: rapid.SampledFrom([][]policy.UserProperty{nil, {{Key: "a", Value: "x"}}, {{Key: "a", Value: "y"}, {Key: "a", Value: "x"}}, {{Key: "b", Value: "x"}}}).Draw(t, "user"),
			}
			if expiry > 0 {
				r.Properties.MessageExpiry = &expiry
			}
		}
	}
	return r
}

func sameAnswer(a, b *policy.Decision) bool {
	return a.Allow == b.Allow && a.Cause == b.Cause && a.Reason == b.Reason && a.Detail == b.Detail &&
		a.MaxQoS == b.MaxQoS && a.Retain == b.Retain && a.OnDeny == b.OnDeny && slices.Equal(a.Covers, b.Covers)
}

// A remembered answer is the one a fresh evaluation gives.
func TestRememberedEqualsFresh(t *testing.T) {
	t.Parallel()
	for name, modules := range bundlesThatRead {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, module(modules), Options{MemoryEntries: 8})
			facts := deviceFacts(t)
			ctx := context.Background()
			before := e.Stats()
			rapid.Check(t, func(t *rapid.T) {
				judge := e.Judge(facts)
				for range rapid.IntRange(2, 12).Draw(t, "questions") {
					r := drawRequest(t)
					got, want := judge.Decide(ctx, r), e.Judge(facts).Decide(ctx, r)
					if !sameAnswer(got, want) {
						t.Fatalf("remembered %+v\nfresh      %+v\nrequest %+v", got, want, r)
					}
					// The same question again: drawn ones may never repeat.
					if again := judge.Decide(ctx, r); !sameAnswer(again, want) {
						t.Fatalf("the second time %+v\nfresh           %+v\nrequest %+v", again, want, r)
					}
				}
			})
			if e.Stats().Remembered == before.Remembered {
				t.Error("nothing was ever remembered")
			}
		})
	}
}

// The asker may reuse its request, and what that points to but for the device, which
// is immutable.
func TestMemoryKeepsItsOwnCopy(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": true, "reason": sprintf("%v", [input])}`}), Options{})
	judge := e.Judge(deviceFacts(t))
	expiry := uint32(1)
	r := publishTo(t, "iot-2/evt/a/fmt/b")
	r.Device = &policy.Device{ID: "d1", Groups: []string{"g"}}
	r.Properties = &policy.Properties{MessageExpiry: &expiry, User: []policy.UserProperty{{Key: "k", Value: "v"}}}
	first := judge.Decide(context.Background(), r)
	for name, change := range map[string]func(){
		"levels": func() { r.Levels[0] = "x" }, "device": func() { r.Device = &policy.Device{ID: "d2", Groups: []string{"g"}} },
		"groups": func() { r.Device = &policy.Device{ID: "d2", Groups: []string{"h"}} },
		"expiry": func() { expiry = 2 }, "user": func() { r.Properties.User[0].Value = "w" },
	} {
		change()
		d := judge.Decide(context.Background(), r)
		if d == first || d.Reason == first.Reason {
			t.Errorf("a changed %s got the remembered answer", name)
		}
		first = d
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": true, "reason": input.topic}`}), Options{MemoryEntries: 4})
	j := e.Judge(deviceFacts(t)).(*judge)
	for i := range 50 {
		name := fmt.Sprintf("iot-2/evt/%d/fmt/json", i)
		if d := j.Decide(context.Background(), publishTo(t, name)); d.Reason != name {
			t.Fatalf("got %q for %q", d.Reason, name)
		}
	}
	if n := len(j.memory.answers.byHash); n != 4 {
		t.Errorf("%d answers are remembered, want 4", n)
	}

	large := publishTo(t, "iot-2/evt/"+strings.Repeat("x", maxKeyBytes)+"/fmt/json")
	first, second := j.Decide(context.Background(), large), j.Decide(context.Background(), large)
	if first == second {
		t.Error("an answer to a very long request was remembered")
	}
}

func TestDenialsAreRememberedAndErrorsAreNot(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `
decision := {"allow": false, "reason": "no"} if input.qos == 1

decision := {"allow": to_number(input.topic) == 1} if input.qos == 2
`}), Options{})
	judge := e.Judge(deviceFacts(t))
	for qos, remembered := range map[byte]bool{0: true, 1: true, 2: false} { // undefined, denied, error
		r := publishTo(t, "iot-2/evt/a/fmt/b")
		r.QoS = qos
		first, second := judge.Decide(context.Background(), r), judge.Decide(context.Background(), r)
		if first.Allow || (first == second) != remembered {
			t.Errorf("QoS %d: remembered %v, want %v (%s)", qos, first == second, remembered, first.Cause)
		}
		if !remembered && first.ID == second.ID {
			t.Errorf("two evaluations have the ID %s", first.ID)
		}
	}
	denials := e.Stats().Denials
	if denials[policy.CausePolicy] != 1 || denials[policy.CauseUndefined] != 1 || denials[policy.CauseError] != 2 {
		t.Errorf("denials are %v", denials)
	}
}

// An answer holds until its ttl ends, and one that read the clock and says
// nothing does not hold, but for connect and subscribe.
func TestUntil(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	e := engineOf(t, module(map[string]string{
		"publish":   `decision := {"allow": true, "ttl": 10}`,
		"receive":   `decision := {"allow": true, "ttl": 0}`,
		"admin":     `decision := {"allow": time.now_ns() > 0, "reason": sprintf("%d", [time.now_ns()])}`,
		"subscribe": `decision := {"allow": time.now_ns() > 0}`,
		"connect":   `decision := {"allow": time.now_ns() > 0, "ttl": 5}`,
	}), Options{Now: func() time.Time { return now }})
	judge := e.Judge(deviceFacts(t))
	ask := func(a policy.Action) *policy.Decision {
		return judge.Decide(context.Background(), &policy.Request{Action: a})
	}
	for action, holds := range map[policy.Action]time.Duration{
		policy.ActionPublish:    10 * time.Second,
		policy.ActionReceive:    0,
		policy.ActionAdminister: 0,
		policy.ActionSubscribe:  60 * time.Second,
		policy.ActionConnect:    5 * time.Second,
	} {
		start := now
		first := ask(action)
		if !first.Allow {
			t.Fatalf("%v: %+v", action, first)
		}
		wantUntil := start.Add(holds)
		if action == policy.ActionAdminister {
			wantUntil = time.Time{}
		}
		if !first.Until.Equal(wantUntil) {
			t.Errorf("%v holds until %v, want %v", action, first.Until, wantUntil)
		}
		if again := ask(action); (again == first) != (holds > 0) {
			t.Errorf("%v: remembered %v", action, again == first)
		}
		now = start.Add(holds)
		if ask(action) == first {
			t.Errorf("%v: answered from memory at its end", action)
		}
		now = start
	}
	if got := ask(policy.ActionAdminister).Reason; got != "1700000000000000000" {
		t.Errorf("time.now_ns is %s, and not the engine's clock", got)
	}
}

func TestRememberedAllocatesNothing(t *testing.T) {
	e := engineOf(t, builtinBundle(), Options{})
	judge := e.Judge(deviceFacts(t))
	ctx := context.Background()
	a, b := publishTo(t, "iot-2/evt/a/fmt/json"), publishTo(t, "iot-2/evt/b/fmt/json")
	if d := judge.Decide(ctx, a); !d.Allow {
		t.Fatalf("%+v", d)
	}
	judge.Decide(ctx, b)
	if n := testing.AllocsPerRun(100, func() { judge.Decide(ctx, a) }); n != 0 {
		t.Errorf("the last topic costs %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { judge.Decide(ctx, a); judge.Decide(ctx, b) }); n != 0 {
		t.Errorf("a remembered topic costs %v allocations", n)
	}
}
