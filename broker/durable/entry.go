package durable

import (
	"encoding/binary"
	"math"
)

// Entry is one slot of a session's queue: a message that the session owes its
// client, or, once it was received at QoS 2, what is left of the exchange.
type Entry struct {
	// Seq orders the entries of a queue. Its slot is Slot(Seq).
	Seq      uint64
	QoS      byte
	Retain   bool     // retained flag as the client will see it
	Released bool     // QoS 2: PUBREC came; there is no message any more
	Subs     []uint32 // numbers of the subscriptions it matched
	// Message is the body, where this queue alone has it; else Shared is its number.
	Message *Message
	Shared  uint64
}

const (
	flagReleased = 1 << (iota + 1) // after flagRetain
	flagInline
	flagsOfEntry = 1<<(iota+1) - 1
)

// Append writes the entry.
func (e *Entry) Append(b []byte) []byte {
	flags := byte(0)
	if e.Retain {
		flags |= flagRetain
	}
	if e.Released {
		flags |= flagReleased
	}
	if e.Message != nil {
		flags |= flagInline
	}
	b = append(b, version, flags, e.QoS)
	b = binary.AppendUvarint(b, e.Seq)
	if e.Released {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(e.Subs)))
	for _, n := range e.Subs {
		b = binary.AppendUvarint(b, uint64(n))
	}
	if e.Message != nil {
		return e.Message.appendBody(b)
	}
	return binary.AppendUvarint(b, e.Shared)
}

// ParseEntry reads an entry. Its payload is a copy.
func ParseEntry(value []byte) (*Entry, error) {
	d := decode(value)
	flags := d.byte()
	e := &Entry{
		Retain: flags&flagRetain != 0, Released: flags&flagReleased != 0,
		QoS: d.byte(), Seq: d.uint(math.MaxUint64),
	}
	if flags > flagsOfEntry || e.QoS < 1 || e.QoS > 2 || e.Released && flags != flagReleased {
		return nil, ErrDamaged
	}
	if e.Released {
		return e, d.finish()
	}
	if n := d.count(1); n > 0 {
		e.Subs = make([]uint32, n)
		for i := range e.Subs {
			e.Subs[i] = uint32(d.uint(math.MaxUint32))
		}
	}
	if flags&flagInline == 0 {
		e.Shared = d.uint(math.MaxUint64)
		return e, d.finish()
	}
	var err error
	if e.Message, err = d.message(); err != nil {
		return nil, err
	}
	return e, d.finish()
}
