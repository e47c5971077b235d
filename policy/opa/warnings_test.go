package opa

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestWarningsOfInput(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule string
		want string // "line:col code", empty: none
	}{
		{`decision := {"allow": object.get(input, "qos", 0) == 1}`, "3:23 " + CodeUntyped},
		{`decision := {"allow": object.get(input.principal, "kind", "") == "device"}`, "3:23 " + CodeUntyped},
		{`decision := {"allow": object.get(input.principal.claims, "fleet", "") == "a"}`, ""},
		{`decision := {"allow": object.get(data.cordon.table, input.topic, false)}`, ""},
		{"decision := {\"allow\": true} if {\n\tsome name\n\tinput[name] == \"x\"\n}", "5:2 " + CodeWhole},
		{"decision := {\"allow\": _is(input)}\n\n_is(x) if x.qos == 1", "3:27 " + CodeWhole},
		{`decision := {"allow": "x" in input.levels}`, ""},
		{`decision := {"allow": input.levels[input.qos] == "x"}`, ""},
		{`decision := {"allow": false} if print("what is asked:", input)`, ""},

		// names that stand for it
		{"import input as i\n\ndecision := {\"allow\": object.get(i, \"qos\", 0) == 1}", "5:23 " + CodeUntyped},
		{"import input as i\n\ndecision := {\"allow\": i[i.topic] == 1}", "5:23 " + CodeWhole},
		{"import input as i\n\ndecision := {\"allow\": _is(i)}\n\n_is(x) if x.qos == 1", "5:27 " + CodeWhole},
		{"import input as i\n\ndecision := {\"allow\": i.qos == 1}", ""},
		{"import input.principal as p\n\ndecision := {\"allow\": object.get(p, \"kind\", \"\") == \"device\"}", "5:23 " + CodeUntyped},
		{"import input.principal as p\n\ndecision := {\"allow\": object.get(p.claims, \"fleet\", \"\") == \"a\"}", ""},
		{"import input.principal\n\ndecision := {\"allow\": object.get(principal, \"kind\", \"\") == \"device\"}", "5:23 " + CodeUntyped},
		{"decision := {\"allow\": true} if {\n\tx := input\n\tobject.get(x, \"qos\", 0) == 1\n}", "4:7 " + CodeWhole + " 5:2 " + CodeUntyped},
		{"decision := {\"allow\": true} if {\n\tp := input.principal\n\tobject.get(p, \"kind\", 0) == 1\n}", "5:2 " + CodeUntyped},
		{"decision := {\"allow\": true} if {\n\tp := input.principal\n\tc := p.claims\n\tobject.get(c, \"kind\", 0) == 1\n\tp.kind == \"device\"\n}", ""},
		{"decision := {\"allow\": true} if {\n\tp := input.principal\n\tq := p\n\tnot object.get(q, \"kind\", 0) == 1\n}", "6:6 " + CodeUntyped},
		{"decision := {\"allow\": count([1 | p := input.principal; object.get(p, \"kind\", 0) == 1]) == 1}", "3:56 " + CodeUntyped},
		{"decision := {\"allow\": false} if input.qos == 1\n\nelse := {\"allow\": true} if {\n\tp := input.principal\n\tobject.get(p, \"kind\", 0) == 1\n}", "7:2 " + CodeUntyped},
		{"decision := {\"allow\": _ok} if {\n\tinput := {\"a\": 1}\n\tinput.a == 1\n}\n\n_ok := true", "strict"},

		// with replaces what is read
		{"import input as i\n\ndecision := {\"allow\": true} if _ok with input as {\"qos\": i.qos}\n\n_ok if input.qos == 1", ""},
		{"import input as i\n\ndecision := {\"allow\": true} if _ok with input.qos as i.qos\n\n_ok if input.qos == 1", ""},
		{"import input as i\n\ndecision := {\"allow\": true} if _ok with input as object.union(i, {\"qos\": 1})\n\n_ok if input.qos == 1", "5:63 " + CodeWhole},
		{"decision := {\"allow\": true} if _ok with input as {\"qos\": object.get(input, \"qos\", 1)}\n\n_ok if input.qos == 1", "3:58 " + CodeUntyped},
	}
	for _, test := range tests {
		b, report := Load(context.Background(), module(map[string]string{"publish": test.rule + "\n"}), builtinSchemas())
		if test.want == "strict" {
			if b != nil {
				t.Errorf("%s\nloads", test.rule)
			}
			continue
		}
		if b == nil {
			t.Errorf("%s\n%v", test.rule, report.Err())
			continue
		}
		got := ""
		for _, p := range report.Warnings {
			if p.Code == CodeUntyped || p.Code == CodeWhole {
				got += " " + strings.TrimPrefix(p.Position, "cordon/publish/publish.rego:") + " " + p.Code
				if p.Hint == "" || p.Line == "" {
					t.Errorf("%s\nno hint or line: %+v", test.rule, p)
				}
			}
		}
		if got = strings.TrimSpace(got); got != test.want {
			t.Errorf("%s\nwarns %q, want %q", test.rule, got, test.want)
		}
	}
	if _, report := Load(context.Background(), builtinBundle(), builtinSchemas()); len(report.Warnings) != 0 {
		t.Errorf("the built-in policies: %v", report.Warnings)
	}
}

// What the parser says several times about one place is said once.
func TestParseErrorsAreSaidOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"package a\n\ndecision := {\"allow\": true", "package a\n\nx := \"abc", "package", "package a\n\nx if {", "package a\n\ny := [1,\n", "package a\n\nx := 1 }",
	} {
		_, report := Load(context.Background(), fstest.MapFS{"a.rego": {Data: []byte(text)}}, nil)
		if len(report.Problems) != 1 || report.Problems[0].Line == "" || report.Problems[0].Hint != parseHint(report.Problems[0].Message) || !strings.HasPrefix(report.Problems[0].Position, "a.rego:") {
			t.Errorf("%q: %+v", text, report.Problems)
		}
	}
}

const coveringTests = `package cordon.publish_test

import data.cordon.publish

_input(topic) := {"principal": {"kind": "device", "id": "d1"}, "topic": topic, "levels": split(topic, "/"), "qos": 1}

test_open if publish.decision.allow with input as _input("a/b/c")

test_other if not publish.decision.allow with input as _input("other")
`

func TestCheckCovers(t *testing.T) {
	t.Parallel()
	const honest = `decision := {"allow": true, "covers": ["a/+/c"]} if {
	input.levels[0] == "a"
	input.levels[2] == "c"
	count(input.levels) == 3
} else := {"allow": false}`
	tests := []struct{ name, rule, tests, want string }{
		{"true", honest, coveringTests, ""},
		{"none", `decision := {"allow": input.levels[0] == "a"}`, coveringTests, ""},
		{"a constant of the rules", strings.Replace(honest, "count(input.levels) == 3", "count(input.levels) == 3\n\tinput.levels[1] != \"secret\"", 1), coveringTests, "for a/secret/c"},
		{"the asker", strings.Replace(honest, "count(input.levels) == 3", "count(input.levels) == 3\n\tinput.levels[1] != input.principal.id", 1), coveringTests, "for a/d1/c"},
		{"too wide", strings.Replace(honest, "a/+/c", "a/#", 1), coveringTests, "covers a/#"},
		{
			"a topic of the tests", strings.Replace(honest, "count(input.levels) == 3", "count(input.levels) == 3\n\tcrypto.md5(input.levels[1]) != \"8277e0910d750195b448797616e091ad\"", 1),
			coveringTests + "\ntest_d if not publish.decision.allow with input as _input(\"a/d/c\")\n", "for a/d/c",
		},
		{"does not load", "decision :=", coveringTests, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files := fsWith(module(map[string]string{"publish": test.rule + "\n"}), "cordon/publish/publish_test.rego", test.tests)
			problems := CheckCovers(context.Background(), files, builtinSchemas())
			if test.want == "" {
				if len(problems) != 0 {
					t.Errorf("got %v", problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].Code != CodeCovers || !strings.Contains(problems[0].Message, test.want) || !strings.HasPrefix(problems[0].Position, "cordon/publish/publish.rego:3:") {
				t.Errorf("got %+v, want one with %q", problems, test.want)
			}
		})
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	files := fsWith(module(map[string]string{
		"publish":   "decision := {\"allow\": true} if {\n\tinput.levels[0] == \"a\"\n} else := {\"allow\": false}\n\n_unused if input.qos == 1\n\n_too if input.qos == 2\n",
		"subscribe": "decision := {\"allow\": true}\n",
	}), "cordon/publish/publish_test.rego", coveringTests)
	report, c := Test(context.Background(), files, builtinSchemas())
	if report.Err() != nil || c == nil || len(c.Files) != 2 {
		t.Fatalf("%v %+v", report.Err(), c)
	}
	f := c.Files[0]
	if f.Path != "cordon/publish/publish.rego" || f.Covered == 0 || f.Missed != 2 || !slices.Equal(f.Gaps, []Lines{{7, 7}, {9, 9}}) || f.Percent <= 0 || f.Percent >= 100 {
		t.Errorf("%+v", f)
	}
	if f := c.Files[1]; f.Percent != 0 || f.Missed != 1 {
		t.Errorf("%+v", f)
	}
	if c.Missed != 3 || c.Percent != percent(c.Covered, 3) {
		t.Errorf("%+v", c)
	}
	if _, c := Test(context.Background(), module(map[string]string{"publish": "decision :="}), nil); c != nil {
		t.Errorf("a bundle that does not parse has coverage %+v", c)
	}
}

// Formatting changes nothing that a compiler reads at the same time: the values of all
// rules behind else that name none are one term.
func TestFormatBesideCompiling(t *testing.T) {
	t.Parallel()
	const text = "package a\n\np if {\n\tinput.x\n} else if {\n\tinput.y\n}\n"
	var formatting sync.WaitGroup
	defer formatting.Wait()
	formatting.Go(func() {
		for range 200 {
			if got, problems := Format("a.rego", []byte(text)); string(got) != text {
				t.Errorf("%q, %v", got, problems)
				return
			}
		}
	})
	for range 200 {
		module, err := ast.ParseModule("a.rego", text)
		if err != nil {
			t.Fatal(err)
		}
		compiler := ast.NewCompiler()
		if compiler.Compile(map[string]*ast.Module{"a.rego": module}); compiler.Failed() {
			t.Fatal(compiler.Errors)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	got, problems := Format("a.rego", []byte("package a\n\n\n\nx  :=   1\n"))
	if string(got) != "package a\n\nx := 1\n" || problems != nil {
		t.Errorf("%q, %v", got, problems)
	}
	if again, _ := Format("a.rego", got); string(again) != string(got) {
		t.Errorf("%q is formatted to %q", got, again)
	}
	if got, problems := Format("a.rego", []byte("package a\n\nx := {")); got != nil || len(problems) != 1 || problems[0].Position != "a.rego:3:6" {
		t.Errorf("%q, %v", got, problems)
	}
	if got, problems := Format("a.rego", make([]byte, MaxFileBytes+1)); got != nil || len(problems) != 1 || problems[0].Code != CodeLimit {
		t.Errorf("%d bytes, %v", len(got), problems)
	}
}
