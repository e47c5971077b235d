package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cordon-mq/cordon/broker/config"
)

// TestMain lets the test binary play the program: it is in the path of the
// tests as cordon, and runs main when it is called by that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon": main})
}

// result is what a command line came to.
type result struct {
	status      int
	out, errors string
}

// cordon runs one command line in this process, with an environment of its own.
func cordon(t *testing.T, environment map[string]string, args ...string) result {
	t.Helper()
	lookup := config.Lookup(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, &stdout, &stderr, lookup)
	return result{status: status, out: stdout.String(), errors: stderr.String()}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		help string // whose help the error points to
	}{
		{"no command", nil, `"cordon --help"`},
		{"an unknown command", []string{"fly"}, `"cordon --help"`},
		{"an unknown flag", []string{"version", "--nosuch"}, `"cordon version --help"`},
		{"an argument too many", []string{"version", "now"}, `"cordon version --help"`},
		{"half a command", []string{"policy"}, `"cordon policy --help"`},
		{"an argument too few", []string{"policy", "check"}, `"cordon policy check --help"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, test.args...)
			if got.status != exitUsage {
				t.Errorf("status %d, want %d", got.status, exitUsage)
			}
			if got.out != "" {
				t.Errorf("standard output: %q", got.out)
			}
			if !strings.HasPrefix(got.errors, "cordon: ") || !strings.Contains(got.errors, test.help) {
				t.Errorf("standard error: %q, want it to point to %s", got.errors, test.help)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"version", "--help"}, {"policy", "check", "--help"}} {
		got := cordon(t, nil, args...)
		if got.status != exitOK || got.errors != "" || !strings.HasPrefix(got.out, "Usage: cordon") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestEnvironmentIsTheCallers(t *testing.T) {
	t.Parallel()
	got := cordon(t, map[string]string{"CORDON_DEMO": "maybe"}, "version")
	if got.status != exitUsage || !strings.Contains(got.errors, "CORDON_DEMO") {
		t.Errorf("got %+v", got)
	}
}

// failing is an output that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, context.Canceled }

func TestFailureIsStatusOne(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"version"}, failing{}, &stderr, func(string) (string, bool) { return "", false })
	if status != exitFailed || stderr.String() != "cordon: context canceled\n" {
		t.Errorf("status %d, standard error %q", status, stderr.String())
	}
}
