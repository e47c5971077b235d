package opa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of watching a folder.
const (
	settle   = 200 * time.Millisecond // silence after which a burst of writes is over
	patience = 5 * time.Second        // a burst that goes on is read all the same
	poll     = 3 * time.Second        // in case an event was lost, or is never sent
)

// Watch loads the bundle in dir whenever it changes, until ctx ends, and
// activates it, or has Options.Offer decide that, if nothing is wrong with it. It blocks, and returns nil when ctx
// ended. A bundle with problems is logged, one line per problem, and the live
// one stays. What is live already is not loaded again, so the caller may load
// the folder itself first. Links may lead to dir, stand in it and be swapped. The
// error is a dir that cannot be watched at all.
func (e *Engine) Watch(ctx context.Context, dir string) error {
	return e.watch(ctx, dir, poll)
}

func (e *Engine) watch(ctx context.Context, dir string, poll time.Duration) (err error) {
	dir, err = filepath.Abs(dir)
	if err == nil {
		_, err = os.Stat(filepath.Dir(dir)) // dir itself may come later
	}
	if err != nil {
		return fmt.Errorf("watch policy folder: %w", err)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policy folder: %w", err)
	}
	defer func() { err = errors.Join(err, notify.Close()) }()

	w := &watch{engine: e, dir: dir, notify: notify, poll: poll, seen: e.Revision()}
	w.look(ctx, true)
	w.run(ctx)
	return nil
}

type watch struct {
	engine *Engine
	dir    string
	notify *fsnotify.Watcher
	poll   time.Duration
	places places
	seen   string // what was last looked at, so that it is reported once
}

// run waits for silence after events, or for the next poll, and looks.
func (w *watch) run(ctx context.Context) {
	quiet := time.NewTimer(w.poll)
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
			if !w.places.concern(event) {
				continue
			}
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(settle, max(0, patience-time.Since(first))))
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			w.engine.log.Warn("policy folder events were lost", "err", err)
		case <-quiet.C:
			if first.IsZero() {
				first = time.Now()
			}
			if !w.look(ctx, time.Since(first) >= patience) {
				quiet.Reset(settle)
				continue
			}
			first = time.Time{}
			quiet.Reset(w.poll)
		}
	}
}

// look notes every place that counts now and then reads them, in this order, so
// that no change falls between. It reports false when the folder changed
// meanwhile: whoever writes there has not finished. last takes it all the same.
func (w *watch) look(ctx context.Context, last bool) bool {
	w.places = placesOf(w.dir)
	w.places.watch(w.notify)
	revision, broken := w.read()
	if revision == w.seen {
		return true
	}
	if !broken && revision == w.engine.Revision() && w.engine.offer == nil {
		w.seen = revision
		return true
	}

	bundle, report := Load(ctx, os.DirFS(w.dir), w.engine.schemas)
	if ctx.Err() != nil {
		return true
	}
	if now, _ := w.read(); !last && (now != revision || bundle != nil && bundle.Revision() != revision) {
		return false
	}
	w.seen = revision
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
	return true
}

// read names what is in the folder, with what cannot be read.
func (w *watch) read() (revision string, broken bool) {
	report := &Report{}
	revision = readSource(os.DirFS(w.dir), report).revision()
	if err := report.Err(); err != nil {
		return revision + " " + err.Error(), true
	}
	return revision, false
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
