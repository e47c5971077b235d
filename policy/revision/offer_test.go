package revision_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy/revision"
)

var server = revision.Author{Who: "policy server", Why: "bundles.example"}

// actions are those of the log, the last n.
func (b *bench) actions(n int) string {
	var all []string
	for _, e := range b.Entries() {
		all = append(all, string(e.Action))
	}
	return strings.Join(all[max(0, len(all)-n):], " ")
}

// A source that numbers its builds is not taken back to an old one, whoever sends
// it; somebody may go there by hand.
func TestAnOldBuildDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	unnumbered := b.offerBuild(t, "before", 0, server)
	first := b.offerBuild(t, "first", 7, server)
	if !unnumbered.Live || !first.Live {
		t.Fatalf("%+v %+v", unnumbered, first)
	}
	b.offerBuild(t, "second", 9, server)
	for _, old := range []struct {
		text     string
		sequence uint64
	}{{"first", 7}, {"before", 0}, {"other", 9}, {"other", 8}} {
		if out := b.offerBuild(t, old.text, old.sequence, server); !out.Stale || out.Live || out.Again {
			t.Errorf("%+v: %+v", old, out)
		}
		b.wantLive(t, "second", false)
	}
	if got, want := b.actions(6), "activated activated activated stale stale stale"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}

	// The same after a restart, and nothing is written twice.
	_ = b.files.Close()
	b = open(t, b.dir)
	entries := len(b.Entries())
	if out := b.offerBuild(t, "other", 8, server); !out.Stale {
		t.Errorf("%+v", out)
	}
	if out := b.offerBuild(t, "second", 9, server); !out.Live || out.Stale {
		t.Errorf("the newest again: %+v", out)
	}
	if len(b.Entries()) != entries {
		t.Errorf("log %s", b.actions(3))
	}

	// By hand it goes, and the end of the pin leads to the newest build.
	if err := b.Activate(first.ID, operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "first", true)
	if out := b.offerBuild(t, "other", 8, server); !out.Stale {
		t.Errorf("while pinned: %+v", out)
	}
	if _, err := b.Unpin(operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "second", false)

	// The old content as a new build is a rollback, and a build of what is live
	// counts although it changes nothing.
	if out := b.offerBuild(t, "first", 10, server); !out.Live {
		t.Errorf("%+v", out)
	}
	if out := b.offerBuild(t, "first", 12, server); !out.Live {
		t.Errorf("%+v", out)
	}
	if out := b.offerBuild(t, "third", 11, server); !out.Stale {
		t.Errorf("%+v", out)
	}
	// Another source has numbers of its own, or none.
	for _, by := range []revision.Author{{Who: "policy server", Why: "other.example"}, {Who: "policy folder"}} {
		if out := b.offerBuild(t, "third", 0, by); !out.Live || out.Stale {
			t.Errorf("%+v: %+v", by, out)
		}
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

// Without numbers an old bundle may come again, as by a pipeline that rolls back:
// that is told.
func TestABundleThatCameBefore(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	for i, step := range []struct {
		text  string
		by    revision.Author
		again bool
	}{
		{"first", server, false},
		{"first", server, false}, // a restart
		{"second", server, false},
		{"third", operator, false},
		{"second", server, false}, // its last one
		{"first", server, true},
		{"first", server, false},
		{"third", server, false}, // another source's
		{"second", server, true},
	} {
		if out := b.offerBuild(t, step.text, 0, step.by); out.Again != step.again || !out.Live || out.Stale {
			t.Errorf("step %d: %+v", i, out)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	var ids []revision.ID
	for _, text := range []string{"a", "b", "c", "d", "e", "f"} {
		id, _ := b.offer(t, text)
		ids = append(ids, id)
	}
	kept := func() (list []revision.ID) {
		for _, r := range b.List() {
			list = append(list, r.ID)
		}
		slices.Reverse(list)
		return list
	}
	want := func(list ...revision.ID) {
		t.Helper()
		if got := kept(); !slices.Equal(got, list) {
			t.Errorf("kept %v, want %v of %v", got, list, ids)
		}
		if err := b.Verify(); err != nil {
			t.Error(err)
		}
	}
	prune := func(most int, gone ...revision.ID) {
		t.Helper()
		if got, err := b.Prune(most, operator); err != nil || !slices.Equal(got, gone) {
			t.Errorf("pruned %v, %v; want %v", got, err, gone)
		}
	}
	prune(6)
	// What was used lately stays longer.
	if err := b.Activate(ids[0], operator, b.gate); err != nil {
		t.Fatal(err)
	}
	prune(4, ids[1], ids[2])
	want(ids[0], ids[3], ids[4], ids[5])
	// The live one, the one before it and the last offer stay, whatever the number.
	b.offer(t, "g")
	prune(1, ids[3], ids[4])
	g := revision.Sum(bundle("g")).ID()
	want(ids[0], ids[5], g)
	b.wantLive(t, "a", true)
	for _, id := range ids[1:5] {
		if err := b.Activate(id, operator, b.gate); err == nil || !strings.Contains(err.Error(), "pruned") {
			t.Errorf("activated %s: %v", id, err)
		}
	}
	if _, err := b.Diff(ids[1], ids[0]); err == nil {
		t.Error("a diff with what was pruned")
	}

	// The log is whole, over a restart too, and the way back leads past what is gone.
	head := b.Head()
	_ = b.files.Close()
	b = open(t, b.dir)
	if b.Head() != head || b.actions(2) != "pruned pruned" {
		t.Errorf("log %s", b.actions(10))
	}
	want(ids[0], ids[5], g)
	if _, err := b.Rollback(operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "f", true)
	if _, err := b.Rollback(operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "a", true)

	// Offered again, it is stored again.
	if _, err := b.Unpin(operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.offer(t, "b")
	b.wantLive(t, "b", false)
	want(ids[0], ids[1], ids[5], g)
}

// A crash may come between an entry and the bundle that it says is gone.
func TestPruneIsFinishedByTheNextStart(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	b.offer(t, "second")
	b.offer(t, "third")
	archive, err := b.files.Bundle(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prune(1, operator); err != nil {
		t.Fatal(err)
	}
	if err := b.files.PutBundle(first, archive); err != nil {
		t.Fatal(err)
	}
	_ = b.files.Close()
	b = open(t, b.dir)
	if _, err := b.files.Bundle(first); err == nil {
		t.Error("it is still there")
	}
}
