package opa

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// records hands each log record to the test as it is written.
type records struct{ ch chan slog.Record }

func (records) Enabled(context.Context, slog.Level) bool { return true }
func (r records) Handle(ctx context.Context, rec slog.Record) error {
	select {
	case r.ch <- rec:
	case <-ctx.Done():
	}
	return nil
}
func (r records) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r records) WithGroup(string) slog.Handler      { return r }

// next waits for the next record with this message and returns its attributes.
func (r records) next(t *testing.T, message string) map[string]string {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case rec := <-r.ch:
			if rec.Message != message {
				continue
			}
			attrs := map[string]string{}
			rec.Attrs(func(a slog.Attr) bool {
				attrs[a.Key] = a.Value.String()
				return true
			})
			return attrs
		case <-timeout.C:
			t.Fatalf("no %q was logged", message)
		}
	}
}

// watching starts Watch on dir and stops it at the end of the test.
func watching(t *testing.T, dir string) (*Engine, records) {
	t.Helper()
	r := records{make(chan slog.Record, 100)}
	e := New(Options{Log: slog.New(r), Schemas: builtinSchemas(), Timeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Watch(ctx, dir) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return e, r
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	allows = "package cordon.publish\n\ndecision := {\"allow\": true}\n"
	denies = "package cordon.publish\n\ndecision := {\"allow\": false}\n"
	broken = "package cordon.publish\n\ndecision := {\"allow\": input.topci == \"a\"}\n"
)

func allowed(t *testing.T, e *Engine) bool {
	t.Helper()
	return e.Judge(deviceFacts(t)).Decide(context.Background(), publishTo(t, "iot-2/evt/a/fmt/b")).Allow
}

func TestWatchFollowsEdits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "cordon", "publish", "publish.rego")
	write(t, file, allows)
	e, log := watching(t, dir)

	first := log.next(t, "policy activated")
	if first["generation"] != "1" || first["revision"] != e.Revision() || !allowed(t, e) {
		t.Fatalf("activated %v", first)
	}

	write(t, file, broken)
	refused := log.next(t, "policy refused")
	if refused["position"] != "cordon/publish/publish.rego:3:23" || refused["code"] != "rego_type_error" {
		t.Errorf("refused %v", refused)
	}
	if e.Generation() != 1 || !allowed(t, e) {
		t.Error("the old policy did not stay")
	}

	write(t, file, denies)
	if second := log.next(t, "policy activated"); second["generation"] != "2" || allowed(t, e) {
		t.Errorf("activated %v", second)
	}

	// A folder that was not there before, and a file put in place by renaming.
	write(t, filepath.Join(dir, "new.tmp"), "package cordon.subscribe\n\ndecision := {\"allow\": true}\n")
	if err := os.MkdirAll(filepath.Join(dir, "cordon", "subscribe"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new.tmp"), filepath.Join(dir, "cordon", "subscribe", "s.rego")); err != nil {
		t.Fatal(err)
	}
	for !e.Judge(nil).Decides(policy.ActionSubscribe) {
		log.next(t, "policy activated")
	}
	write(t, filepath.Join(dir, "cordon", "subscribe", "s.rego"), "package cordon.subscribe\n\ndecision := {\"allow\": false}\n")
	log.next(t, "policy activated")
}

// Kubernetes publishes a config map as files that are links through a link
// called ..data, and changes them all by renaming another link over that one.
func TestWatchFollowsSwappedLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..one", "publish.rego"), allows)
	write(t, filepath.Join(dir, "..two", "publish.rego"), denies)
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..one", "..data")
	link(filepath.Join("..data", "publish.rego"), "publish.rego")
	e, log := watching(t, dir)
	log.next(t, "policy activated")
	if !allowed(t, e) {
		t.Fatal("the first policy is not live")
	}
	link("..two", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	log.next(t, "policy activated")
	if allowed(t, e) {
		t.Error("the second policy is not live")
	}
}

// The folder itself may be a link that is replaced.
func TestWatchFollowsAReplacedFolder(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	write(t, filepath.Join(base, "one", "publish.rego"), allows)
	write(t, filepath.Join(base, "two", "publish.rego"), denies)
	dir := filepath.Join(base, "policy")
	if err := errors.Join(os.Symlink("one", dir), os.Symlink("two", dir+".tmp")); err != nil {
		t.Fatal(err)
	}
	e, log := watching(t, dir)
	log.next(t, "policy activated")
	if err := os.Rename(dir+".tmp", dir); err != nil {
		t.Fatal(err)
	}
	log.next(t, "policy activated")
	if allowed(t, e) {
		t.Error("the second policy is not live")
	}
	write(t, filepath.Join(base, "two", "publish.rego"), allows)
	log.next(t, "policy activated")
	if !allowed(t, e) {
		t.Error("an edit in the new folder was not seen")
	}
}

func TestWatchRefusesAMissingParent(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	if err := e.Watch(context.Background(), filepath.Join(t.TempDir(), "no", "such")); err == nil {
		t.Error("no error")
	}
}

func TestInitWritesTheBundle(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policy")
	if err := Init(dir, builtinBundle()); err != nil {
		t.Fatal(err)
	}
	if a, b := mustLoad(t, os.DirFS(dir)), mustLoad(t, builtinBundle()); a.Revision() != b.Revision() {
		t.Errorf("the written bundle is %s, the built-in one %s", a.Revision(), b.Revision())
	}
	if info, err := os.Stat(filepath.Join(dir, "cordon", "publish", "publish.rego")); err != nil || info.Mode().Perm()&^fs.FileMode(0o644) != 0 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if err := Init(dir, builtinBundle()); policy.KindOf(err) != policy.KindExists {
		t.Errorf("a folder that is not empty: %v", err)
	}
}
