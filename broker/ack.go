package broker

import (
	"context"

	"github.com/cordon-mq/cordon/broker/wire"
)

// handleAck carries out PUBACK, PUBREC and PUBCOMP for messages to the client,
// and PUBREL for messages from it. The two have packet IDs of their own.
func (c *conn) handleAck(ctx context.Context, pk *wire.Ack) {
	if pk.Kind == wire.TypePubrel {
		c.release(pk.PacketID)
		return
	}
	s := c.session
	var w writes
	s.guarded.Lock()
	o := &s.guarded.out
	var e *entry
	if i := o.find(pk.PacketID); i >= 0 {
		e = o.inflight[i]
	}
	switch {
	case pk.Kind == wire.TypePuback && e != nil && e.qos == 1,
		pk.Kind == wire.TypePubrec && e != nil && e.qos == 2 && !e.released && pk.Code.Failed(),
		pk.Kind == wire.TypePubcomp && e != nil && e.released:
		o.remove(e)
		w.removeLocked(s, e)
	case pk.Kind == wire.TypePubrec && e != nil && e.qos == 2:
		s.receivedLocked(&w, c, e)
	case pk.Kind == wire.TypePubrec && !pk.Code.Failed():
		// Not known here. The client must be able to finish it all the same.
		c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: pk.PacketID, Code: wire.PacketIdentifierNotFound}, c)
	}
	more := o.resending(c) || (o.waiting() > 0 || len(s.guarded.feeds) > 0) && o.room(c)
	s.guarded.Unlock()
	c.b.commitAny(&w)
	if more {
		s.drain(ctx, c)
	}
}

// receivedLocked notes that the client has e, a message at QoS 2: what remains
// is PUBREL, which leaves once that is stored where the session is kept.
func (s *session) receivedLocked(w *writes, c *conn, e *entry) {
	if e.released { // said before
		if !e.saving {
			c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: e.id()}, c)
		}
		return
	}
	w.drop(s.space, e)
	e.released, e.msg, e.subs = true, nil, nil // the message itself is not needed again
	if e.place == 0 {
		c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: e.id()}, c)
		return
	}
	w.saveLocked(s, e)
}

// release ends an inbound QoS 2 exchange. Where the session is kept, PUBCOMP
// leaves once that is stored: the client may use the packet ID again from then
// on, for a message that must not be taken for a repetition.
func (c *conn) release(id uint16) {
	s := c.session
	var w writes
	s.guarded.Lock()
	_, known := s.guarded.in[id]
	delete(s.guarded.in, id)
	if known && s.guarded.number != 0 {
		w.delete(s.space.keys.Inbound(s.guarded.number, id))
	}
	s.guarded.Unlock()
	code := wire.Success
	if !known {
		code = wire.PacketIdentifierNotFound
	}
	c.answer(&w, ackAfter{Ack: wire.Ack{Kind: wire.TypePubcomp, PacketID: id, Code: code}})
}

// receipt is what an inbound QoS 2 packet ID is to its session.
type receipt uint8

const (
	receiptNew  receipt = iota
	receiptOpen         // received before and not released yet
	receiptFull         // more are open than the CONNACK allowed [MQTT-3.3.4-7]
)

// receipt looks an inbound QoS 2 packet ID up.
func (s *session) receipt(id uint16) receipt {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if _, open := s.guarded.in[id]; open {
		return receiptOpen
	}
	if c := s.conn.Load(); c != nil && c.version == wire.V5 && len(s.guarded.in) >= receiveMaximum {
		return receiptFull
	}
	return receiptNew
}

// receive remembers an inbound QoS 2 packet ID until its PUBREL.
func (s *session) receive(w *writes, id uint16) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.in == nil {
		s.guarded.in = make(map[uint16]struct{})
	}
	s.guarded.in[id] = struct{}{}
	if s.guarded.number != 0 {
		w.put(s.space.keys.Inbound(s.guarded.number, id), nil)
	}
}

// unreceive forgets an inbound packet ID whose message could not be stored.
func (s *session) unreceive(id uint16) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	delete(s.guarded.in, id)
}
