package broker

import (
	"context"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// handleAck carries out PUBACK, PUBREC and PUBCOMP for messages to the client,
// and PUBREL for messages from it. The two have packet IDs of their own.
func (c *conn) handleAck(ctx context.Context, pk *wire.Ack) {
	if pk.Kind == wire.TypePubrel {
		c.release(pk.PacketID)
		return
	}
	s := c.session
	s.guarded.Lock()
	o := &s.guarded.out
	i := o.find(pk.PacketID)
	var m *sent
	if i >= 0 {
		m = o.inflight[i]
	}
	switch {
	case pk.Kind == wire.TypePuback && m != nil && m.qos == 1,
		pk.Kind == wire.TypePubrec && m != nil && m.qos == 2 && pk.Code.Failed(),
		pk.Kind == wire.TypePubcomp && m != nil && m.released:
		o.remove(i)
	case pk.Kind == wire.TypePubrec && m != nil && m.qos == 2:
		m.released, m.msg, m.subs = true, nil, nil // received: the message itself is not needed again
		c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: pk.PacketID})
	case pk.Kind == wire.TypePubrec && !pk.Code.Failed():
		// Not known here. The client must be able to finish it all the same.
		c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: pk.PacketID, Code: wire.PacketIdentifierNotFound})
	}
	more := o.resending(c) || o.waiting() > 0 && o.room(c)
	s.guarded.Unlock()
	if more {
		s.drain(ctx)
	}
}

// release ends an inbound QoS 2 exchange.
func (c *conn) release(id uint16) {
	s := c.session
	s.guarded.Lock()
	_, known := s.guarded.in[id]
	delete(s.guarded.in, id)
	s.guarded.Unlock()
	code := wire.Success
	if !known {
		code = wire.PacketIdentifierNotFound
	}
	c.ack(wire.Ack{Kind: wire.TypePubcomp, PacketID: id, Code: code})
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
func (s *session) receive(id uint16) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.in == nil {
		s.guarded.in = make(map[uint16]struct{})
	}
	s.guarded.in[id] = struct{}{}
}

// skip treats a message that is too large for the client as if it had been sent
// and acknowledged [MQTT-3.1.2-25]. The session's lock is held when id is not 0.
func (c *conn) skip(id uint16) {
	if id == 0 {
		return
	}
	o := &c.session.guarded.out
	if i := o.find(id); i >= 0 {
		o.remove(i)
	}
	c.b.log.Warn("message too large for its receiver", "org", c.session.space.key.org, "client", string(c.session.key.client),
		"reason", string(policy.CausePayloadSize))
}
