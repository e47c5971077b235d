package opa

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// noon is when everything in these tests is decided.
func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// recordOf decides r and renders what the decision log would have of it.
func recordOf(t testing.TB, e *Engine, f *policy.Facts, r *policy.Request) *audit.Event {
	t.Helper()
	asked := *r
	asked.Time = noon()
	d := e.Judge(f).Decide(context.Background(), &asked)
	ev, err := e.Recorder(map[string]string{"id": "node1"}).Render(context.Background(), &audit.Entry{
		Facts: f, Request: asked, Decision: d, Time: noon(), Count: 1, Weight: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func live(e *Engine) *Bundle { return e.live.Load().Bundle }

func explain(t testing.TB, b *Bundle, ev *audit.Event, how ...Explaining) (*Explanation, string) {
	t.Helper()
	x, err := b.Explain(context.Background(), ev, append(how, Explaining{})[0])
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := x.WriteTree(&out); err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(x); err != nil || len(text) == 0 {
		t.Errorf("as JSON: %v", err)
	}
	return x, out.String()
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, text)
		}
	}
}

// withoutLines leaves the rows out, which change whenever a rule is added above.
func withoutLines(text string) string {
	return regexp.MustCompile(`\.rego:\d+:`).ReplaceAllString(text, ".rego:N:")
}

// The rule that got furthest, what failed in it, and what it saw.
func TestExplainDefaultPolicies(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	other := deviceFacts(t)
	other.Client.ID = "d:acme01:sensor:d2"
	for name, tt := range map[string]struct {
		facts   *policy.Facts
		request *policy.Request
		want    []string
	}{
		"an event that is allowed": {deviceFacts(t), publishTo(t, "iot-2/evt/status/fmt/json"), []string{
			"publish allowed\n", "organisation acme01", "client       d:acme01:sensor:d1", "topic        iot-2/evt/status/fmt/json",
			`mount        {"client":"iot-2/","org":"iot-2/type/sensor/id/d1/"`, `"payload_max":131072`, "credential   token",
			"  cordon.publish.decision  cordon/publish/publish.rego:21:1  # Whether one topic may be published to\n",
			"  cordon.publish._allowed  cordon/publish/publish.rego:69:1\n",
		}},
		"a command of a device": {deviceFacts(t), publishTo(t, "iot-2/cmd/status/fmt/json"), []string{
			"publish denied: a device publishes iot-2/evt/{event}/fmt/{format}\n",
			"cordon.publish.decision  cordon/publish/publish.rego:21:1  (0 of 2 held)",
			"failed: filter := _allowed  cordon/publish/publish.rego:22:2\n",
			`input.levels = ["iot-2","type","sensor","id","d1","cmd","status","fmt","json"]`,
			`input.levels[5] = "cmd", wanted "evt"`,
			`input.principal.kind = "device"`,
		}},
		"too few levels": {deviceFacts(t), publishTo(t, "iot-2/evt/status"), []string{`count(input.levels) = 7, wanted 9`}},
		"the client ID of another device": {other, &policy.Request{Action: policy.ActionConnect}, []string{
			"connect denied: the client ID has to be d:acme01:sensor:d1\n",
			"failed: _permitted_client_id  cordon/connect/connect.rego:",
			`input.client.id = "d:acme01:sensor:d2"`, `"d2", wanted "d1"`,
			"cordon.connect._names_somebody  cordon/connect/connect.rego:144:1  gave a value", // a "not" that did not hold
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := recordOf(t, e, tt.facts, tt.request)
			x, tree := explain(t, live(e), ev)
			for i := range tt.want {
				tt.want[i] = withoutLines(tt.want[i])
			}
			contains(t, withoutLines(tree), tt.want...)
			if x.Allow != ev.Custom.Allow || len(x.Differences) != 0 || len(x.Notes) != 0 || x.Revision != e.Revision() {
				t.Errorf("%+v", x.Replayed)
			}
			if !x.Allow && !strings.HasPrefix(x.Tried[0].Position, "cordon/"+packageOf[tt.request.Action]+"/") {
				t.Errorf("tried first: %+v", x.Tried[0])
			}
		})
	}
}

// Policies need not be one chain of else: allow may be a rule of its own, values may
// come from data, and rules may iterate.
func TestExplainOtherStyles(t *testing.T) {
	t.Parallel()
	files := module(map[string]string{"publish": `
decision := {"allow": allow, "reason": "see the rules"}

default allow := false

# METADATA
# title: Temperatures go to the hall
allow if {
	input.levels[6] == "temp"
	some group in input.principal.groups
	group == data.cordon.publish.halls[input.levels[8]]
}

allow if {
	input.qos == 2
	input.levels[6] == "temp"
}

allow if input.levels[0] == "elsewhere"
`})
	fsWith(files, "cordon/publish/data.json", `{"halls": {"json": "attic"}}`)
	e := engineOf(t, files, Options{})
	_, tree := explain(t, live(e), recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/temp/fmt/json")))
	contains(t, tree,
		"publish denied: see the rules", "(2 of 3 held)  # Temperatures go to the hall",
		"failed: group == data.cordon.publish.halls[input.levels[8]]", `group = "hall"`, `input.levels[8] = "json"`,
		"failed: input.qos == 2", "input.qos = 1",
	)
	if first, second := strings.Index(tree, "Temperatures"), strings.Index(tree, "input.qos == 2"); first > second {
		t.Errorf("not the furthest first:\n%s", tree)
	}
	_, tree = explain(t, live(e), recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/hum/fmt/json")))
	contains(t, tree, `input.levels[6] = "hum"`)
}

// An evaluation that fails is explained by its error.
func TestExplainErrors(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `
decision := {"allow": true} if to_number(input.levels[6]) > 3
`}), Options{})
	x, tree := explain(t, live(e), recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/hum/fmt/json")))
	if x.Cause != policy.CauseError || len(x.Differences) != 0 {
		t.Errorf("%+v", x.Replayed)
	}
	contains(t, tree, "cause        policy_error", "cordon/publish/publish.rego:4:")
	x, _ = explain(t, live(e), recordOf(t, e, deviceFacts(t), &policy.Request{Action: policy.ActionConnect}))
	if x.Cause != policy.CauseUndefined || x.Allow {
		t.Errorf("a missing package: %+v", x.Replayed)
	}
}

// A person need not write what Cordon can work out, and hears what is wrong.
func TestDescribe(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, builtinBundle())
	const device = `"principal": {"org": "acme01", "kind": "device", "type": "sensor", "id": "d1", "registered": true, "verifier": "token"},
		"client": {"id": "d:acme01:sensor:d1", "listener": "mqtts"}`
	for text, want := range map[string]string{
		`{"action": "publish", ` + device + `, "topic": "iot-2/evt/status/fmt/json", "qos": 1}`: "publish allowed",
		`{"action": "subscribe", ` + device + `, "filter": "iot-2/cmd/+/fmt/+"}`:                "subscribe allowed",
		`{"action": "publish", ` + device + `, "topic": "elsewhere"}`:                           "error: input.topic: topic is under no mount of this client",
		`{"action": "publish", "principal": {"kind": "device"}, "topic": "a"}`:                  "error: input.levels is missing, and connect does not allow",
		`{"action": "publsh"}`: "error: input.action is \"publsh\"; did you mean publish?",
		`{"action": "publish", "principal": {"knid": "device", "roles": "x"}, "topc": 1, "levels": []}`: "error: input.principal.knid is no field; did you mean kind?",
		`{"action": "publish", "principal": {"kind": "devise"}}`:                                        "error: input.principal.kind is \"devise\"; did you mean device?",
		`[]`:                      "error: has to be an object",
		`{"action"`:               "error: ",
		strings.Repeat("[", 5000): "error: is nested too deep",
	} {
		ev, err := b.Describe(context.Background(), []byte(text), noon())
		if err != nil {
			if policy.KindOf(err) != policy.KindInvalid {
				t.Errorf("%s: %v", text, err)
			}
			bad, _ := errors.AsType[*policy.Error](err)
			pub := bad.Public
			contains(t, "error: "+pub, strings.TrimPrefix(want, ""))
			if strings.Contains(text, "topc") {
				contains(t, pub, "input.principal.roles is string, and has to be array", "input.topc is no field; did you mean topic?")
			}
			continue
		}
		_, tree := explain(t, b, ev)
		contains(t, tree, want, "credential   token", "client       d:acme01:sensor:d1")
	}
}

// What is masked is not shown, and does not make an explanation that looks complete.
func TestExplainMasked(t *testing.T) {
	t.Parallel()
	files := module(map[string]string{"publish": `
decision := {"allow": true} if {
	input.principal.claims.level == 7
	input.client.address == "192.0.2.99"
}

else := {"allow": false, "reason": "no"}
`})
	fsWith(files, "system/log/log.rego", `package system.log

mask contains "/input/principal/claims"

mask contains {"op": "upsert", "path": "/input/client/address", "value": "hidden"}
`)
	e := engineOf(t, files, Options{})
	f := deviceFacts(t)
	f.Principal.Claims = map[string]any{"level": 7, "secret": "canary"}
	ev := recordOf(t, e, f, publishTo(t, "iot-2/evt/a/fmt/json"))
	x, tree := explain(t, live(e), ev)
	contains(t, tree, "input.principal.claims.level = (masked)", "note", "/input/principal/claims is masked, and the rules read it")
	if strings.Contains(tree, "canary") || strings.Contains(tree, "192.0.2.7") || x.Allow {
		t.Errorf("shown:\n%s", tree)
	}
	text, _ := ev.JSON()
	if strings.Contains(string(text), "canary") || strings.Contains(string(text), "192.0.2.7") {
		t.Errorf("recorded: %s", text)
	}
	other := mustLoad(t, fstest.MapFS{"cordon/publish/publish.rego": {Data: []byte("package cordon.publish\n\ndecision := {\"allow\": true}\n")}})
	if x, tree := explain(t, other, ev); !x.Allow || len(x.Differences) == 0 {
		t.Errorf("another revision:\n%s", tree)
	} else {
		contains(t, tree, "the decision was made under revision "+e.Revision(), "differs      allow: true, was false")
	}
}

func BenchmarkExplain(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	ev := recordOf(b, e, deviceFacts(b), publishTo(b, "iot-2/cmd/status/fmt/json"))
	for b.Loop() {
		if _, err := live(e).Explain(context.Background(), ev, Explaining{}); err != nil {
			b.Fatal(err)
		}
	}
}
