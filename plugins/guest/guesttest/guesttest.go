// Package guesttest builds plugins for tests that run them in a host.
package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build compiles the Go program in the folder dir to a plugin, and returns the
// module. It skips the test where there is no go command and under -short: the
// first build takes several seconds.
func Build(t testing.TB, dir string) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("building a module takes too long for -short")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is missing")
	}
	target := filepath.Join(t.TempDir(), "plugin.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", target, ".") // #nosec G204
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	module, err := os.ReadFile(target) // #nosec G304
	if err != nil {
		t.Fatal(err)
	}
	return module
}
