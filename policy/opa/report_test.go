package opa

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

func TestReportText(t *testing.T) {
	t.Parallel()
	_, report := Load(context.Background(), module(map[string]string{
		"publish": "decision := {\"allow\": true} if input.principal.knd == \"user\"\n\nelse := {\"allow\": false} if input.topci == \"a\"",
	}), builtinSchemas())
	var out strings.Builder
	n, err := report.WriteTo(&out)
	if err != nil || int(n) != out.Len() {
		t.Fatal(n, err)
	}
	const want = `cordon/publish/publish.rego:3:32: rego_type_error: undefined ref: input.principal.knd
    decision := {"allow": true} if input.principal.knd == "user"
    hint: did you mean kind? there are also, api_key, app, claims, expires_at, groups, id, kind, member_of, metadata, org, permissions, registered, restricted, roles, type, verifier
cordon/publish/publish.rego:5:1: rego_type_error: undefined ref: input.topci
    else := {"allow": false} if input.topci == "a"
    hint: did you mean topic? there are action, client, device, levels, on_behalf_of, org, principal, properties, qos, retain, size, topic, will
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := report.Err().Error(); got != "cordon/publish/publish.rego:3:32: rego_type_error: undefined ref: input.principal.knd (and 1 more)" {
		t.Errorf("Err is %q", got)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`decision := {"allow": true} if opa.runtime()`:                "opa.runtime is not available to policies: it shows the environment of the broker",
		`decision := {"allow": true, "retains": "keep"}`:              "did you mean retain? there are allow, covers, notify, on_deny, reason, register, retain, ttl",
		`decision := {"allow": true} if input.zzz`:                    "there are action, client, device, levels, on_behalf_of, org, principal, properties, qos, retain, size, topic, will",
		`decision := {"allow": true} if startswith(input.levels, "")`: "have: (array[string], string); want: (search: string, base: string, result: boolean)",
	} {
		_, report := Load(context.Background(), module(map[string]string{"publish": text}), builtinSchemas())
		if len(report.Problems) != 1 || report.Problems[0].Hint != want {
			t.Errorf("%s: %v, hint %q", text, report.Problems, report.Problems[0].Hint)
		}
	}
}

func TestNoErrorLimit(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "rule%d if input.field%d\n\n", i, i)
	}
	_, report := Load(context.Background(), module(map[string]string{"publish": text.String()}), builtinSchemas())
	if len(report.Problems) != 40 {
		t.Errorf("%d problems, want 40", len(report.Problems))
	}
}

func TestBundleBounds(t *testing.T) {
	t.Parallel()
	large := fstest.MapFS{"cordon/data.json": {Data: make([]byte, maxFileBytes+1)}}
	many := fstest.MapFS{}
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("f%d.rego", i)] = &fstest.MapFile{Data: []byte("package x")}
	}
	deep := fstest.MapFS{strings.Repeat("a/", maxDepth+2) + "x.rego": {Data: []byte("package x")}}
	for name, fsys := range map[string]fstest.MapFS{"large": large, "many": many, "deep": deep} {
		b, report := Load(context.Background(), fsys, nil)
		if b != nil || len(report.Problems) != 1 || report.Problems[0].Code != CodeLimit {
			t.Errorf("%s: %+v", name, report.Problems)
		}
	}
}

func TestHiddenFilesAreSkipped(t *testing.T) {
	t.Parallel()
	files := module(map[string]string{"publish": `decision := {"allow": true}`})
	files[".git/x.rego"] = &fstest.MapFile{Data: []byte("no rego")}
	files["cordon/publish/.#publish.rego"] = &fstest.MapFile{Data: []byte("no rego")}
	mustLoad(t, files)
}

func TestMissingSchemaIsAProblem(t *testing.T) {
	t.Parallel()
	b, report := Load(context.Background(), module(map[string]string{"publish": `decision := {"allow": true}`}), fstest.MapFS{})
	if b != nil || report.Problems[0].Code != CodeSchema {
		t.Errorf("%+v", report.Problems)
	}
}

func TestRunTests(t *testing.T) {
	t.Parallel()
	files := module(map[string]string{"publish": `decision := {"allow": true}`})
	files["cordon/publish/publish_test.rego"] = &fstest.MapFile{Data: []byte(`package cordon.publish_test

test_b if data.cordon.publish.decision.allow

test_a if {
	print("seen")
	false
}

test_c if to_number("x")

todo_test_d if false
`)}
	results, err := RunTests(context.Background(), files, builtinSchemas())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%s %s %v %v", r.Name, r.Position, r.Passed, r.Skipped))
	}
	const file = "cordon/publish/publish_test.rego"
	want := "test_a " + file + ":5:1 false false\ntest_b " + file + ":3:1 true false\ntest_c " + file + ":10:1 false false\ntodo_test_d " + file + ":12:1 false true"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if results[0].Output != "seen\n" || !strings.Contains(results[2].Error, "eval_builtin_error") {
		t.Errorf("output %q, error %q", results[0].Output, results[2].Error)
	}

	files["cordon/publish/publish.rego"].Data = []byte("package cordon.publish\n\nx := ")
	if _, err := RunTests(context.Background(), files, builtinSchemas()); err == nil {
		t.Error("a bundle that does not parse gives no error")
	}
}
