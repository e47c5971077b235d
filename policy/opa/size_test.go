package opa

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// What is too large denies with a cause of its own, and only where the rules
// would have seen it.
func TestBudgets(t *testing.T) {
	t.Parallel()
	const reads = "decision := {\"allow\": true} if {\n\tnot input.properties.user.x\n\tinput.principal.kind\n}"
	large := strings.Repeat("x", 5000)
	user := func(r *policy.Request) {
		r.Properties = &policy.Properties{User: []policy.UserProperty{{Key: "k", Value: large}}}
	}
	keep := func(*policy.Facts) {}
	same := func(*policy.Request) {}
	for name, c := range map[string]struct {
		rules   string
		facts   func(*policy.Facts)
		request func(*policy.Request)
		cause   policy.Cause
	}{
		"nothing large":        {reads, keep, same, policy.CauseNone},
		"user properties":      {reads, keep, user, policy.CauseInputSize},
		"read by nobody":       {`decision := {"allow": true} if input.principal.kind`, keep, user, policy.CauseNone},
		"claims":               {reads, func(f *policy.Facts) { f.Principal.Claims = map[string]any{"a": []any{"b", large}} }, same, policy.CauseInputSize},
		"metadata":             {reads, func(f *policy.Facts) { f.Principal.Metadata = map[string]any{large: 1} }, same, policy.CauseInputSize},
		"organisation":         {reads, func(f *policy.Facts) { f.Org.Data = map[string]any{"a": map[string]any{"b": large}} }, same, policy.CauseInputSize},
		"many roles":           {reads, func(f *policy.Facts) { f.Principal.Roles = strings.Split(large, "") }, same, policy.CauseInputSize},
		"many small values":    {reads, func(f *policy.Facts) { f.Principal.Claims = map[string]any{"a": make([]any, 1000)} }, same, policy.CauseInputSize},
		"an answer of strings": {`decision := {"allow": true, "reason": sprintf("%4000d", [1])}`, keep, same, policy.CauseOutputSize},
		"an answer of numbers": {`decision := {"allow": true, "covers": numbers.range(1, 1000)}`, keep, same, policy.CauseOutputSize},
		"an answer of names":   {`decision := {"allow": true, sprintf("%4000d", [1]): 1}`, keep, same, policy.CauseOutputSize},
		"a set":                {`decision := {"allow": true, "covers": {x | some x in numbers.range(1, 1000)}}`, keep, same, policy.CauseOutputSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, report := Load(context.Background(), module(map[string]string{"publish": c.rules}), nil)
			if b == nil {
				t.Fatal(report.Err())
			}
			e := New(Options{Timeout: 10 * time.Second, InputMax: 4000, OutputMax: 3000})
			e.Activate(b)
			f := deviceFacts(t)
			c.facts(f)
			r := publishTo(t, "iot-2/evt/a/fmt/json")
			c.request(r)
			d := e.Judge(f).Decide(context.Background(), r)
			if d.Cause != c.cause || d.Allow != (c.cause == policy.CauseNone) {
				t.Errorf("%+v", d)
			}
			if c.cause != policy.CauseNone && (e.Stats().Denials[c.cause] != 1 || strings.Contains(d.Detail, "xxx")) {
				t.Errorf("denials %v, detail %q", e.Stats().Denials, d.Detail)
			}
		})
	}
}

func TestVerifiersHaveABudgetToo(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{InputMax: 1000})
	if _, err := e.Verifiers(context.Background(), &policy.Client{Username: strings.Repeat("x", 2000)}, nil); err == nil || !strings.Contains(err.Error(), string(policy.CauseInputSize)) {
		t.Errorf("error %v", err)
	}
}

// The default bounds leave room for everything an answer may hold together.
func TestDefaultBudgets(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	roles := make([]string, maxNames)
	for i := range roles {
		roles[i] = fmt.Sprintf("%036d", i)
	}
	if measureValue(ast.MustInterfaceToValue(map[string]any{"roles": roles, "groups": roles, "reason": strings.Repeat("x", maxReason)}), e.outputMax) < 0 {
		t.Error("an ordinary answer is too large")
	}
	if e.inputMax < 2*65535 {
		t.Error("the longest client ID and username are too large")
	}
}

// What a rule cannot read is not put together for it, and it cannot tell.
func TestInputOfReads(t *testing.T) {
	t.Parallel()
	facts := fullFacts(t)
	for action := policy.ActionConnect; action <= policy.ActionAdminister; action++ {
		c, err := convertFacts(facts)
		if err != nil {
			t.Fatal(err)
		}
		r := fullRequest(t, action)
		all := c.input(r, readAll).(ast.Object)
		for name, bit := range fieldNames {
			k := ast.StringTerm(name)
			want := all.Get(k)
			got := c.input(r, bit).(ast.Object).Get(k)
			if (got == nil) != (want == nil) || got != nil && got.Value.Compare(want.Value) != 0 {
				t.Errorf("%v: input.%s is %v, want %v", action, name, got, want)
			}
		}
	}
}
