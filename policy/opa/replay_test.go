package opa

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

func replay(t testing.TB, b *Bundle, ev *audit.Event) *Replayed {
	t.Helper()
	r, err := b.Replay(context.Background(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// asWritten is the event as somebody reads it back from a file.
func asWritten(t testing.TB, ev *audit.Event) *audit.Event {
	t.Helper()
	text, err := ev.JSON()
	if err != nil {
		t.Fatal(err)
	}
	back, err := audit.ParseEvent(text)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// Under its own bundle every record is decided as it was.
func TestReplayAgrees(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	b := live(e)
	rapid.Check(t, func(rt *rapid.T) {
		f := deviceFacts(t)
		p := *f.Principal
		f.Principal = &p
		p.Kind = rapid.SampledFrom([]policy.PrincipalKind{policy.KindDevice, policy.KindGateway, policy.KindApplication, policy.KindUser}).Draw(rt, "kind")
		p.Roles = rapid.SliceOfN(rapid.SampledFrom([]string{"PD_STANDARD_APP", "PD_ADMIN_APP", "x"}), 0, 2).Draw(rt, "roles")
		p.Registered = rapid.Bool().Draw(rt, "registered")
		p.Claims = map[string]any{"n": rapid.IntRange(0, 3).Draw(rt, "n"), "f": 1.5, "list": []any{"<&>", nil, true}}
		f.Client.ID = policy.ClientID(rapid.SampledFrom([]string{"d:acme01:sensor:d1", "g:acme01:sensor:d1", "x", "d:other:x:y"}).Draw(rt, "client"))
		f.Client.Username = rapid.StringMatching(`[a-z"\\é]{0,6}`).Draw(rt, "username")
		name := rapid.SampledFrom([]string{"iot-2/evt/a/fmt/json", "iot-2/cmd/a/fmt/json", "iot-2/evt//fmt/x", "iot-2/x"}).Draw(rt, "topic")
		var r *policy.Request
		switch rapid.IntRange(0, 3).Draw(rt, "action") {
		case 0:
			r = &policy.Request{Action: policy.ActionConnect}
		case 1:
			r = publishTo(t, name)
			r.Properties = &policy.Properties{ContentType: "a/b", User: []policy.UserProperty{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}}
		case 2:
			r = subscribeTo(t, strings.ReplaceAll(name, "/a/", "/+/"))
		default:
			r = &policy.Request{Action: policy.ActionAdminister, Method: "GET", Route: "/device/types/{typeId}", Target: map[string]string{"typeId": "x"}}
		}
		ev := asWritten(t, recordOf(t, e, f, r))
		got, err := b.Replay(context.Background(), ev)
		if err != nil || got.Skipped != "" || len(got.Differences) > 0 || got.Allow != ev.Custom.Allow {
			text, _ := ev.JSON()
			rt.Fatalf("%+v, %v\n%s", got, err, text)
		}
		if _, err := b.Explain(context.Background(), ev, Explaining{}); err != nil {
			rt.Fatal(err)
		}
	})
}

// What another bundle answers otherwise is listed, field by field.
func TestReplayDiffers(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{
		"publish": `decision := {"allow": true, "retain": "keep", "ttl": 5}`,
		"connect": `decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "limits": {"payload_max": 100}}`,
	}), Options{})
	other := mustLoad(t, module(map[string]string{
		"publish": `decision := {"allow": false, "reason": "no"}`,
		"connect": `decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "limits": {"payload_max": 50}}`,
	}))
	ev := asWritten(t, recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/a/fmt/json")))
	if got := fmt.Sprint(replay(t, other, ev).Differences); got != `[allow: false, was true cause: "policy", was "" on_deny: "refuse", was nothing reason: "no", was nothing retain: nothing, was "keep"]` {
		t.Errorf("publish: %s", got)
	}
	ev = recordOf(t, e, deviceFacts(t), &policy.Request{Action: policy.ActionConnect})
	got := replay(t, other, ev).Differences
	if len(got) != 1 || got[0].Field != "limits" || !strings.Contains(string(got[0].Now), `"payload_max":50`) {
		t.Errorf("connect: %v", got)
	}
	// Another way of writing the same is no difference.
	ev.Result = json.RawMessage(strings.ReplaceAll(string(ev.Result), ",", " ,\n"))
	if got := replay(t, live(e), ev); len(got.Differences) != 0 {
		t.Errorf("spaces: %v", got.Differences)
	}
}

// Rules that read the clock see the time of the record.
func TestReplayAtItsTime(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": true} if time.clock(time.now_ns())[0] == 12

else := {"allow": false}
`}), Options{})
	ev := asWritten(t, recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/a/fmt/json")))
	if got := replay(t, live(e), ev); !got.Allow || len(got.Differences) != 0 {
		t.Errorf("%+v", got)
	}
	// Given from memory later, it is decided again at the time that it was decided.
	ev.Timestamp = ev.Timestamp.Add(time.Hour)
	if got := replay(t, live(e), ev); !got.Allow {
		t.Errorf("from memory: %+v", got)
	}
	ev.Custom.DecidedAt = nil
	if got := replay(t, live(e), ev); got.Allow || len(got.Differences) == 0 {
		t.Errorf("an hour later: %+v", got)
	}
}

func TestNotReplayable(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": true, "reason": "fine"} if input.principal.kind == "device"`}), Options{})
	for name, tt := range map[string]struct {
		change func(*audit.Event)
		why    string // empty: it is replayed
	}{
		"untouched":       {func(*audit.Event) {}, ""},
		"masked and read": {func(ev *audit.Event) { ev.Masked = []string{"/input/principal/kind"} }, "/input/principal/kind is masked, and the rules read it"},
		"masked above":    {func(ev *audit.Event) { ev.Erased = []string{"/input/principal"} }, "/input/principal is masked, and the rules read it"},
		"masked below":    {func(ev *audit.Event) { ev.Erased = []string{"/input/principal/kind/x"} }, "/input/principal/kind/x is masked, and the rules read it"},
		"masked beside":   {func(ev *audit.Event) { ev.Erased = []string{"/input/principal/kindly", "/input/client"} }, ""},
		"no input":        {func(ev *audit.Event) { ev.Input = nil }, "the input is not recorded"},
		"no result":       {func(ev *audit.Event) { ev.Erased, ev.Result = []string{"/result"}, nil }, "the result is masked"},
		"part of the result": {func(ev *audit.Event) {
			ev.Masked, ev.Result = []string{"/result/reason"}, json.RawMessage(`{"allow":true,"reason":"-","retain":"strip"}`)
		}, ""},
		"over a quota": {func(ev *audit.Event) { ev.Custom.Cause = policy.CauseQuota }, "no rule was asked: the quota of the organisation was used up"},
		"too slow":     {func(ev *audit.Event) { ev.Custom.Cause = policy.CauseTimeout }, "the evaluation did not end by itself"},
		"two bundles":  {func(ev *audit.Event) { ev.Bundles[audit.BundleOrganisation] = audit.BundleInfo{Revision: "x"} }, "a bundle of the organisation answered too"},
		"verifiers":    {func(ev *audit.Event) { ev.Path = "cordon/connect/verifiers" }, "it is a choice of verifiers and no decision"},
	} {
		ev := asWritten(t, recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/a/fmt/json")))
		tt.change(ev)
		if got := replay(t, live(e), ev); got.Skipped != tt.why || len(got.Differences) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A record that somebody changed is refused and not guessed at.
func TestReplayIsStrict(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	for name, change := range map[string]func(*audit.Event){
		"a path of elsewhere": func(ev *audit.Event) { ev.Path = "http/authz/allow" },
		"an unknown field":    func(ev *audit.Event) { ev.Input = json.RawMessage(`{"action":"publish","toppic":"x"}`) },
		"a wrong type":        func(ev *audit.Event) { ev.Input = json.RawMessage(`{"action":"publish","levels":"x"}`) },
		"another action":      func(ev *audit.Event) { ev.Input = json.RawMessage(`{"action":"connect"}`) },
		"no object":           func(ev *audit.Event) { ev.Input = json.RawMessage(`[1]`) },
		"too deep":            func(ev *audit.Event) { ev.Input = json.RawMessage(strings.Repeat("[", 100_000)) },
		"a result of no kind": func(ev *audit.Event) { ev.Result = json.RawMessage(`[1]`) },
	} {
		ev := asWritten(t, recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/evt/a/fmt/json")))
		change(ev)
		if got, err := live(e).Replay(context.Background(), ev); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestInputPaths(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, module(map[string]string{
		"publish": `import data.cordon.other

decision := {"allow": true} if {
	input.principal.claims["a"].b == 1
	other.f
	some i
	input.levels[i] == "x"
}`,
		"other": `f if input.client.address == "x"`,
	}))
	if got := fmt.Sprint(b.entry(policy.ActionPublish).paths); got != "[/client/address /levels /principal/claims/a/b]" {
		t.Errorf("paths %s", got)
	}
	b = mustLoad(t, module(map[string]string{"publish": `decision := {"allow": count(input) > 1}`}))
	if p := b.entry(policy.ActionPublish).paths; !p.reads("/anything") {
		t.Errorf("the whole of it: %v", p)
	}
}

// Whatever is in a record, replay and explain answer or refuse.
func FuzzReplay(f *testing.F) {
	e := engineOf(f, builtinBundle(), Options{})
	b := live(e)
	for _, r := range []*policy.Request{publishTo(f, "iot-2/evt/a/fmt/json"), subscribeTo(f, "iot-2/cmd/+/fmt/+"), {Action: policy.ActionConnect}} {
		text, err := recordOf(f, e, deviceFacts(f), r).JSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"path":"cordon/publish/decision","input":{"action":"publish","levels":[]},"custom":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		ev, err := audit.ParseEvent(text)
		if err != nil {
			return
		}
		for _, err := range []error{second(b.Replay(context.Background(), ev)), second(b.Explain(context.Background(), ev, Explaining{}))} {
			if err != nil && policy.KindOf(err) == policy.KindInternal {
				t.Fatalf("%v", err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A replay reads and decides; how many a second there are with all processors is with
// the benchmarks of the other decisions.
func BenchmarkReplay(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	text, err := recordOf(b, e, deviceFacts(b), publishTo(b, "iot-2/evt/status/fmt/json")).JSON()
	if err != nil {
		b.Fatal(err)
	}
	var once sync.Once
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ev, err := audit.ParseEvent(text)
			if err != nil {
				once.Do(func() { b.Error(err) })
				return
			}
			r, err := live(e).Replay(context.Background(), ev)
			if err != nil || len(r.Differences) > 0 {
				once.Do(func() { b.Error(r, err) })
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

func BenchmarkRender(b *testing.B) {
	masks := fsWith(openPolicies(), "system/log/log.rego", "package system.log\n\nmask contains \"/input/client/address\"\n\ndrop if input.custom.action == \"receive\"\n")
	for name, e := range map[string]*Engine{"plain": engineOf(b, builtinBundle(), Options{}), "masked": engineOf(b, masks, Options{})} {
		b.Run(name, func(b *testing.B) {
			f, r := deviceFacts(b), publishTo(b, "iot-2/evt/status/fmt/json")
			en := &audit.Entry{Facts: f, Request: *r, Decision: e.Judge(f).Decide(context.Background(), r), Time: noon(), Count: 1, Weight: 1}
			rc := e.Recorder(map[string]string{"id": "node1", "version": "x"})
			b.ReportAllocs()
			for b.Loop() {
				ev, err := rc.Render(context.Background(), en)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := ev.JSON(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
