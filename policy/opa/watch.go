package opa

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of watching a folder.
const (
	settle  = 200 * time.Millisecond // silence after which a burst of writes is over
	settled = 600 * time.Millisecond // a burst that goes on is read all the same
	poll    = 3 * time.Second        // in case an event was lost
)

// Watch loads the bundle in dir whenever it changes, until ctx ends, and
// activates it, or has Options.Offer decide that, if nothing is wrong with it. It blocks, and returns nil when ctx
// ended. A bundle with problems is logged, one line per problem, and the live
// one stays. What is live already is not loaded again, so the caller may load
// the folder itself first. The error is a dir that cannot be watched at all.
func (e *Engine) Watch(ctx context.Context, dir string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("watch policy folder: %w", err)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policy folder: %w", err)
	}
	defer func() { err = errors.Join(err, notify.Close()) }()
	// The parent tells of a dir that is replaced as a whole.
	if err := notify.Add(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("watch policy folder: %w", err)
	}

	w := &watch{engine: e, dir: dir, notify: notify, seen: e.Revision()}
	w.look(ctx)
	w.run(ctx)
	return nil
}

type watch struct {
	engine *Engine
	dir    string
	notify *fsnotify.Watcher
	seen   string // what was last looked at, so that it is reported once
}

// run waits for silence after events, or for the next poll, and looks.
func (w *watch) run(ctx context.Context) {
	quiet := time.NewTimer(poll)
	defer quiet.Stop()
	var first time.Time // event of the burst under way
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.notify.Events:
			if !ok {
				return
			}
			if !w.concerns(event) {
				continue
			}
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(settle, max(0, settled-time.Since(first))))
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			w.engine.log.Warn("policy folder events were lost", "err", err)
		case <-quiet.C:
			first = time.Time{}
			w.look(ctx)
			quiet.Reset(poll)
		}
	}
}

// concerns leaves out what happens beside the folder.
func (w *watch) concerns(event fsnotify.Event) bool {
	return event.Name == w.dir || strings.HasPrefix(event.Name, w.dir+string(filepath.Separator))
}

// look watches every folder there is now and then reads them, in this order, so
// that no change falls between.
func (w *watch) look(ctx context.Context) {
	w.watchFolders()
	report := &Report{}
	src := readSource(os.DirFS(w.dir), report)
	revision := src.revision()
	if len(report.Problems) == 0 && revision == w.engine.Revision() && w.engine.offer == nil {
		w.seen = revision
		return
	}
	if len(report.Problems) > 0 {
		revision += " " + report.Err().Error()
	}
	if revision == w.seen {
		return
	}
	w.seen = revision

	bundle, report := Load(ctx, os.DirFS(w.dir), w.engine.schemas)
	if ctx.Err() != nil {
		return
	}
	LogReport(w.engine.log, report)
	switch {
	case bundle == nil:
	case w.engine.offer != nil:
		if err := w.engine.offer(bundle); err != nil {
			w.engine.log.Error("policy not activated", "revision", bundle.Revision(), "err", err)
		}
	case bundle.Revision() != w.engine.Revision():
		w.engine.Activate(bundle)
	}
}

// watchFolders renews the watch of each folder: a name may lead to another
// folder than before, as when Kubernetes swaps a symbolic link. What cannot be
// watched is left to the poll.
func (w *watch) watchFolders() {
	parent := filepath.Dir(w.dir)
	for _, name := range w.notify.WatchList() {
		if name != parent {
			_ = w.notify.Remove(name) // it may be gone already
		}
	}
	_ = w.notify.Add(w.dir)
	_ = fs.WalkDir(os.DirFS(w.dir), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return nil //nolint:nilerr // the poll finds what cannot be watched
		case strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		full := filepath.Join(w.dir, filepath.FromSlash(name))
		if info, err := os.Stat(full); err == nil && info.IsDir() {
			_ = w.notify.Add(full)
		}
		return nil
	})
}

// LogReport writes one line per problem, msg="policy refused", and per warning,
// msg="policy warning".
func LogReport(log *slog.Logger, report *Report) {
	for _, p := range report.Problems {
		log.Error("policy refused", "position", p.Position, "code", p.Code, "message", p.Message, "line", strings.TrimSpace(p.Line), "hint", p.Hint)
	}
	for _, p := range report.Warnings {
		log.Warn("policy warning", "position", p.Position, "code", p.Code, "message", p.Message, "hint", p.Hint)
	}
}
