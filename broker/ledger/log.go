package ledger

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
)

// LogLines is how many lines a device's connection log has at most, and LogKept
// how old they get.
const (
	LogLines = 64
	LogKept  = 30 * 24 * time.Hour
)

// Line is one line of a connection log.
type Line struct {
	Message string    `json:"message"`
	Time    time.Time `json:"time"`
}

// pageLines is how many lines are written together, once there are that many.
const pageLines = 8

// Log adds lines to the connection log of d. The newest ones lie in one record with
// the number of all that there were, so that a line costs one write; full pages go
// round in a ring, so that the keys are the same few for ever.
func (b *Batch) Log(t Tenant, d Device, lines ...Line) error {
	head := t.scope().Key(store.KindConnectionLog, d.parts()...)
	now, err := b.newest(head)
	if err != nil {
		return err
	}
	for _, l := range lines {
		now.add(l)
		if now.count < pageLines {
			continue
		}
		full := page{count: now.count, lines: now.lines}
		number := now.written/pageLines - 1
		if err := b.put(t.scope().Key(store.KindConnectionLog, d.parts(slot(number%(LogLines/pageLines)))...), &full); err != nil {
			return err
		}
		now = page{written: now.written}
	}
	if b.pages == nil {
		b.pages = map[store.Key]page{}
	}
	b.pages[head] = now
	return b.put(head, &now)
}

// newest is the page that is not full. An earlier version counted there, and had
// a slot for each line.
func (b *Batch) newest(head store.Key) (page, error) {
	if now, ok := b.pages[head]; ok {
		return now, nil
	}
	if now, ok := b.recent.get(head); ok {
		return now, nil
	}
	value, err := b.get(head)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return page{}, nil
	case err != nil:
		return page{}, err
	}
	var now page
	if now.parse(value) == nil {
		now.lines = slices.Clip(now.lines) // they are the store's
		return now, nil
	}
	n, _ := decode[uint64](value)
	return page{written: (n + pageLines - 1) / pageLines * pageLines}, nil
}

// recentMost is how many pages are remembered, a few hundred bytes each.
const recentMost = 4096

// recent remembers the newest pages of devices that came lately: the one that comes
// again and again is not read again and again. What is here is stored.
type recent struct {
	guarded struct {
		sync.Mutex
		pages map[store.Key]page
	}
}

func (r *recent) get(head store.Key) (page, bool) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	now, ok := r.guarded.pages[head]
	now.lines = slices.Clip(now.lines) // a batch that fails must leave them alone
	return now, ok
}

// put takes over the pages of a batch, or after a failure forgets what was known of
// them.
func (r *recent) put(pages map[store.Key]page, stored bool) {
	if len(pages) == 0 {
		return
	}
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if r.guarded.pages == nil {
		r.guarded.pages = make(map[store.Key]page)
	}
	for head, now := range pages {
		delete(r.guarded.pages, head)
		if !stored || len(now.lines) > recentLines {
			continue
		}
		for old := range r.guarded.pages { // whichever comes first
			if len(r.guarded.pages) < recentMost {
				break
			}
			delete(r.guarded.pages, old)
		}
		r.guarded.pages[head] = now
	}
}

// recentLines is how long a page may be to be remembered, in bytes.
const recentLines = 1024

func (r *recent) forget(head store.Key) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	delete(r.guarded.pages, head)
}

// slot is n as a key part of two bytes.
func slot(n uint64) string {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], uint16(n))
	return string(b[:])
}

// Lines is the connection log of d since a moment, the newest first.
func (l *Ledger) Lines(t Tenant, d Device, since time.Time) ([]Line, error) {
	var lines []Line
	keep := func(line Line) {
		if !line.Time.Before(since) {
			lines = append(lines, line)
		}
	}
	err := l.store.Scan(t.scope().Prefix(store.KindConnectionLog, d.parts()...), store.Key{}, func(_ store.Key, value []byte) bool {
		var p page
		if p.parse(value) == nil {
			_ = p.each(keep) // what can be read of it
		} else if line, err := decode[Line](value); err == nil {
			keep(line)
		}
		return true
	})
	slices.SortStableFunc(lines, func(a, b Line) int { return b.Time.Compare(a.Time) })
	return lines[:min(len(lines), LogLines)], err
}

// Forget removes what is noted about a device that was deleted.
func (b *Batch) Forget(t Tenant, d Device) error {
	head := t.scope().Key(store.KindConnectionLog, d.parts()...)
	delete(b.pages, head)
	b.recent.forget(head)
	err := b.store.Scan(t.scope().Prefix(store.KindConnectionLog, d.parts()...), store.Key{}, func(key store.Key, _ []byte) bool {
		b.add(store.Delete(key))
		return true
	})
	return errors.Join(err, b.forgetViolator(t, d),
		b.dropAll(t, t.scope().Prefix(store.KindLastEvent, d.parts()...)), b.dropAll(t, t.scope().Prefix(store.KindDiagnostic, d.parts()...)))
}
