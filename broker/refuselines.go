package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Bounds of what refused lines are held back for.
const (
	lineFold = time.Second // equal lines within it are one
	maxLines = 4096        // different ones that are looked out for; more are written as they come
)

// refusedLine is what makes two refusals of the log equal.
type refusedLine struct {
	org                              string
	client                           policy.ClientID
	action                           policy.Action
	topic, reason, id, cause, detail string
}

// refusedLines writes the first of equal refusals at once, and one line with a count
// for those that follow within a second: a client that tries again without pause must
// not fill the disk.
type refusedLines struct {
	guarded struct {
		sync.Mutex
		open  map[refusedLine]*openLine
		timer *time.Timer // runs while something is open
	}
}

type openLine struct {
	since time.Time
	more  uint64 // beside the first
}

// fold reports whether the line is to be written now. flush is called when something
// may have to be written later.
func (ls *refusedLines) fold(line refusedLine, flush func()) bool {
	now := time.Now()
	ls.guarded.Lock()
	defer ls.guarded.Unlock()
	if o := ls.guarded.open[line]; o != nil && now.Sub(o.since) < lineFold {
		o.more++
		return false
	} else if o != nil && o.more > 0 {
		return true // the timer is late; it writes what there was
	}
	if len(ls.guarded.open) >= maxLines {
		return true
	}
	if ls.guarded.open == nil {
		ls.guarded.open = make(map[refusedLine]*openLine)
	}
	ls.guarded.open[line] = &openLine{since: now}
	if ls.guarded.timer == nil {
		ls.guarded.timer = time.AfterFunc(lineFold, flush)
	}
	return true
}

// take returns the lines that were begun before, with their counts.
func (ls *refusedLines) take(before time.Time, flush func()) map[refusedLine]uint64 {
	ls.guarded.Lock()
	defer ls.guarded.Unlock()
	counts := map[refusedLine]uint64{}
	for line, o := range ls.guarded.open {
		if o.since.After(before) {
			continue
		}
		if o.more > 0 {
			counts[line] = o.more
		}
		delete(ls.guarded.open, line)
	}
	if ls.guarded.timer != nil {
		ls.guarded.timer.Stop()
		ls.guarded.timer = nil
	}
	if len(ls.guarded.open) > 0 && flush != nil {
		ls.guarded.timer = time.AfterFunc(lineFold, flush)
	}
	return counts
}

// flushRefused writes the lines whose second is over.
func (b *Broker) flushRefused() {
	if !b.enter() {
		return
	}
	defer b.work.Done()
	for line, n := range b.lines.take(time.Now().Add(-lineFold), b.flushRefused) {
		b.writeRefused(line, n)
	}
}

// endRefused writes what is held back, when nothing is refused any more.
func (b *Broker) endRefused() {
	for line, n := range b.lines.take(time.Now(), nil) {
		b.writeRefused(line, n)
	}
}

// writeRefused writes one line; more than 0 says that it stands for so many.
func (b *Broker) writeRefused(line refusedLine, more uint64) {
	attrs := []slog.Attr{
		slog.String("action", line.action.String()),
		slog.String("org", line.org),
		slog.String("client", string(line.client)),
		slog.String("topic", line.topic),
		slog.String("reason", line.reason),
		slog.String("decision", line.id),
		slog.String("cause", line.cause),
	}
	if line.detail != "" {
		attrs = append(attrs, slog.String("detail", line.detail))
	}
	if more > 0 {
		attrs = append(attrs, slog.Uint64("count", more))
	}
	b.log.LogAttrs(context.Background(), slog.LevelWarn, "refused", attrs...)
}
