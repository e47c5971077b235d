package wasm

import (
	"log/slog"
	"sync"
	"time"
)

// foldFor is how long a line stands for others like it.
const foldFor = 10 * time.Second

// folder writes a line of a kind that clients cause at most once in foldFor, with
// how many were folded into it.
type folder struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		next   time.Time
		folded int
	}
}

// warn logs text, or counts it.
func (f *folder) warn(log *slog.Logger, text string, args ...any) {
	folded, ok := f.turn(1)
	if folded > 0 {
		args = append(args, "folded", folded)
	}
	if ok {
		log.Warn(text, args...) //nolint:sloglint // the callers' are constant
	}
}

// flush says how many lines were folded after the last one.
func (f *folder) flush(log *slog.Logger, text string) {
	if folded, ok := f.turn(0); ok && folded > 0 {
		log.Warn(text, "folded", folded) //nolint:sloglint // the callers' are constant
	}
}

// turn takes the number of folded lines when it is time for one, or counts more.
func (f *folder) turn(more int) (folded int, ok bool) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Before(f.mu.next) {
		f.mu.folded += more
		return 0, false
	}
	folded = f.mu.folded
	f.mu.folded = 0
	if more > 0 || folded > 0 {
		f.mu.next = now.Add(foldFor)
	}
	return folded, true
}
