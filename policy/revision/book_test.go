package revision_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var operator = revision.Author{Who: "operator", Why: "because"}

// bench is a book in a folder, and what it made live.
type bench struct {
	*revision.Book
	dir   string
	files *revision.Files
	live  string
}

func open(t *testing.T, dir string) *bench {
	t.Helper()
	files, err := revision.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	hour := 0
	book, err := revision.Open(files, func() time.Time {
		hour++
		return time.Unix(1_700_000_000, 0).Add(time.Duration(hour) * time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Book: book, dir: dir, files: files}
}

func bundle(text string) []revision.File {
	return []revision.File{
		{Path: "cordon/publish/publish.rego", Text: []byte("package cordon.publish\n\n" + text + "\n")},
		{Path: "cordon/roles/data.json", Text: []byte(`{"a": 1}`)},
	}
}

// offer brings the bundle of this text, and says whether it went live.
func (b *bench) offer(t *testing.T, text string) (revision.ID, bool) {
	t.Helper()
	out := b.offerBuild(t, text, 0, operator)
	return out.ID, out.Live
}

func (b *bench) offerBuild(t *testing.T, text string, sequence uint64, by revision.Author) revision.Outcome {
	t.Helper()
	out, err := b.Offer(revision.Offering{Files: bundle(text), By: by, Sequence: sequence}, func() { b.live = text })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// gate accepts everything but what says "broken", and notes what went live.
func (b *bench) gate(bundle fs.FS) (func(), error) {
	text, err := fs.ReadFile(bundle, "cordon/publish/publish.rego")
	if err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte("broken")) {
		return nil, errors.New("publish.rego:3:1: rego_parse_error")
	}
	name := strings.TrimSpace(strings.TrimPrefix(string(text), "package cordon.publish\n\n"))
	return func() { b.live = name }, nil
}

func (b *bench) wantLive(t *testing.T, text string, pinned bool) {
	t.Helper()
	id, isPinned := b.Live()
	if want := revision.Sum(bundle(text)).ID(); id != want || isPinned != pinned || b.live != text {
		t.Errorf("live is %s (%s), pinned %v; want %s (%s), %v", id, b.live, isPinned, want, text, pinned)
	}
}

func TestLifeOfRevisions(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	if id, pinned := b.Live(); id != "" || pinned || len(b.List()) != 0 || b.Head() != (revision.Head{}) {
		t.Fatal("a new book is not empty")
	}
	first, _ := b.offer(t, "first")
	second, live := b.offer(t, "second")
	if !live {
		t.Error("what is offered does not go live")
	}
	b.wantLive(t, "second", false)

	if err := b.Activate(first, operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.wantLive(t, "first", true)
	third, live := b.offer(t, "third")
	if live {
		t.Error("a pinned revision was replaced by an offer")
	}
	b.wantLive(t, "first", true)

	// The process ends, and another one starts.
	_ = b.files.Close()
	b = open(t, b.dir)
	if id, pinned, err := b.Resume(b.gate); err != nil || !pinned || id != first {
		t.Fatalf("resumed %s, %v, %v", id, pinned, err)
	}
	b.wantLive(t, "first", true)
	if _, live := b.offer(t, "third"); live {
		t.Error("the pin did not outlive the process")
	}
	if got := len(b.Entries()); got != 4 {
		t.Errorf("offering the same again wrote an entry: %d", got)
	}

	if id, err := b.Unpin(operator, b.gate); err != nil || id != third {
		t.Fatalf("unpinned to %s, %v", id, err)
	}
	b.wantLive(t, "third", false)

	for i, want := range []string{"first", "second", "first"} {
		if _, err := b.Rollback(operator, b.gate); err != nil {
			t.Fatalf("rollback %d: %v", i, err)
		}
		b.wantLive(t, want, true)
	}
	if _, err := b.Rollback(operator, b.gate); policy.KindOf(err) != policy.KindConflict {
		t.Errorf("rolled back beyond the first: %v", err)
	}
	list := b.List()
	if len(list) != 3 || list[0].ID != third || list[1].ID != second || list[2].ID != first || !list[2].Live || !list[2].Pinned || list[0].Live {
		t.Errorf("list %+v", list)
	}
	var story []string
	for _, e := range b.Entries() {
		story = append(story, string(e.Action)+" "+string(e.Revision.ID()))
		if e.Who != "operator" || e.Why != "because" || e.At.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	want := fmt.Sprintf("activated %[1]s, activated %[2]s, pinned %[1]s, stored %[3]s, unpinned %[1]s, activated %[3]s, rolled_back %[1]s, rolled_back %[2]s, rolled_back %[1]s", first, second, third)
	if got := strings.Join(story, ", "); got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

// A newer gate may refuse an older revision. Then nothing changes.
func TestTheGateIsPassedAgain(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	broken, _ := b.offer(t, "broken")
	b.offer(t, "good")
	entries := len(b.Entries())
	err := b.Activate(broken, operator, b.gate)
	if policy.KindOf(err) != policy.KindConflict || !strings.Contains(err.Error(), "publish.rego:3:1") {
		t.Errorf("error %v", err)
	}
	if _, err := b.Rollback(operator, b.gate); err == nil {
		t.Error("rolled back to a refused revision")
	}
	b.wantLive(t, "good", false)
	if len(b.Entries()) != entries {
		t.Error("a refusal wrote an entry")
	}

	good, _ := b.Live()
	if err := b.Activate(good, operator, b.gate); err != nil {
		t.Fatal(err)
	}
	b.offer(t, "broken")
	if id, err := b.Unpin(operator, b.gate); err == nil || id != good {
		t.Errorf("unpinned to %s, %v", id, err)
	}
	b.wantLive(t, "good", false)
	if _, pinned, err := b.Resume(b.gate); pinned || err != nil {
		t.Errorf("resumed %v, %v", pinned, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	id, _ := b.offer(t, "first")
	unknown, err := revision.ParseID("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind policy.Kind
		do   func() error
	}{
		"unknown revision": {policy.KindNotFound, func() error { return b.Activate(unknown, operator, b.gate) }},
		"unknown files":    {policy.KindNotFound, func() error { _, err := b.Files(unknown); return err }},
		"diff of unknown":  {policy.KindNotFound, func() error { _, err := b.Diff(id, unknown); return err }},
		"nobody":           {policy.KindInvalid, func() error { return b.Activate(id, revision.Author{}, b.gate) }},
		"control in who":   {policy.KindInvalid, func() error { _, err := b.Rollback(revision.Author{Who: "a\nb"}, b.gate); return err }},
		"long why": {policy.KindInvalid, func() error {
			_, err := b.Unpin(revision.Author{Who: "a", Why: strings.Repeat("x", 2000)}, b.gate)
			return err
		}},
		"nothing pinned": {policy.KindConflict, func() error { _, err := b.Unpin(operator, b.gate); return err }},
		"path outside": {policy.KindInvalid, func() error {
			_, err := b.Offer(revision.Offering{Files: []revision.File{{Path: "../x.rego"}}, By: operator}, func() { t.Error("it went live") })
			return err
		}},
		"short id":  {policy.KindInvalid, func() error { _, err := revision.ParseID("abc"); return err }},
		"id a path": {policy.KindInvalid, func() error { _, err := revision.ParseID("../../etc/passwd"); return err }},
	} {
		if err := c.do(); err == nil || policy.KindOf(err) != c.kind {
			t.Errorf("%s: error %v of kind %v, want %v", name, err, policy.KindOf(err), c.kind)
		}
	}
	if len(b.Entries()) != 1 {
		t.Errorf("%d entries", len(b.Entries()))
	}
}

// A stored bundle that was changed does not go live, and Verify names it.
func TestDamagedBundle(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	id, _ := b.offer(t, "first")
	b.offer(t, "second")
	name := filepath.Join(b.dir, "bundles", string(id)+".tar")
	archive, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{
		"changed": bytes.Replace(archive, []byte("first"), []byte("f1rst"), 1),
		"cut":     archive[:700], "empty": {}, "gone": nil,
	} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if text == nil {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Activate(id, operator, b.gate); err == nil {
			t.Errorf("%s: it went live", what)
		}
		if err := b.Verify(); err == nil || !strings.Contains(err.Error(), string(id)) {
			t.Errorf("%s: verified: %v", what, err)
		}
	}
	b.offer(t, "first") // brings it back
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

// Changes from many sides come one after the other: what is live is what the
// log says last.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 6 {
				switch (worker + i) % 4 {
				case 0:
					b.offer(t, fmt.Sprint("text ", worker, i))
				case 1:
					if err := b.Activate(first, operator, b.gate); err != nil {
						t.Error(err)
					}
				case 2:
					_, _ = b.Rollback(operator, b.gate) // there may be nothing to go back to
					_, _ = b.Unpin(operator, b.gate)
				default:
					if err := b.Verify(); err != nil {
						t.Error(err)
					}
					for _, r := range b.List() {
						if _, err := b.Diff(first, r.ID); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if id, _ := b.Live(); id != revision.Sum(bundle(b.live)).ID() {
		t.Errorf("%q is live, and the log says %s", b.live, id)
	}
	_ = b.files.Close()
	again := open(t, b.dir)
	if a, b := again.Head(), b.Head(); a != b {
		t.Errorf("head %v after a restart, %v before", a, b)
	}
}

func TestBundleAsFolder(t *testing.T) {
	t.Parallel()
	folder, err := revision.FS(bundle("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(folder, "cordon/publish/publish.rego", "cordon/roles/data.json"); err != nil {
		t.Error(err)
	}
	for _, paths := range [][]string{{"a", "a"}, {"a", "a/b"}, {"/a"}, {"."}, {"a/../b"}, {""}} {
		var files []revision.File
		for _, p := range paths {
			files = append(files, revision.File{Path: p})
		}
		if _, err := revision.FS(files); err == nil {
			t.Errorf("%q is a folder", paths)
		}
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	a := []revision.File{{Path: "a", Text: []byte("b")}, {Path: "c", Text: []byte("d")}}
	b := []revision.File{a[1], a[0]}
	c := []revision.File{{Path: "ab", Text: nil}, a[1]}
	if revision.Sum(a) != revision.Sum(b) || revision.Sum(a) == revision.Sum(c) || len(revision.Sum(a).ID()) != 16 {
		t.Errorf("sums %s %s %s", revision.Sum(a), revision.Sum(b), revision.Sum(c))
	}
}
