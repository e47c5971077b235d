package opa

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

func openPolicies() fstest.MapFS {
	return module(map[string]string{
		"publish": `decision := {"allow": true, "reason": "fine"}`,
		"connect": `decision := {"allow": true, "mounts": [{"client": "iot-2/", "org": "iot-2/type/sensor/id/d1/"}]}`,
	})
}

// Masks as OPA's documentation has them.
func TestMasks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules          string
		erased, masked string
		gone, there    []string
		failed         bool
	}{
		"remove a field":      {`mask contains "/input/principal/groups"`, "/input/principal/groups", "", []string{"hall"}, []string{`"kind":"device"`}, false},
		"remove an element":   {`mask contains "/input/levels/0"`, "/input/levels/0", "", []string{`["iot-2"`}, []string{`["type"`}, false},
		"remove the input":    {`mask contains "/input"`, "/input", "", []string{"192.0.2.7", `"input"`, "d:acme01"}, []string{`"result"`}, false},
		"remove the result":   {`mask contains "/result"`, "/result", "", []string{`"result":`, "fine"}, []string{`"input":`}, false},
		"what is not there":   {`mask contains "/input/principal/nothing/at/all"`, "", "", nil, []string{"hall"}, false},
		"replace":             {`mask contains {"op": "upsert", "path": "/input/client/id", "value": {"was": "long"}}`, "", "/input/client/id", []string{"d:acme01:sensor:d1"}, []string{`{"was":"long"}`}, false},
		"replace and make":    {`mask contains {"op": "upsert", "path": "/input/principal/claims/a", "value": 1}`, "", "/input/principal/claims/a", nil, []string{`"claims":{"a":1}`}, false},
		"remove as an object": {`mask contains {"op": "remove", "path": "/input/client/address"}`, "/input/client/address", "", []string{"192.0.2.7"}, nil, false},
		"depends on the event": {`mask contains "/input/topic" if {
	input.input.principal.kind == "device"
	input.path == "cordon/publish/decision"
	input.result.allow
	input.labels.id == "node1"
	input.custom.org == "acme01"
}`, "/input/topic", "", []string{`"topic":"iot-2/evt`}, nil, false},
		"a list":               {`mask := ["/input/topic", "/input/qos"]`, "/input/topic /input/qos", "", []string{`"qos"`}, nil, false},
		"undefined":            {`mask contains "/input" if input.path == "other"`, "", "", nil, []string{"hall"}, false},
		"an error takes all":   {`mask contains "/input/qos" if to_number(input.input.topic) > 0`, "/input /result", "", []string{"hall", `"result":`, "192.0.2.7"}, nil, true},
		"an unknown operation": {`mask contains {"op": "hide", "path": "/input/qos"}`, "/input /result", "", []string{"hall"}, nil, true},
		"outside":              {`mask contains "/labels/id"`, "/input /result", "", []string{"hall"}, nil, true},
		"no path":              {`mask contains 7`, "/input /result", "", []string{"hall"}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, fsWith(openPolicies(), "system/log/log.rego", "package system.log\n\n"+tt.rules+"\n"), Options{})
			ev := recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/status/fmt/json"))
			text, err := ev.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(ev.Erased, " ") != tt.erased || strings.Join(ev.Masked, " ") != tt.masked || ev.Custom.MaskFailed != tt.failed {
				t.Errorf("erased %v, masked %v, failed %v", ev.Erased, ev.Masked, ev.Custom.MaskFailed)
			}
			shown := strings.NewReplacer(`"erased":["`+strings.Join(ev.Erased, `","`)+`"],`, "").Replace(string(text))
			for _, gone := range tt.gone {
				if strings.Contains(shown, gone) {
					t.Errorf("%s is in %s", gone, text)
				}
			}
			contains(t, string(text), tt.there...)
		})
	}
}

// The event's own fields do not tell what a mask took away.
func TestMasksReachCopies(t *testing.T) {
	t.Parallel()
	e := engineOf(t, fsWith(openPolicies(), "system/log/log.rego", `package system.log

mask contains p if some p in ["/input/client/id", "/input/client/address", "/input/principal/id", "/result/mounts", "/result/limits", "/result/reason"]
`), Options{})
	f := deviceFacts(t)
	f.Principal.Credential = policy.CredentialID{ID: "device/sensor/d1"}
	ev := recordOf(t, e, f, &policy.Request{Action: policy.ActionConnect})
	c := ev.Custom
	if c.Client != "" || ev.RequestedBy != "" || c.Credential.ID != "" || c.Credential.Verifier != "token" || c.Mounts != nil || c.Limits != nil || c.Reason != "" {
		t.Errorf("%+v", ev)
	}
	text, _ := ev.JSON()
	for _, hidden := range []string{"192.0.2.7", `"d1"`, "/d1", ":d1"} {
		if strings.Contains(string(text), hidden) {
			t.Errorf("%s in %s", hidden, text)
		}
	}
}

// Drop is asked first; only a plain true drops.
func TestDrop(t *testing.T) {
	t.Parallel()
	for rules, dropped := range map[string]bool{
		`drop if input.custom.action == "publish"`: true,
		`drop if input.custom.action == "connect"`: false,
		`drop := "yes"`:                     false,
		`drop if to_number(input.path) > 0`: false, // an error hides nothing
		`drop if not input.custom.allow`:    false,
		"mask contains \"/input/nothing\"\n\ndrop if input.result.reason == \"fine\"": true,
	} {
		e := engineOf(t, fsWith(openPolicies(), "system/log/log.rego", "package system.log\n\n"+rules+"\n"), Options{})
		r := publishTo(t, "iot-2/evt/status/fmt/json")
		d := e.Judge(deviceFacts(t)).Decide(context.Background(), r)
		_, err := e.Recorder(nil).Render(context.Background(), &audit.Entry{Facts: deviceFacts(t), Request: *r, Decision: d, Time: noon(), Count: 1, Weight: 1})
		if errors.Is(err, audit.ErrDropped) != dropped || err != nil && !dropped {
			t.Errorf("%s: %v", rules, err)
		}
	}
}

// A misspelt field in a mask would let through what it was to hide.
func TestMasksAreTyped(t *testing.T) {
	t.Parallel()
	for rules, ok := range map[string]bool{
		`mask contains "/input/topic" if input.input.principal.kind == "device"`: true,
		`mask contains "/input/topic" if input.input.principal.knid == "device"`: false,
		`mask contains "/input/topic" if input.principal.kind == "device"`:       false,
		`mask contains "/input/topic" if input.custom.org == "acme01"`:           true,
	} {
		b, report := Load(context.Background(), fsWith(openPolicies(), "system/log/log.rego", "package system.log\n\n"+rules+"\n"), builtinSchemas())
		if (b != nil) != ok {
			t.Errorf("%s: %v", rules, report.Err())
		}
	}
}

// What the rules were not given for its size is not recorded either.
func TestRecordHasABound(t *testing.T) {
	t.Parallel()
	e := engineOf(t, openPolicies(), Options{InputMax: 2000})
	r := publishTo(t, "iot-2/evt/status/fmt/json")
	r.Properties = &policy.Properties{User: []policy.UserProperty{{Key: "k", Value: strings.Repeat("x", 5000)}}}
	ev := recordOf(t, e, deviceFacts(t), r)
	if ev.Input != nil || strings.Join(ev.Erased, " ") != "/input" || ev.Custom.Client == "" {
		t.Errorf("%+v", ev)
	}
}

// A failed choice of verifiers is recorded with what it was asked.
func TestRecordOfVerifiers(t *testing.T) {
	t.Parallel()
	e := engineOf(t, openPolicies(), Options{})
	ev, err := e.Recorder(nil).Render(context.Background(), &audit.Entry{
		Facts:   &policy.Facts{Client: &policy.Client{ID: "c1", Username: "canary"}},
		Request: policy.Request{Action: policy.ActionConnect}, Verifiers: true, Time: noon(), Count: 3, Weight: 1,
		Decision: &policy.Decision{ID: "x", Cause: policy.CauseUndefined, Detail: "data.cordon.connect.verifiers: no rule gives it a value"},
	})
	if err != nil || ev.Path != "cordon/connect/verifiers" || ev.Custom.Action != audit.ActionVerifiers || ev.Custom.Count != 3 ||
		string(ev.Input) != `{"action":"connect","client":{"id":"c1","username":""}}` || strings.Join(ev.Erased, " ") != "/input/client/username" || ev.Result != nil {
		t.Errorf("%+v, %v", ev, err)
	}
}

// What a client wrote before it was verified is in no error.
func TestErrorsOfVerifiersQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, rules := range []string{
		`verifiers := [{"verifier": "token"}] if to_number(input.client.username) > 0`,
		`verifiers := [{"verifier": input.client.username}]`,
		`verifiers := object.union({}, input.client.username)`,
	} {
		b, report := Load(context.Background(), module(map[string]string{"connect": rules}), nil)
		if b == nil {
			t.Fatal(rules, report.Err())
		}
		e := New(Options{})
		e.Activate(b)
		for _, username := range []string{"canary", `can"ary"`, `\"canary`} {
			_, err := e.Verifiers(context.Background(), &policy.Client{Username: username}, nil)
			if err == nil || strings.Contains(err.Error(), "can") || strings.Contains(err.Error(), "ary") {
				t.Errorf("%s with %q: %v", rules, username, err)
			}
		}
	}
}

// What is masked is what the masks say, and nothing is made up.
func FuzzMasks(f *testing.F) {
	f.Add("/input/a/0/b", `{"a":[{"b":1}],"c":{"d":null}}`, true)
	f.Add("/result/x", `{"x":1}`, false)
	f.Add("/input/%41", `{"A":{}}`, false)
	f.Add("/input//", `{"":{"":1}}`, true)
	f.Fuzz(func(t *testing.T, path, doc string, upsert bool) {
		m, err := newMask(path)
		if err != nil {
			return
		}
		m.upsert, m.value = upsert, "hidden"
		v, err := decodeInput(json.RawMessage(doc))
		if err != nil {
			return
		}
		input, err := ast.InterfaceToValue(v)
		if err != nil {
			return
		}
		ev := &audit.Event{Result: json.RawMessage(doc)}
		out, err := applyMasks([]mask{m}, ev, input)
		if err != nil {
			t.Fatalf("%q on %s: %v", path, doc, err)
		}
		if n := len(ev.Erased) + len(ev.Masked); n > 1 || upsert && len(ev.Erased) > 0 || !upsert && len(ev.Masked) > 0 {
			t.Fatalf("%q: erased %v, masked %v", path, ev.Erased, ev.Masked)
		}
		touched := len(ev.Erased)+len(ev.Masked) == 1
		if m.root == "result" && (out == nil || ast.Compare(out, input) != 0) || !touched && ast.Compare(out, input) != 0 {
			t.Fatalf("%q changed %s to %v", path, doc, out)
		}
	})
}
