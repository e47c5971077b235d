package opa

import (
	"context"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/plan"
	"github.com/cordon-mq/cordon/policy/topic"
)

// cookbook are the built-in bundle, and the same with each of the examples on top.
func cookbook(t testing.TB) map[string]*Bundle {
	t.Helper()
	const examples = "../../rego/examples"
	all := map[string]*Bundle{"default": mustLoad(t, builtinBundle())}
	folders, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		files := builtinBundle().(fstest.MapFS)
		example := os.DirFS(examples + "/" + folder.Name())
		err := fs.WalkDir(example, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(example, name)
			files[name] = &fstest.MapFile{Data: text}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		all[folder.Name()] = mustLoad(t, files)
	}
	return all
}

func (b *Bundle) entries() []*entryPoint {
	var all []*entryPoint
	for _, e := range append(b.decisions[:], b.verifiers) {
		if e != nil {
			all = append(all, e)
		}
	}
	return all
}

// plansAgree fails the test where the plan of entry and topdown differ. What the
// plan ends with an error, topdown answers; asked says that it found a value.
func plansAgree(t rapid.TB, entry *entryPoint, input ast.Value) (asked bool) {
	t.Helper()
	ctx, now := context.Background(), time.UnixMilli(1763800000123)
	got, err := entry.plan.program.Eval(ctx, plan.Question{Input: input, Now: now, Cancel: new(stop)})
	want, wantErr := entry.interpret(ctx, input, now, new(stop))
	switch {
	case err != nil:
		return wantErr == nil
	case wantErr != nil:
		t.Fatalf("%v of %v: got %v, topdown ends with %v", entry.ref, input, got, wantErr)
	case !sameValue(got, want):
		t.Fatalf("%v of %v:\ngot     %v\ntopdown %v", entry.ref, input, got, want)
	}
	return false
}

func drawFacts(t *rapid.T) *policy.Facts {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	flip := func(label string) bool { return rapid.Bool().Draw(t, label) }
	org, _ := policy.ParseOrgID(few("org", "acme01", "acme01", "other2"))
	p := &policy.Principal{
		Org: org, Kind: rapid.SampledFrom([]policy.PrincipalKind{policy.KindDevice, policy.KindGateway, policy.KindApplication, policy.KindUser}).Draw(t, "kind"),
		Type: policy.ID(few("type", "", "sensor", "sensor", "pump")), ID: policy.ID(few("id", "", "d1", "d1", "d2")), App: policy.ID(few("app", "", "app1")),
		Verifier: few("verifier", "token", "token", "certificate", "jwt", "anonymous"), Registered: flip("registered"), APIKey: few("key", "", "a-acme01-0123456789"),
		Groups: rapid.SliceOfN(rapid.SampledFrom([]string{"hall", "quarantine", "ops", "maintenance"}), 0, 2).Draw(t, "groups"),
		Roles:  rapid.SliceOfN(rapid.SampledFrom([]string{"PD_STANDARD_APP", "PD_ADMIN_APP", "PD_OPERATOR_APP", "Administrator", "read_only", "nobody"}), 0, 3).Draw(t, "roles"),
	}
	if flip("second proof") {
		p.And = &policy.Proof{Verifier: "certificate"}
	}
	if flip("claims") {
		p.Claims = map[string]any{"scope": few("scope", "a b", "publish", ""), "groups": []any{"ops", few("group", "x", "hall")}, "n": 3}
	}
	f := &policy.Facts{Principal: p}
	if flip("organisation") {
		f.Org = &policy.Organisation{ID: org, ConnectionLevel: few("level", "", "tls", "tls_optional", "tls_token", "tls_certificate", "tls_token_and_certificate", "tls_certificate_or_token")}
		if f.Org.AddressList = few("list", "", "", "allow", "deny"); f.Org.AddressList != "" {
			f.Org.AddressListed = flip("listed")
		}
		f.Org.CertificateRegistration = flip("registration")
	}
	if flip("client") {
		f.Client = &policy.Client{
			ID:       policy.ClientID(few("client ID", "", "d:acme01:sensor:d1", "g:acme01:sensor:d1", "a:acme01:app1", "A:acme01:app1:i", "A:acme01:app1", "x", ":::", "d:other2:sensor:d1")),
			Username: few("username", "", "use-token-auth", "use-plugin:jwt", "use-plugin:!"), Protocol: few("protocol", "3.1.1", "5"),
			Listener: few("listener", "mqtts", "mqtt", "wss", "https"), Address: netip.MustParseAddr(few("address", "192.0.2.7", "10.1.2.3", "2001:db8::1")),
		}
		if flip("tls") {
			f.Client.TLS = &policy.TLS{Version: "1.3", SNI: "acme01.messaging.localhost"}
			if flip("certificate") {
				f.Client.TLS.Cert = &policy.Certificate{Subject: "CN=d:sensor:d1", SHA256: "00"}
			}
		}
	}
	return f
}

func drawQuestion(t *rapid.T) *policy.Request {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	r := drawMessage(t, "d1")
	switch r.Action = rapid.SampledFrom([]policy.Action{policy.ActionConnect, policy.ActionPublish, policy.ActionReceive, policy.ActionSubscribe, policy.ActionAdminister}).Draw(t, "asked"); r.Action {
	case policy.ActionPublish, policy.ActionReceive, policy.ActionSubscribe:
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"iot-2", "type", "sensor", "id", "d1", "evt", "cmd", "fmt", "+", "#", "", "json"}), 0, 9).Draw(t, "levels")
		if rapid.Bool().Draw(t, "usual") {
			levels = []string{"iot-2", "type", few("level type", "sensor", "pump", "+"), "id", few("level id", "d1", "d2", "+"), few("level kind", "evt", "cmd"), few("level name", "x", "+", ""), "fmt", few("level format", "json", "+", "#")}
			levels = levels[:rapid.SampledFrom([]int{9, 9, 9, 7, 8}).Draw(t, "length")]
		}
		r.Levels = levels
		r.Filter, _ = topic.ParseFilter(strings.Join(levels, "/"))
	case policy.ActionAdminister:
		r.Method = few("method", "GET", "POST", "PUT", "DELETE")
		r.Route = few("route", "/", "/device/types", "/authorization/apikeys/{key}", "/authorization/apikeys", "/unknown")
		r.Target = map[string]string{"key": few("target", "a-acme01-0123456789", "b"), "roles": few("target roles", "", "PD_ADMIN_APP", "PD_OPERATOR_APP,PD_ADMIN_APP")}
	case policy.ActionNone, policy.ActionConnect:
	}
	return r
}

// A plan that gives something else is found out, and topdown has the word.
func TestAWrongPlanIsNotUsed(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, builtinBundle())
	publish, subscribe := b.decisions[policy.ActionPublish], b.decisions[policy.ActionSubscribe]
	wrong := *publish
	wrong.plan = &planned{program: subscribe.plan.program}
	facts, err := convertFacts(deviceFacts(t))
	if err != nil {
		t.Fatal(err)
	}
	input := facts.input(publishTo(t, "iot-2/evt/status/fmt/json"), readAll)
	var logged strings.Builder
	for range 2 {
		v, err := wrong.value(context.Background(), input, time.Now(), new(stop), slog.New(slog.NewTextHandler(&logged, nil)))
		want, _ := publish.interpret(context.Background(), input, time.Now(), new(stop))
		if err != nil || !sameValue(v, want) {
			t.Errorf("got %v, %v, want %v", v, err, want)
		}
	}
	if n := strings.Count(logged.String(), "level=ERROR"); n != 1 || !wrong.plan.off.Load() {
		t.Errorf("%d errors logged, off is %v", n, wrong.plan.off.Load())
	}
}

// A failing built-in, two values of one rule and a timeout are what they were
// before there were plans: with their position, and their cause.
func TestErrorsOfPlansAreThoseOfTopdown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rules, detail string
		timeout       time.Duration
		cause         policy.Cause
	}{
		"built-in": {"decision := {\"allow\": 1 / 0 == 1}", "cordon/connect/connect.rego:3:23: eval_builtin_error: div: divide by zero", 0, policy.CauseError},
		"conflict": {"decision := {\"allow\": x} if some x in [true, false]", "cordon/connect/connect.rego:3:1: eval_conflict_error: rule data.cordon.connect.decision produced conflicting values:", 0, policy.CauseError},
		"nothing":  {"decision := {\"allow\": true} if input.principal.id == \"nobody\"", "data.cordon.connect.decision: no rule gives it a value", 0, policy.CauseUndefined},
		"timeout": {
			"decision := {\"allow\": count([1 | some a in r; some b in r; some c in r; a + b == c]) > 0}\n\nr := numbers.range(1, 2000)",
			"data.cordon.connect.decision took longer than 20ms", 20 * time.Millisecond, policy.CauseTimeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, module(map[string]string{"connect": test.rules}), Options{Timeout: test.timeout})
			if e.live.Load().entry(policy.ActionConnect).plan == nil {
				t.Error("there is no plan")
			}
			d := e.Judge(deviceFacts(t)).Decide(context.Background(), &policy.Request{Action: policy.ActionConnect})
			if d.Allow || d.Cause != test.cause || !strings.HasPrefix(d.Detail, test.detail) {
				t.Errorf("got %s", show(d))
			}
		})
	}
}

// Fuzz: whatever is asked, as JSON, the plans of the built-in bundle answer as
// topdown does.
func FuzzPlans(f *testing.F) {
	b := mustLoad(f, builtinBundle())
	facts, err := convertFacts(deviceFacts(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []*policy.Request{
		{Action: policy.ActionConnect}, publishTo(f, "iot-2/evt/status/fmt/json"), subscribeTo(f, "iot-2/cmd/+/fmt/+"),
	} {
		f.Add(facts.input(r, readAll).String())
	}
	f.Add(`{"principal": {"kind": "application", "roles": ["PD_ADMIN_APP"], "app": "a"}, "client": {"id": "A:acme01:a:i"}, "route": "/", "method": "GET"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		var input any
		if util.UnmarshalJSON([]byte(text), &input) != nil {
			t.Skip()
		}
		v, err := ast.InterfaceToValue(input)
		if err != nil {
			t.Skip()
		}
		for _, entry := range b.entries() {
			plansAgree(t, entry, v)
		}
	})
}

// What Cordon ships is answered by plans, and a plan gives what topdown gives,
// whoever asks for what.
func TestPlansAnswerAsTopdownDoes(t *testing.T) {
	t.Parallel()
	bundles := cookbook(t)
	names := sortedKeys(bundles)
	for _, name := range names {
		if len(bundles[name].entries()) < 5 {
			t.Errorf("%s has %d entry points", name, len(bundles[name].entries()))
		}
		for _, e := range bundles[name].entries() {
			if e.plan == nil {
				t.Fatalf("%s: %v has no plan", name, e.ref)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		facts, err := convertFacts(drawFacts(t))
		if err != nil {
			t.Fatal(err)
		}
		r := drawQuestion(t)
		b := bundles[rapid.SampledFrom(names).Draw(t, "bundle")]
		for _, entry := range b.entries() {
			if plansAgree(t, entry, facts.input(r, readAll)) {
				t.Fatalf("the plan of %v asks topdown", entry.ref)
			}
		}
	})
}
