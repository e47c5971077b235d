package revision_test

import (
	"os"
	"path/filepath"
	"testing"
)

// Another file in the place of the log, even one with the same text, is noticed:
// what is appended would be where nobody looks.
func TestReplacedLog(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	b.offer(t, "second")
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(b.dir, "log")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(); err == nil {
		t.Error("a replaced log is the one that was written")
	}
	if err := b.Activate(first, operator, b.gate); err == nil || b.live != "second" {
		t.Errorf("activated %q, and nobody can read of it (%v)", b.live, err)
	}
}
