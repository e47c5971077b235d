package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundle writes a folder of policies; names are relative to it.
func bundle(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	denyAll  = "package cordon.publish\n\ndecision := {\"allow\": false, \"reason\": \"closed\"}\n"
	goodTest = "package cordon.publish_test\n\nimport data.cordon.publish\n\ntest_closed if not publish.decision.allow\n"
	badTest  = "package cordon.publish_test\n\nimport data.cordon.publish\n\ntest_open if {\n\tprint(\"so\", publish.decision.reason)\n\tpublish.decision.allow\n}\n"
	typo     = "package cordon.publish\n\ndecision := {\"allow\": input.topci == \"x\"}\n"
)

// What is written for editing must pass its own check and tests.
func TestPolicyInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	if got := cordon(t, nil, "policy", "init", dir); got.status != exitOK || !strings.Contains(got.out, "--policy "+dir) {
		t.Fatalf("init: %+v", got)
	}
	if got := cordon(t, nil, "policy", "check", dir); got.status != exitOK || !strings.HasPrefix(got.out, "ok: revision ") {
		t.Errorf("check: %+v", got)
	}
	if got := cordon(t, nil, "policy", "test", dir); got.status != exitOK || !strings.Contains(got.out, " passed, 0 failed, 0 skipped\n") {
		t.Errorf("test: %+v", got)
	}
	if got := cordon(t, nil, "policy", "init", dir); got.status != exitFailed || !strings.Contains(got.errors, "is not empty") {
		t.Errorf("second init: %+v", got)
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		files  map[string]string
		status int
		want   []string // in the output, in order
	}{
		{"good", map[string]string{"cordon/publish/publish.rego": denyAll, "cordon/publish/publish_test.rego": goodTest}, exitOK, []string{"ok: revision ", ", tests passed: 1\n"}},
		{"no tests", map[string]string{"publish.rego": denyAll}, exitOK, []string{"warning: policy_without_tests", "ok: revision "}},
		{"a misspelt field", map[string]string{"publish.rego": typo}, exitFailed, []string{"publish.rego:3:", "rego_type_error", "input.topci", "hint: did you mean topic?"}},
		{"a failing test", map[string]string{"publish.rego": denyAll, "publish_test.rego": badTest}, exitFailed, []string{"publish_test.rego:5:1: policy_test_failed"}},
		{"every file with an error", map[string]string{"a.rego": "package", "b.rego": "package"}, exitFailed, []string{"a.rego:1:", "b.rego:1:"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, "policy", "check", bundle(t, test.files))
			if got.status != test.status || got.errors != "" {
				t.Errorf("got %+v", got)
			}
			wantInOrder(t, got.out, test.want)
		})
	}
}

func TestPolicyCheckOfNoFolder(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"check", "test"} {
		got := cordon(t, nil, "policy", command, filepath.Join(t.TempDir(), "missing"))
		if got.status != exitFailed || !strings.Contains(got.out, "bundle_read_error") {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		files  map[string]string
		status int
		want   []string
	}{
		{
			"all pass",
			map[string]string{"publish.rego": denyAll, "publish_test.rego": goodTest},
			exitOK,
			[]string{"pass cordon.publish_test.test_closed\n", "1 passed, 0 failed, 0 skipped\n"},
		},
		{
			"one fails",
			map[string]string{"publish.rego": denyAll, "a_test.rego": goodTest, "b_test.rego": badTest},
			exitFailed,
			[]string{"pass cordon.publish_test.test_closed\n", "FAIL cordon.publish_test.test_open b_test.rego:5:1", "\n    so closed\n", "1 passed, 1 failed, 0 skipped\n"},
		},
		{
			"one is not due yet",
			map[string]string{"publish.rego": denyAll, "publish_test.rego": strings.Replace(badTest, "test_open", "todo_test_open", 1)},
			exitOK,
			[]string{"skip cordon.publish_test.todo_test_open\n", "0 passed, 0 failed, 1 skipped\n"},
		},
		{"none", map[string]string{"publish.rego": denyAll}, exitFailed, []string{"policy_without_tests"}},
		{"not compiled", map[string]string{"publish.rego": typo, "publish_test.rego": goodTest}, exitFailed, []string{"publish.rego:3:", "rego_type_error"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, "policy", "test", bundle(t, test.files))
			if got.status != test.status || got.errors != "" {
				t.Errorf("got %+v", got)
			}
			wantInOrder(t, got.out, test.want)
		})
	}
}

// wantInOrder checks that text has each of the pieces after the one before it.
func wantInOrder(t *testing.T, text string, pieces []string) {
	t.Helper()
	rest := text
	for _, piece := range pieces {
		_, after, found := strings.Cut(rest, piece)
		if !found {
			t.Fatalf("no %q in the rest of\n%s", piece, text)
		}
		rest = after
	}
}
