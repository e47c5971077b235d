// Package scaffoldtest finds what builds the projects of package scaffold, for
// tests that build them.
package scaffoldtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/plugins/scaffold"
)

// Tools are the tools that build a project of lang: the folder that has to come
// first in the build's PATH, which is empty where nothing has to, or the reason why
// this machine has none.
func Tools(t testing.TB, lang scaffold.Lang) (dir, missing string) {
	t.Helper()
	found := func(tool string) string {
		path, _ := exec.LookPath(tool)
		return path
	}
	switch lang {
	case scaffold.Go:
		if found("go") == "" {
			return "", "the go command is missing"
		}
	case scaffold.C:
		if found("clang") == "" || found("wasm-ld") == "" {
			return "", "clang or lld is missing"
		}
	case scaffold.Rust:
		for _, compiler := range []string{found("rustc"), "/usr/bin/rustc"} {
			said, err := exec.CommandContext(t.Context(), compiler, "--print", "target-libdir", "--target", "wasm32-unknown-unknown").Output() // #nosec G204
			if _, missing := os.Stat(strings.TrimSpace(string(said))); err == nil && missing == nil {
				return filepath.Dir(compiler), ""
			}
		}
		return "", "no rustc has the target wasm32-unknown-unknown"
	case scaffold.AssemblyScript:
		if found("asc") != "" {
			return "", ""
		}
		dir := filepath.Join(os.Getenv("NODE_PATH"), ".bin")
		if os.Getenv("NODE_PATH") == "" || found(filepath.Join(dir, "asc")) == "" {
			return "", "asc is missing"
		}
		return dir, ""
	}
	return "", ""
}
