package wasm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A service is lost when no plugin of that name serves the organisation for a
// while: neither a replaced file nor a plugin that moves counts.
func TestLostServices(t *testing.T) {
	t.Parallel()
	clock, log, dir := newFake(), &lines{}, t.TempDir()
	h, err := newHost(Options{Dir: dir, Limits: patient(), Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	h.now = clock.now
	var told []string
	h.onLost = func(s Service) { told = append(told, s.Name+"@"+s.Org.String()) }
	step := func(what, want string, wantWaiting bool) {
		t.Helper()
		if err := h.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		waiting := h.tellLost()
		if got := fmt.Sprint(told); got != want || waiting != wantWaiting {
			t.Errorf("%s: %s is lost, %t; want %s, %t\n%s", what, got, waiting, want, wantWaiting, log)
		}
		told = nil
	}
	remove := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	platform := func(orgs string) { lay(t, dir, "_platform/two", "good", "organisations: ["+orgs+"]") }

	lay(t, dir, "acme01/it", "good", "")
	platform("acme01, demo01")
	step("at first", "[]", false)
	remove("acme01/it.wasm")
	step("taken away", "[]", true)
	clock.advance(lostAfter - 1)
	lay(t, dir, "acme01/it", "good", "")
	step("replaced in time", "[]", false)
	clock.advance(time.Hour)
	step("much later", "[]", false)
	lay(t, dir, "acme01/it", "no_abi", "")
	clock.advance(time.Hour)
	step("a version that is refused", "[]", false)
	lay(t, dir, "acme01/it", "good", "settings: [broken")
	step("settings that are refused", "[]", false)
	lay(t, dir, "_platform/it", "good", "organisations: [acme01]")
	remove("acme01/it.wasm")
	step("moved to the platform", "[]", false)
	platform("demo01")
	step("one organisation less", "[]", true)
	clock.advance(lostAfter)
	step("and a while later", "[two@acme01]", false)
	remove("_platform/it.wasm")
	remove("_platform/two.wasm")
	step("both gone", "[]", true)
	clock.advance(lostAfter)
	step("for good", "[it@acme01 two@demo01]", false)
	lay(t, dir, "acme01/it", "good", "")
	step("back again", "[]", false)
}

// A folder that cannot be read at the moment takes nothing away.
func TestAnUnreadableFolderLosesNothing(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("nothing is unreadable for root")
	}
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: patient()})
	org := filepath.Join(dir, "acme01")
	if err := os.Chmod(org, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(org, 0o700) })
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, find(t, h, "it", ""), token("x"))
}

// Run tells of a plugin whose file was deleted.
func TestRunTellsWhatIsLost(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "good", "")
	lost := make(chan Service, 4)
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger(), Lost: func(s Service) { lost <- s }})
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	mustVerify(t, find(t, h, "it", ""), token("x"))
	if err := os.Remove(filepath.Join(dir, "acme01", "it.wasm")); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-lost:
		if s.Name != "it" || s.Org.String() != "acme01" {
			t.Errorf("%+v", s)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("nothing is lost:\n%s", log)
	}
}
