package ledger

import (
	"encoding/binary"
	"slices"
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

// Log adds a line to the connection log of d. The log is a ring, so that its keys
// are the same few for ever; the record without a slot says where it is.
func (b *Batch) Log(t Tenant, d Device, line Line) error {
	head := t.scope().Key(store.KindConnectionLog, d.parts()...)
	n, _, err := read[uint64](b, head)
	if err != nil {
		return err
	}
	if err := b.put(head, n+1); err != nil {
		return err
	}
	return b.put(t.scope().Key(store.KindConnectionLog, d.parts(slot(n%LogLines))...), line)
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
	depth := len(d.parts()) + 1
	err := l.store.Scan(t.scope().Prefix(store.KindConnectionLog, d.parts()...), store.Key{}, func(key store.Key, value []byte) bool {
		if line, err := decode[Line](value); err == nil && len(key.Parts()) == depth && !line.Time.Before(since) {
			lines = append(lines, line)
		}
		return true
	})
	slices.SortStableFunc(lines, func(a, b Line) int { return b.Time.Compare(a.Time) })
	return lines, err
}

// Forget removes what is noted about a device that was deleted.
func (b *Batch) Forget(t Tenant, d Device) error {
	for _, kind := range []store.Kind{store.KindConnectionLog, store.KindLastEvent, store.KindDiagnostic} {
		err := b.store.Scan(t.scope().Prefix(kind, d.parts()...), store.Key{}, func(key store.Key, _ []byte) bool {
			b.add(store.Delete(key))
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}
