package revision_test

import (
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// pin makes the bundle of this text live over another one.
func (b *bench) pin(over revision.ID, text string) (revision.ID, error) {
	return b.Pin(over, bundle(text), operator, func() { b.live = text })
}

// What is pinned need not have been stored before, and stays like any other that is.
func TestPin(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	second, err := b.pin(first, "second")
	if err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "second", true)
	if _, live := b.offer(t, "third"); live {
		t.Error("an offer went live over what is pinned")
	}
	b.wantLive(t, "second", true)
	entries := b.Entries()
	if e := entries[1]; e.Action != revision.Pinned || e.Revision.ID() != second || e.Who != operator.Who || e.Why != operator.Why {
		t.Errorf("%+v", e)
	}
	if files, err := b.Files(second); err != nil || len(files) != 2 {
		t.Errorf("its files: %d, %v", len(files), err)
	}
	if _, err := b.Rollback(operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "first", true)
	if err := b.Verify(); err != nil {
		t.Error(err)
	}

	// It outlives the process.
	_ = b.files.Close()
	again := open(t, b.dir)
	if id, pinned, err := again.Resume(again.gate); err != nil || !pinned || id != first {
		t.Errorf("%s, %v, %v", id, pinned, err)
	}
}

// Whoever wants to replace one revision does not replace another.
func TestPinOverAnother(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	b.offer(t, "second")
	if _, err := b.pin(first, "third"); policy.KindOf(err) != policy.KindConflict {
		t.Errorf("%v", err)
	}
	b.wantLive(t, "second", false)
	if n := len(b.Entries()); n != 2 || len(b.List()) != 2 {
		t.Errorf("%d entries", n)
	}
	if _, err := b.pin("", "third"); err != nil { // whatever is live
		t.Error(err)
	}
	b.wantLive(t, "third", true)
	if _, err := b.Pin("", bundle("fourth"), revision.Author{}, func() { t.Error("it went live") }); policy.KindOf(err) != policy.KindInvalid {
		t.Errorf("%v", err)
	}
	if _, err := b.Pin("", []revision.File{{Path: "../x", Text: []byte("x")}}, operator, func() { t.Error("it went live") }); err == nil {
		t.Error("files that cannot be stored were")
	}
	b.wantLive(t, "third", true)
}

// One that was pruned meanwhile is stored again.
func TestPinOfPruned(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	b.offer(t, "second")
	b.offer(t, "third")
	if gone, err := b.Prune(2, operator); err != nil || len(gone) != 1 || gone[0] != first {
		t.Fatalf("%v, %v", gone, err)
	}
	if id, err := b.pin("", "first"); err != nil || id != first {
		t.Fatalf("%s, %v", id, err)
	}
	b.wantLive(t, "first", true)
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

// A bundle that is tried is stored and in the log, and nothing else: it is neither
// live nor offered, nor on the way back.
func TestTry(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.offer(t, "first")
	second, err := b.Try(bundle("second"), operator)
	if err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "first", false)
	if _, err := b.Rollback(operator, b.gate); policy.KindOf(err) != policy.KindConflict {
		t.Errorf("a way back: %v", err)
	}
	if _, err := b.pin("", "first"); err != nil {
		t.Fatal(err)
	}
	if id, err := b.Unpin(operator, b.gate); err != nil || id == second {
		t.Errorf("%s, %v", id, err)
	}
	b.wantLive(t, "first", false)
	if err := b.Activate(second, operator, b.gate); err != nil {
		t.Error(err)
	}
	var told []string
	for _, e := range b.Entries() {
		told = append(told, string(e.Action))
	}
	if got := strings.Join(told, " "); got != "activated tried pinned unpinned pinned" {
		t.Errorf("log: %s", got)
	}
	if _, err := b.Try(bundle("third"), revision.Author{Why: "nobody"}); policy.KindOf(err) != policy.KindInvalid {
		t.Errorf("%v", err)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}
