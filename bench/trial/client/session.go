package client

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cordon-mq/cordon/broker/wire"
)

// Message is one application message.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool
}

// Outcome is what an answer says about a message.
type Outcome uint8

// What a message has come to.
const (
	Nothing      Outcome = iota // no news
	Acknowledged                // PUBACK or PUBREC: it is the broker's now
	Refused                     // the same with a reason code of failure
)

// ErrUnasked is an answer to nothing that was sent.
var ErrUnasked = errors.New("the broker answered what was not sent")

// Sender is the sending half of a session: messages with numbers from 0, and at
// QoS 1 and 2 which of them are in flight. It is not safe for concurrent use.
type Sender struct {
	Version wire.Version
	QoS     byte
	// Message makes message n, the same whenever it is asked.
	Message func(n uint64) Message

	next     uint64
	lastID   uint16
	inflight []inflight // in the order they were sent first
}

type inflight struct {
	number   uint64
	id       uint16
	released bool // PUBREC came
}

// InFlight is how many messages are not through.
func (s *Sender) InFlight() int { return len(s.inflight) }

// Sent is how many messages were sent at least once; they have the numbers below it.
func (s *Sender) Sent() uint64 { return s.next }

// Publish appends the next message.
func (s *Sender) Publish(dst []byte) []byte {
	if s.QoS == 0 {
		s.next++
		return s.encode(dst, inflight{number: s.next - 1}, false)
	}
	m := inflight{number: s.next, id: s.freeID()}
	s.next++
	s.inflight = append(s.inflight, m)
	return s.encode(dst, m, false)
}

// Resume appends everything in flight again, in its order. Where the broker
// has no session, what it said it has is over, and the rest is sent as if for the
// first time.
func (s *Sender) Resume(dst []byte, present bool) []byte {
	if !present {
		s.inflight = slices.DeleteFunc(s.inflight, func(m inflight) bool { return m.released })
	}
	for _, m := range s.inflight {
		if m.released {
			dst = wire.AppendAck(dst, s.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: m.id})
			continue
		}
		dst = s.encode(dst, m, present)
	}
	return dst
}

func (s *Sender) encode(dst []byte, m inflight, dup bool) []byte {
	message := s.Message(m.number)
	return wire.AppendPublish(dst, s.Version, &wire.Publish{
		Topic: []byte(message.Topic), Payload: message.Payload, Retain: message.Retain,
		PacketID: m.id, QoS: s.QoS, Dup: dup,
	})
}

// freeID is the next packet identifier that nothing in flight has. Windows are
// much smaller than the number of identifiers.
func (s *Sender) freeID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && s.find(s.lastID) < 0 {
			return s.lastID
		}
	}
}

func (s *Sender) find(id uint16) int {
	return slices.IndexFunc(s.inflight, func(m inflight) bool { return m.id == id })
}

// Handle takes an answer and appends what it calls for. The number is that of
// the message the outcome is about.
func (s *Sender) Handle(dst []byte, p *Packet) (out []byte, number uint64, outcome Outcome, err error) {
	at := s.find(p.ID)
	if at < 0 {
		return dst, 0, Nothing, fmt.Errorf("%w: %s %d", ErrUnasked, p.Type, p.ID)
	}
	m := &s.inflight[at]
	number = m.number
	switch {
	case p.Type == wire.TypePuback && s.QoS == 1:
		s.inflight = slices.Delete(s.inflight, at, at+1)
		outcome = Acknowledged
		if p.Code.Failed() {
			outcome = Refused
		}
	case p.Type == wire.TypePubrec && s.QoS == 2 && p.Code.Failed() && !m.released:
		s.inflight = slices.Delete(s.inflight, at, at+1)
		outcome = Refused
	case p.Type == wire.TypePubrec && s.QoS == 2:
		if !m.released {
			m.released, outcome = true, Acknowledged
		}
		dst = wire.AppendAck(dst, s.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: p.ID})
	case p.Type == wire.TypePubcomp && m.released:
		s.inflight = slices.Delete(s.inflight, at, at+1)
	default:
		err = fmt.Errorf("%w: %s %d at QoS %d", ErrUnasked, p.Type, p.ID, s.QoS)
	}
	return dst, number, outcome, err
}

// Receiver is the receiving half of a session: the QoS 2 messages that are taken
// and not released. The zero value is that of a new session. It is not safe for
// concurrent use.
type Receiver struct {
	taken map[uint16]struct{}
}

// Handle takes a PUBLISH or PUBREL and appends what it calls for. Fresh reports
// whether the application is to see the message.
func (r *Receiver) Handle(dst []byte, v wire.Version, p *Packet) (out []byte, fresh bool) {
	answer := wire.Ack{PacketID: p.ID}
	switch {
	case p.Type == wire.TypePubrel:
		delete(r.taken, p.ID)
		answer.Kind = wire.TypePubcomp
	case p.QoS == 0:
		return dst, true
	case p.QoS == 1:
		answer.Kind, fresh = wire.TypePuback, true
	default:
		if r.taken == nil {
			r.taken = make(map[uint16]struct{})
		}
		_, repeated := r.taken[p.ID]
		r.taken[p.ID] = struct{}{}
		answer.Kind, fresh = wire.TypePubrec, !repeated
	}
	return wire.AppendAck(dst, v, answer), fresh
}

// Forget begins a new session.
func (r *Receiver) Forget() { clear(r.taken) }
