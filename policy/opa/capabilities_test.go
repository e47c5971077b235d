package opa

import (
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Every built-in of this OPA version is classified by hand in
// testdata/builtins.txt: pure, clock, or removed. One that a later version adds
// fails here until somebody has looked at it.
func TestEveryBuiltinIsClassified(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/builtins.txt")
	if err != nil {
		t.Fatal(err)
	}
	class := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, c, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || class[name] != "" {
			t.Fatalf("bad or repeated line %q", line)
		}
		class[name] = c
	}

	left := map[string]bool{}
	for _, b := range capabilities().Builtins {
		left[b.Name] = true
	}
	all := map[string]bool{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		all[b.Name] = true
		_, removed := removedBuiltins[b.Name]
		want := map[bool]string{true: "removed", false: "pure"}[removed]
		if clockBuiltins[b.Name] {
			want = "clock"
		}
		if class[b.Name] != want {
			t.Errorf("%s is classified %q in testdata/builtins.txt and treated as %q", b.Name, class[b.Name], want)
		}
		if left[b.Name] == removed {
			t.Errorf("%s: removed %v, available %v", b.Name, removed, left[b.Name])
		}
		if b.Nondeterministic && want == "pure" {
			t.Errorf("%s is not deterministic and treated as pure", b.Name)
		}
	}
	for name := range class {
		if !all[name] {
			t.Errorf("%s is classified and does not exist", name)
		}
	}
	if c := capabilities(); c.AllowNet == nil || len(c.AllowNet) != 0 {
		t.Errorf("AllowNet is %#v; it has to be empty and not nil", c.AllowNet)
	}
}
