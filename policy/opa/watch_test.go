package opa

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

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

// watching starts Watch on dir and stops it at the end of the test. It has no poll,
// so what it finds it was told of.
func watching(t *testing.T, dir string) (*Engine, records) {
	t.Helper()
	return watchingPolled(t, dir, time.Hour)
}

func watchingPolled(t *testing.T, dir string, poll time.Duration) (*Engine, records) {
	t.Helper()
	r := records{make(chan slog.Record, 100)}
	e := New(Options{Log: slog.New(r), Schemas: builtinSchemas(), Timeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.watch(ctx, dir, poll) }()
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

// link makes name a link, in one step also where there is one.
func link(t *testing.T, to, name string) {
	t.Helper()
	if err := errors.Join(os.Symlink(to, name+".tmp"), os.Rename(name+".tmp", name)); err != nil {
		t.Fatal(err)
	}
}

func subscribes(allow bool) string {
	return fmt.Sprintf("package cordon.subscribe\n\ndecision := {\"allow\": %v}\n", allow)
}

// Kubernetes publishes a config map as files that are links through a link called
// ..data to a folder named after the time, writes the next folder, and changes all
// files by renaming another link over ..data. Then it removes the old folder.
func TestWatchFollowsAConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publish := func(version, text string) {
		t.Helper()
		write(t, filepath.Join(dir, version, "publish.rego"), text)
		write(t, filepath.Join(dir, version, "subscribe.rego"), subscribes(text == allows))
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..2026_11_22_10_00_00.1", allows)
	for _, name := range []string{"publish.rego", "subscribe.rego"} {
		link(t, filepath.Join("..data", name), filepath.Join(dir, name))
	}
	e, log := watching(t, dir)
	log.next(t, "policy activated")
	last := "..2026_11_22_10_00_00.1"
	for i, text := range []string{denies, allows, broken, denies} {
		version := fmt.Sprintf("..2026_11_22_10_00_00.%d", i+2)
		publish(version, text)
		if err := os.RemoveAll(filepath.Join(dir, last)); err != nil {
			t.Fatal(err)
		}
		last = version
		if text == broken {
			if p := log.next(t, "policy refused")["position"]; p != "publish.rego:3:23" {
				t.Errorf("refused at %s", p)
			}
			continue
		}
		log.next(t, "policy activated")
		if allowed(t, e) != (text == allows) {
			t.Errorf("version %d is not live", i+2)
		}
	}
	// A file more comes as one more link, after the swap.
	write(t, filepath.Join(dir, last, "admin.rego"), "package cordon.admin\n\ndecision := {\"allow\": true}\n")
	link(t, filepath.Join("..data", "admin.rego"), filepath.Join(dir, "admin.rego"))
	log.next(t, "policy activated")
	if !e.Judge(nil).Decides(policy.ActionAdminister) {
		t.Error("the file that was added is not live")
	}
}

// The folder itself, one above it or one inside may be a link that is replaced.
func TestWatchFollowsSwappedFolders(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]struct{ place, link, dir string }{
		"the folder":        {"%s", "policy", "policy"},
		"one above it":      {"%s/etc/policy", "current", "current/etc/policy"},
		"a link to a link":  {"%s", "policy", "other/policy"},
		"a folder inside":   {"%s", "all/cordon", "all"},
		"a folder far away": {"far/%s/cordon", "all/deep/er/cordon", "all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			swap := func(version string) {
				t.Helper()
				place := filepath.Join(base, fmt.Sprintf(layout.place, version))
				if name == "one above it" {
					place = filepath.Join(base, version)
				}
				link(t, place, filepath.Join(base, layout.link))
			}
			file := func(version string) string {
				return filepath.Join(base, fmt.Sprintf(layout.place, version), "publish.rego")
			}
			write(t, file("one"), allows)
			write(t, file("two"), denies)
			write(t, filepath.Join(base, filepath.Dir(layout.link), "notes.txt"), "")
			swap("one")
			if name == "a link to a link" {
				write(t, filepath.Join(base, "other", "notes.txt"), "")
				link(t, filepath.Join("..", "policy"), filepath.Join(base, "other", "policy"))
			}
			e, log := watching(t, filepath.Join(base, layout.dir))
			log.next(t, "policy activated")
			if !allowed(t, e) {
				t.Fatal("the first policy is not live")
			}
			swap("two")
			log.next(t, "policy activated")
			if allowed(t, e) {
				t.Error("the second policy is not live")
			}
			write(t, file("two"), allows)
			log.next(t, "policy activated")
			if !allowed(t, e) {
				t.Error("an edit in the new folder was not seen")
			}
		})
	}
}

// A file may be a link to one elsewhere, which is edited there.
func TestWatchFollowsALinkedFile(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	file := filepath.Join(base, "mine", "publish.rego")
	write(t, file, allows)
	write(t, filepath.Join(base, "policy", "notes.txt"), "")
	link(t, file, filepath.Join(base, "policy", "publish.rego"))
	e, log := watching(t, filepath.Join(base, "policy"))
	log.next(t, "policy activated")
	write(t, file, denies)
	log.next(t, "policy activated")
	if allowed(t, e) {
		t.Error("the edit is not live")
	}
}

// Editors write beside the file and rename, keep a copy of what was, and leave
// files of their own.
func TestWatchFollowsEditors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "cordon", "publish", "publish.rego")
	write(t, file, allows)
	e, log := watching(t, dir)
	log.next(t, "policy activated")
	beside := filepath.Join(filepath.Dir(file), ".publish.rego.swp")
	for i, text := range []string{denies, allows, denies} {
		write(t, beside, text)
		if i == 1 { // the old one is moved away first
			if err := os.Rename(file, file+"~"); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(beside, file); err != nil {
			t.Fatal(err)
		}
		log.next(t, "policy activated")
		if allowed(t, e) != (text == allows) {
			t.Errorf("edit %d is not live", i)
		}
	}
}

// A folder that is deleted leaves the live policy; the one that takes its place
// counts.
func TestWatchFollowsARecreatedFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policy")
	file := filepath.Join(dir, "cordon", "publish", "publish.rego")
	write(t, file, allows)
	e, log := watching(t, dir)
	log.next(t, "policy activated")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if p := log.next(t, "policy refused"); p["code"] != CodeRead || !allowed(t, e) {
		t.Errorf("refused %v", p)
	}
	write(t, file, denies)
	log.next(t, "policy activated")
	if allowed(t, e) {
		t.Error("the new folder is not live")
	}
}

// Where no event comes, as from a file system on a network, the poll finds the edit.
func TestWatchPolls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "publish.rego")
	write(t, file, allows)
	e := New(Options{Schemas: builtinSchemas(), Timeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	silent := *notify
	silent.Events = make(chan fsnotify.Event)
	live := make(chan policy.Generation, 10)
	e.OnActivate(func(g policy.Generation) { live <- g })
	w := &watch{engine: e, dir: dir, notify: &silent, poll: 10 * time.Millisecond}
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	<-live
	write(t, file, denies)
	<-live
	cancel()
	<-done
	if allowed(t, e) {
		t.Error("the edit is not live")
	}
}

// turning is a folder whose files change while they are read, left times.
type turning struct {
	fs.FS
	left  *int
	turns func()
}

func (f turning) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "publish.rego") && *f.left > 0 {
		*f.left--
		defer f.turns()
	}
	return f.FS.Open(name)
}

func (f turning) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }

// Half of one bundle and half of another is never what is loaded.
func TestWhatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	versions := []map[string]string{
		{"publish": `decision := {"allow": true}`, "subscribe": `decision := {"allow": false}`},
		{"publish": `decision := {"allow": false}`, "subscribe": `decision := {"allow": true}`},
	}
	for _, turns := range []int{0, 1, 2, 3, 1000} {
		left, now := turns, 0
		files := module(versions[0])
		folder := turning{files, &left, func() {
			now = 1 - now
			maps.Copy(files, module(versions[now]))
		}}
		b, report := Load(context.Background(), folder, nil)
		if turns == 1000 {
			if b != nil || len(report.Problems) != 1 || report.Problems[0].Code != CodeRead || report.Problems[0].Hint == "" {
				t.Errorf("it never holds still, and is loaded: %+v", report.Problems)
			}
			continue
		}
		if want := mustLoad(t, module(versions[turns%2])).Revision(); b == nil || b.Revision() != want {
			t.Errorf("%d turns: not what was there at the end (%v)", turns, report.Err())
		}
	}
}

// A bundle that somebody is still writing waits for its end.
func TestWatchWaitsForTheEndOfWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "publish.rego")
	write(t, file, allows)
	e := New(Options{Schemas: builtinSchemas(), Timeout: 10 * time.Second})
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	w := &watch{engine: e, dir: dir, notify: notify}
	if !w.look(context.Background(), false) || e.Generation() != 1 {
		t.Fatal("a folder that holds still is not live")
	}
	write(t, file, denies)
	ctx := writesOnAsk{context.Background(), func() { write(t, filepath.Join(dir, "subscribe.rego"), subscribes(false)) }}
	if w.look(ctx, false) || e.Generation() != 1 {
		t.Error("half of an edit went live")
	}
	if !w.look(context.Background(), false) || e.Generation() != 2 || allowed(t, e) || !e.Judge(nil).Decides(policy.ActionSubscribe) {
		t.Error("the whole of the edit is not live")
	}
	write(t, file, allows)
	ctx.write = func() { write(t, filepath.Join(dir, "subscribe.rego"), subscribes(true)) }
	if !w.look(ctx, true) || e.Generation() != 3 {
		t.Error("what never comes to an end is never taken")
	}
}

// writesOnAsk is a context in which somebody writes once the gate is done.
type writesOnAsk struct {
	context.Context
	write func()
}

func (c writesOnAsk) Err() error { c.write(); return nil }

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
