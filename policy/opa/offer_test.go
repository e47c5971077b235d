package opa

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy/revision"
)

// A folder that is watched offers its bundles to a book. While one of them is
// pinned, edits wait.
func TestWatchOffersToABook(t *testing.T) {
	t.Parallel()
	files, err := revision.OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	book, err := revision.Open(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	by := revision.Author{Who: "folder"}
	var e *Engine
	activate := func(b *Bundle) func() {
		return func() {
			if b.Revision() != e.Revision() {
				e.Activate(b)
			}
		}
	}
	type offered struct {
		id   revision.ID
		live bool
	}
	offers := make(chan offered, 10)
	e = New(Options{Schemas: builtinSchemas(), Log: slog.New(slog.DiscardHandler), Timeout: 10 * time.Second, Offer: func(b *Bundle) error {
		out, err := book.Offer(revision.Offering{Files: b.Files(), By: by}, activate(b))
		offers <- offered{out.ID, out.Live}
		return err
	}})
	gate := func(bundle fs.FS) (func(), error) {
		b, report := Load(context.Background(), bundle, builtinSchemas())
		if b == nil {
			return nil, report.Err()
		}
		return activate(b), nil
	}

	dir := t.TempDir()
	edit := func(reason string) offered {
		t.Helper()
		write(t, filepath.Join(dir, "cordon/publish/publish.rego"), fmt.Sprintf("package cordon.publish\n\ndecision := {\"allow\": false, \"reason\": %q}\n", reason))
		select {
		case o := <-offers:
			return o
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was offered")
			return offered{}
		}
	}
	write(t, filepath.Join(dir, "cordon/publish/publish.rego"), "package cordon.publish\n\ndecision := {\"allow\": true}\n")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Watch(ctx, dir) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, files.Close()); err != nil {
			t.Error(err)
		}
	}()

	first := <-offers
	second := edit("second")
	if !first.live || !second.live || e.Revision() != string(second.id) {
		t.Fatalf("%v, %v, live %s", first, second, e.Revision())
	}
	if err := book.Activate(first.id, by, gate); err != nil {
		t.Fatal(err)
	}
	third := edit("third")
	if third.live || e.Revision() != string(first.id) {
		t.Errorf("%v went live over the pinned %v", third, first)
	}
	if back := edit("second"); back.live || back.id != second.id {
		t.Errorf("%v, want %v", back, second)
	}
	if id, err := book.Unpin(by, gate); err != nil || id != second.id || e.Revision() != string(second.id) {
		t.Errorf("unpinned to %s (%v), live %s", id, err, e.Revision())
	}
	if err := book.Verify(); err != nil {
		t.Error(err)
	}
}

// A bundle's revision is the one its files are stored under.
func TestFilesMakeTheRevision(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, builtinBundle())
	if sum := revision.Sum(b.Files()); string(sum.ID()) != b.Revision() || len(b.Files()) < 10 {
		t.Errorf("%d files make %s, want %s", len(b.Files()), sum.ID(), b.Revision())
	}
	again, err := revision.FS(b.Files())
	if err != nil {
		t.Fatal(err)
	}
	if mustLoad(t, again).Revision() != b.Revision() {
		t.Error("its own files make another bundle")
	}
}
