package wasm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The modules of testdata are what their sources say.
func TestGuestsAreBuiltFromTheirSources(t *testing.T) {
	t.Parallel()
	wat2wasm, err := exec.LookPath("wat2wasm")
	if err != nil {
		t.Skip("there is no wat2wasm (Debian: wabt) to build the modules with")
	}
	sources, err := filepath.Glob("testdata/guests/*.wat")
	if err != nil || len(sources) != len(guests(t)) {
		t.Fatalf("%d sources of %d modules", len(sources), len(guests(t)))
	}
	for _, source := range sources {
		out := filepath.Join(t.TempDir(), "out.wasm")
		if text, err := exec.CommandContext(t.Context(), wat2wasm, source, "-o", out).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", source, err, text)
			continue
		}
		built, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if committed, err := os.ReadFile(strings.TrimSuffix(source, ".wat") + ".wasm"); err != nil || !bytes.Equal(built, committed) {
			t.Errorf("%s is not what lies beside it: %v", source, err)
		}
	}
}
