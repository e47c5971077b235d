package revision_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// written is a log of five entries, one per line, and its head.
func written(t testing.TB) (lines [][]byte, head revision.Head) {
	t.Helper()
	dir := t.TempDir()
	files, err := revision.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	book, err := revision.Open(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		o := revision.Offering{Files: bundle(text), By: revision.Author{Who: "watch", Why: "edit of " + text}}
		if text == "d" {
			o.Sequence = 7
		}
		if _, err := book.Offer(o, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	lines, _, err = files.Log()
	if err := errors.Join(err, files.Close()); err != nil {
		t.Fatal(err)
	}
	return lines, book.Head()
}

func TestVerifyNamesTheFirstBadEntry(t *testing.T) {
	t.Parallel()
	lines, head := written(t)
	swap := func(l [][]byte, i, j int) [][]byte { l[i], l[j] = l[j], l[i]; return l }
	edit := func(i int, from, to string) func([][]byte) [][]byte {
		return func(l [][]byte) [][]byte {
			l[i] = bytes.Replace(l[i], []byte(from), []byte(to), 1)
			return l
		}
	}
	for name, c := range map[string]struct {
		change func([][]byte) [][]byte
		bad    uint64
	}{
		"nothing":           {func(l [][]byte) [][]byte { return l }, 0},
		"who":               {edit(2, "watch", "guest"), 3},
		"why":               {edit(0, "edit of a", "edit of z"), 1},
		"action":            {edit(1, `"activated"`, `"pinned"`), 2},
		"unknown action":    {edit(1, `"activated"`, `"forgotten"`), 2},
		"time":              {edit(4, `"at":"2`, `"at":"1`), 5},
		"number":            {edit(3, `"number":4`, `"number":5`), 4},
		"sequence":          {edit(3, `"sequence":7`, `"sequence":8`), 4},
		"no sequence":       {edit(3, `"sequence":7,`, ``), 4},
		"a sequence more":   {edit(1, `,"who"`, `,"sequence":7,"who"`), 2},
		"a space":           {edit(3, `"number":4`, `"number": 4`), 4},
		"one more field":    {edit(3, `{`, `{"x":1,`), 4},
		"a field twice":     {edit(3, `{`, `{"who":"x",`), 4},
		"reordered":         {func(l [][]byte) [][]byte { return swap(l, 1, 2) }, 2},
		"left out":          {func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) }, 3},
		"the first left":    {func(l [][]byte) [][]byte { return l[1:] }, 1},
		"the last left":     {func(l [][]byte) [][]byte { return l[:4] }, 5},
		"all left":          {func([][]byte) [][]byte { return nil }, 1},
		"twice":             {func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[2]) }, 4},
		"not an entry":      {func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("{}")) }, 4},
		"an empty line":     {func(l [][]byte) [][]byte { return slices.Insert(l, 3, nil) }, 4},
		"of another log":    {func(l [][]byte) [][]byte { other, _ := written(t); l[4] = other[4]; return l }, 5},
		"another log":       {func([][]byte) [][]byte { other, _ := written(t); return other }, 5}, // consistent in itself: only the head tells
		"longer than 8 KiB": {edit(2, "watch", strings.Repeat("x", 9000)), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := make([][]byte, len(lines))
			for i := range lines {
				copied[i] = bytes.Clone(lines[i])
			}
			entries, err := revision.Verify(c.change(copied), head)
			var bad *revision.BadEntry
			switch {
			case c.bad == 0:
				if err != nil || len(entries) != 5 {
					t.Errorf("%d entries, %v", len(entries), err)
				}
			case !errors.As(err, &bad) || bad.Number != c.bad:
				t.Errorf("error %v, want entry %d", err, c.bad)
			}
		})
	}
}

// No single byte of the log can be changed without notice.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	lines, head := written(t)
	for n, line := range lines {
		for i := range line {
			was := line[i]
			line[i] ^= 1
			var bad *revision.BadEntry
			if _, err := revision.Verify(lines, head); !errors.As(err, &bad) || bad.Number != uint64(n)+1 {
				t.Fatalf("byte %d of entry %d: %v", i, n+1, err)
			}
			line[i] = was
		}
	}
}

// A crash may leave any part of the entry that was being written. The log then
// ends with the one before, or with the whole of it.
func TestTornTail(t *testing.T) {
	t.Parallel()
	lines, head := written(t)
	whole := append(bytes.Join(lines[:4], []byte("\n")), '\n')
	last := append(bytes.Clone(lines[4]), '\n')
	var before revision.Entry
	entries, err := revision.Verify(lines[:4], revision.Head{})
	if err != nil {
		t.Fatal(err)
	}
	before = entries[3]
	for n := range len(last) + 1 {
		dir := t.TempDir()
		text := append(bytes.Clone(whole), last[:n]...)
		headText := []byte(`{"number":4,"hash":"` + before.Hash + `"}`)
		for name, content := range map[string][]byte{"log": text, "head": headText, ".new-123": last} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, dir)
		want := uint64(4)
		if n == len(last) {
			want = head.Number
		}
		if b.Head().Number != want {
			t.Fatalf("%d bytes of the last entry: head %v, want %d", n, b.Head(), want)
		}
		b.offer(t, "next")
		if got := b.Head().Number; got != want+1 {
			t.Fatalf("%d bytes: the next entry is %d", n, got)
		}
		_ = b.files.Close()
		b = open(t, dir)
		if got := b.Head().Number; got != want+1 {
			t.Fatalf("%d bytes: after a restart the head is %d", n, got)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
			t.Fatalf("left over: %v", left)
		}
		_ = b.files.Close()
	}
}

func TestOpenRefusesAForgedLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, from, to string }{
		"an entry changed": {"log", "operator", "0perator"},
		"a head changed":   {"head", `"hash":"`, `"hash":"0`},
		"no head at all":   {"head", "{", ""},
	} {
		b := open(t, t.TempDir())
		b.offer(t, "first")
		_ = b.files.Close()
		path := filepath.Join(b.dir, c.file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte(c.from), []byte(c.to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := revision.OpenFiles(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := revision.Open(files, nil); err == nil {
			t.Errorf("%s: opened", name)
		}
		_ = files.Close()
	}
}

// failing refuses to append.
type failing struct{ revision.Store }

func (failing) Append([]byte, []byte) error { return errors.New("no space left") }

// What cannot be written down does not come true.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	first, _ := b.offer(t, "first")
	full, err := revision.Open(failing{b.files}, nil)
	if err != nil {
		t.Fatal(err)
	}
	never := func() { t.Error("it went live") }
	if _, err := full.Offer(revision.Offering{Files: bundle("second"), By: operator}, never); err == nil {
		t.Error("offered")
	}
	b.offer(t, "third")
	full, err = revision.Open(failing{b.files}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := full.Activate(first, operator, b.gate); err == nil || b.live != "third" {
		t.Errorf("%v, and %s is live", err, b.live)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	if _, err := revision.OpenFiles(b.dir); policy.KindOf(err) != policy.KindConflict {
		t.Errorf("opened twice: %v", err)
	}
	_ = b.files.Close()
	open(t, b.dir)
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	b := open(t, filepath.Join(t.TempDir(), "policy"))
	id, _ := b.offer(t, "first")
	for _, name := range []string{"", "log", "head", "bundles", "bundles/" + string(id) + ".tar"} {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func FuzzVerify(f *testing.F) {
	lines, head := written(f)
	f.Add(bytes.Join(lines, []byte("\n")), head.Number)
	f.Add([]byte("{}\n{}"), uint64(0))
	f.Fuzz(func(t *testing.T, log []byte, number uint64) {
		split := bytes.Split(log, []byte("\n"))
		entries, err := revision.Verify(split, revision.Head{Number: number})
		var bad *revision.BadEntry
		if err != nil && (!errors.As(err, &bad) || bad.Number == 0) {
			t.Errorf("error %v", err)
		}
		if err == nil && len(entries) != len(split) {
			t.Errorf("%d entries of %d lines", len(entries), len(split))
		}
	})
}
