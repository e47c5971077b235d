package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const halfTested = "package cordon.publish\n\ndecision := {\"allow\": false}\n\n_unused if input.qos == 1\n"

func TestPolicyCoverage(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"publish.rego": halfTested, "publish_test.rego": goodTest})
	tests := []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"told", []string{"--coverage"}, exitOK, []string{"pass ", " 50.0 % publish.rego, not tested: 5\n", " 50.0 % of 2 lines\n", "1 passed"}},
		{"enough", []string{"--threshold", "50"}, exitOK, []string{"1 passed"}},
		{"too little", []string{"--threshold", "50.5"}, exitFailed, []string{"1 passed", "coverage 50.0 % is below 50.5 %\n"}},
		{"as JSON", []string{"--threshold", "60", "--json"}, exitFailed, []string{`"percent":50,"covered_lines":1,"not_covered_lines":1,"files":[{"path":"publish.rego","percent":50,"not_covered":[[5,5]]}]`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, append([]string{"policy", "test", dir}, test.args...)...)
			if got.status != test.status || got.errors != "" {
				t.Errorf("got %+v", got)
			}
			wantInOrder(t, got.out, test.want)
		})
	}
	if got := cordon(t, nil, "policy", "test", "--threshold", "101", dir); got.status != exitUsage {
		t.Errorf("more than everything: %+v", got)
	}
}

func TestPolicyTestVerbose(t *testing.T) {
	t.Parallel()
	said := strings.Replace(goodTest, "test_closed if not", "test_closed if {\n\tprint(\"hello\")\n\tnot", 1) + "}\n"
	dir := bundle(t, map[string]string{"publish.rego": denyAll, "publish_test.rego": said})
	got := cordon(t, nil, "policy", "test", "-v", dir)
	wantInOrder(t, got.out, []string{"pass cordon.publish_test.test_closed (", "s)\n    hello\n"})
	if got := cordon(t, nil, "policy", "test", dir); strings.Contains(got.out, "hello") {
		t.Errorf("without -v: %s", got.out)
	}
}

func TestPolicyJSON(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"publish.rego": denyAll, "a_test.rego": goodTest, "b_test.rego": badTest})
	got := cordon(t, nil, "policy", "test", "--json", dir)
	var results tested
	if err := json.Unmarshal([]byte(got.out), &results); err != nil || got.status != exitFailed {
		t.Fatalf("%v in %+v", err, got)
	}
	if results.Passed != 1 || results.Failed != 1 || results.Tests[1].Result != "fail" || results.Tests[1].Position != "b_test.rego:5:1" || results.Tests[1].Output != "so closed\n" {
		t.Errorf("%+v", results)
	}

	got = cordon(t, nil, "policy", "check", "--json", bundle(t, map[string]string{"publish.rego": typo}))
	var said checked
	if err := json.Unmarshal([]byte(got.out), &said); err != nil || got.status != exitFailed {
		t.Fatalf("%v in %+v", err, got)
	}
	if said.OK || said.Revision != "" || len(said.Problems) != 1 || said.Problems[0].Code != "rego_type_error" || !strings.Contains(said.Problems[0].Hint, "topic") {
		t.Errorf("%+v", said)
	}
	got = cordon(t, nil, "policy", "check", "--json", bundle(t, map[string]string{"publish.rego": denyAll, "a_test.rego": goodTest}))
	if err := json.Unmarshal([]byte(got.out), &said); err != nil || got.status != exitOK || !said.OK || len(said.Revision) != 16 || said.Passed != 1 || len(said.Warnings) == 0 {
		t.Errorf("%v in %+v", err, got)
	}
}

func TestPolicyJUnit(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{
		"publish.rego": denyAll, "a_test.rego": goodTest, "b_test.rego": badTest,
		"c_test.rego": "package cordon.other_test\n\ntodo_test_later if false\n",
	})
	file := filepath.Join(t.TempDir(), "results.xml")
	if got := cordon(t, nil, "policy", "test", "--junit", file, dir); got.status != exitFailed {
		t.Fatalf("%+v", got)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all junitSuites
	if err := xml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if all.Tests != 3 || all.Failures != 1 || all.Skipped != 1 || len(all.Suites) != 2 {
		t.Fatalf("%s", text)
	}
	other, publish := all.Suites[0], all.Suites[1]
	if other.Name != "cordon.other_test" || other.Cases[0].Skipped == nil || publish.Tests != 2 {
		t.Errorf("%s", text)
	}
	if failure := publish.Cases[1].Failure; failure == nil || failure.Text != "b_test.rego:5:1" || publish.Cases[1].Output != "so closed\n" {
		t.Errorf("%s", text)
	}
	if got := cordon(t, nil, "policy", "test", "--junit", filepath.Join(file, "x"), dir); got.status != exitFailed || !strings.Contains(got.errors, "JUnit") {
		t.Errorf("%+v", got)
	}
}

func TestPolicyFmt(t *testing.T) {
	t.Parallel()
	const untidy = "package a\n\n\n\nx  :=   1\n"
	files := map[string]string{
		"tidy.rego": "package a\n\ny := 1\n", "deep/untidy.rego": untidy, ".hidden/h.rego": untidy, "note.txt": untidy,
	}
	dir := bundle(t, files)
	text := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := os.Chmod(filepath.Join(dir, "deep/untidy.rego"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := cordon(t, nil, "policy", "fmt", "--check", dir); got.status != exitFailed || got.out != "deep/untidy.rego\n" {
		t.Errorf("--check: %+v", got)
	}
	if text("deep/untidy.rego") != untidy {
		t.Error("--check wrote")
	}
	if got := cordon(t, nil, "policy", "fmt", dir); got.status != exitOK || got.out != "deep/untidy.rego\n" {
		t.Errorf("fmt: %+v", got)
	}
	if text("deep/untidy.rego") != "package a\n\nx := 1\n" || text(".hidden/h.rego") != untidy || text("note.txt") != untidy {
		t.Error("not what was to be formatted")
	}
	if info, err := os.Stat(filepath.Join(dir, "deep/untidy.rego")); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, args := range [][]string{{"--check"}, {}} {
		if got := cordon(t, nil, append([]string{"policy", "fmt", dir}, args...)...); got.status != exitOK || got.out != "" {
			t.Errorf("again: %+v", got)
		}
	}
	broken := bundle(t, map[string]string{"a.rego": "package a\n\nx := {", "b.rego": untidy, "c.rego": "package"})
	got := cordon(t, nil, "policy", "fmt", broken)
	if got.status != exitFailed {
		t.Errorf("%+v", got)
	}
	wantInOrder(t, got.out, []string{"b.rego\n", "a.rego:3:6: rego_parse_error", "c.rego:1:"})
	if got := cordon(t, nil, "policy", "fmt", filepath.Join(dir, "missing")); got.status != exitFailed || got.errors == "" {
		t.Errorf("%+v", got)
	}
}
