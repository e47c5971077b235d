package wasm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settleFor  = 200 * time.Millisecond // after the last event
	settleMost = time.Second            // after the first one
	lookAgain  = 10 * time.Second       // for what no event tells: secrets elsewhere, network file systems, organisations
)

// Run keeps the plugins as the folder has them, until the context ends.
func (h *Host) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch plugins folder: %w", err)
	}
	defer w.Close()
	if err := w.Add(h.dir); err != nil {
		return fmt.Errorf("watch plugins folder: %w", err)
	}
	h.watchFolders(w)
	h.rescan(ctx) // what changed since Open
	again := time.NewTicker(min(lookAgain, h.limits.IdleAfter))
	defer again.Stop()
	var settle, lost <-chan time.Time
	var first time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return nil
			}
			if settle == nil {
				first = time.Now()
			}
			settle = time.After(max(0, min(settleFor, settleMost-time.Since(first))))
		case err, ok := <-w.Errors:
			if !ok {
				return nil
			}
			h.log.Warn("watching the plugins folder failed, looking every few seconds", "error", err)
		case <-settle:
			settle = nil
			h.watchFolders(w)
			h.rescan(ctx)
		case <-lost:
			h.rescan(ctx) // once more, for it may be back and no event said so
		case <-again.C:
			h.closeIdle()
			h.watchFolders(w)
			h.rescan(ctx)
		}
		if lost = nil; h.tellLost() {
			lost = time.After(lostAfter)
		}
	}
}

// watchFolders watches the folders of organisations; one that is watched already
// stays so.
func (h *Host) watchFolders(w *fsnotify.Watcher) {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return // rescan says so
	}
	for _, e := range entries {
		path := filepath.Join(h.dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			_ = w.Add(path) // looking again finds what this one misses
		}
	}
}

func (h *Host) rescan(ctx context.Context) {
	if err := h.scan(ctx); err != nil && ctx.Err() == nil {
		h.log.Warn("plugins folder not read", "error", err)
	}
}

func (h *Host) closeIdle() {
	before := h.now().Add(-h.limits.IdleAfter)
	for _, p := range h.table.Load().plugins {
		p.closeIdle(before)
		p.faults.flush(p.log, "plugin failed")
	}
	h.missing.flush(h.log, "plugin not found")
}
