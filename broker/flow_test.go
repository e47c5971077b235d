package broker_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

func TestEveryQoSInBothDirections(t *testing.T) {
	t.Parallel()
	for _, from := range versions {
		for _, to := range versions {
			t.Run(fmt.Sprintf("MQTT %s to %s", from, to), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				sender := w.connect(t, acme.device("d1"), from)
				for granted := range byte(3) {
					c := w.connect(t, acme.free("c", fmt.Sprint("c", granted)), to)
					c.listen(granted, "a")
					for sent := range byte(3) {
						sender.say("a", "x", sent)
						if p := c.hear("a", "x"); p.QoS != min(sent, granted) {
							t.Errorf("sent at %d, granted %d, delivered at %d", sent, granted, p.QoS)
						}
					}
					c.quiet()
					c.unsubscribe("a")
				}
				if ack := sender.publish(message("a", "x", 1)); from == wire.V5 && ack.Code != wire.NoMatchingSubscribers {
					t.Errorf("to nobody: %s", ack.Code)
				}
			})
		}
	}
}

// What is not acknowledged is sent again after a return: the PUBLISH with DUP
// until it is received, the PUBREL after that [MQTT-4.4.0-1].
func TestResendAfterReturn(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v, kept)
			c.listen(2, "a")
			from := w.connect(t, acme.app("x"), wire.V5)
			for _, p := range []*wire.Publish{message("a", "one", 1), message("a", "two", 2), message("a", "received", 2), message("a", "done", 1)} {
				from.publish(p)
			}
			var sent []*wire.Publish
			for range 4 {
				sent = append(sent, c.next())
			}
			c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubrec, PacketID: sent[2].PacketID}))
			c.expectAck(wire.TypePubrel, sent[2].PacketID)
			c.finish(sent[3])
			c.ping()
			for range 2 { // and again, and again
				c.drop(w)
				c = w.connect(t, acme.device("d1"), v, kept)
				for _, want := range sent[:2] {
					got := c.next()
					if !got.Dup || got.PacketID != want.PacketID || got.QoS != want.QoS || string(got.Payload) != string(want.Payload) {
						t.Errorf("sent again as %+v, first %+v", got, want)
					}
				}
				c.expectAck(wire.TypePubrel, sent[2].PacketID)
				c.quiet()
			}
			c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubcomp, PacketID: sent[2].PacketID}))
			c.finish(sent[0])
			c.finish(sent[1])
			c.disconnect()
			c = w.connect(t, acme.device("d1"), v, kept)
			c.quiet()
		})
	}
}

func TestReceiveMaximum(t *testing.T) {
	t.Parallel()
	const messages = 200
	for _, maximum := range []int{1, 2, 10} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("%d at QoS %d", maximum, qos), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
				c.listen(qos, "a")
				c.disconnect()
				from := w.connect(t, acme.app("x"), wire.V5)
				for i := range messages {
					from.say("a", fmt.Sprint(i), qos)
				}
				c = w.connect(t, acme.device("d1"), wire.V5, kept, receiveMaximum(uint16(maximum)))
				for i := 0; i < messages; i += maximum {
					var got []*wire.Publish
					for j := range maximum {
						p := c.next()
						if want := fmt.Sprint(i + j); string(p.Payload) != want {
							t.Fatalf("got %s, want %s", p.Payload, want)
						}
						got = append(got, p)
					}
					c.quiet() // not one more
					for _, p := range got {
						c.finish(p)
					}
				}
				c.quiet()
			})
		}
	}
}

// A client that returns with a smaller Receive Maximum gets no more than that of
// what was in flight before [MQTT-3.3.4-9].
func TestReceiveMaximumOnResend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	c.listen(1, "a")
	from := w.connect(t, acme.app("x"), wire.V5)
	for i := range 10 {
		from.say("a", fmt.Sprint(i), 1)
		c.next()
	}
	c.drop(w)
	from.say("a", "10", 1)
	c = w.connect(t, acme.device("d1"), wire.V5, kept, receiveMaximum(2))
	waiting := []*wire.Publish{c.next(), c.next()}
	for i := range 11 {
		c.quiet()
		p := waiting[0]
		if string(p.Payload) != fmt.Sprint(i) || p.Dup != (i < 10) {
			t.Fatalf("message %d is %s, DUP %v", i, p.Payload, p.Dup)
		}
		waiting = waiting[1:]
		c.finish(p)
		if i < 9 {
			waiting = append(waiting, c.next())
		}
	}
	c.quiet()
}

// Packet identifiers of the two directions have nothing to do with each other.
func TestPacketIdentifiersBothWays(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v)
			c.listen(2, "to/#")
			from := w.connect(t, acme.app("x"), wire.V5)
			from.listen(2, "from/#")
			const ids = 20
			in := map[uint16]*wire.Publish{}
			for i := range ids {
				from.say("to/it", fmt.Sprint(i), 2)
				p := c.next()
				in[p.PacketID] = p
			}
			for id := uint16(1); id <= ids; id++ { // all of them open in the other direction
				if in[id] == nil {
					t.Fatalf("the broker did not use identifier %d", id)
				}
				c.Send(wiretest.Publish(v, &wire.Publish{Topic: []byte("from/it"), Payload: []byte("x"), QoS: 2, PacketID: id}))
			}
			for id := uint16(1); id <= ids; id++ {
				c.expectAck(wire.TypePubrec, id)
				from.hear("from/it", "x")
			}
			for id := uint16(1); id <= ids; id++ {
				c.finish(in[id])
				c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubrel, PacketID: id}))
				c.expectAck(wire.TypePubcomp, id)
			}
			c.quiet()
			from.quiet()
		})
	}
}

// A message that arrives twice under one identifier is one message, until it is
// released [MQTT-4.3.3-10].
func TestInboundDuplicates(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			listener := w.connect(t, acme.app("x"), wire.V5)
			listener.listen(2, "a")
			c := w.connect(t, acme.device("d1"), v, kept)
			publish := func(payload string, dup bool) {
				c.Send(wiretest.Publish(v, &wire.Publish{Topic: []byte("a"), Payload: []byte(payload), QoS: 2, PacketID: 7, Dup: dup}))
				c.expectAck(wire.TypePubrec, 7)
			}
			release := func(want wire.Code) {
				c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubrel, PacketID: 7}))
				if a := c.expectAck(wire.TypePubcomp, 7); v == wire.V5 && a.Code != want {
					t.Errorf("PUBCOMP %s, want %s", a.Code, want)
				}
			}
			publish("first", false)
			publish("first", true)
			c.drop(w)
			c = w.connect(t, acme.device("d1"), v, kept)
			publish("first", true) // also after a return
			release(wire.Success)
			release(wire.PacketIdentifierNotFound)
			publish("second", false) // the identifier is free again
			release(wire.Success)
			listener.hear("a", "first")
			listener.hear("a", "second")
			listener.quiet()
		})
	}
}

// Acknowledgements of what was never sent change nothing.
func TestStrayAcknowledgements(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	c.listen(2, "a")
	c.send(message("a", "x", 2))
	c.expectAck(wire.TypePubrec, c.lastID)
	p := c.next()
	for _, stray := range []wire.Ack{
		{Kind: wire.TypePuback, PacketID: 99},
		{Kind: wire.TypePuback, PacketID: p.PacketID},  // it is QoS 2
		{Kind: wire.TypePubcomp, PacketID: p.PacketID}, // not received yet
		{Kind: wire.TypePubrec, PacketID: 99, Code: wire.UnspecifiedError},
	} {
		c.Send(wiretest.Ack(wire.V5, stray))
		c.quiet()
	}
	c.Send(wiretest.Ack(wire.V5, wire.Ack{Kind: wire.TypePubrec, PacketID: 99}))
	if a := c.expectAck(wire.TypePubrel, 99); a.Code != wire.PacketIdentifierNotFound {
		t.Errorf("PUBREL %s", a.Code)
	}
	c.finish(p)
	c.ping()
}

func TestNoLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5)
	c.subscribeWith(&wire.Subscribe{Filters: []wire.Subscription{{Filter: "a", QoS: 1, NoLocal: true}}})
	c.say("a", "its own", 1)
	from := w.connect(t, acme.app("x"), wire.V5)
	c.silence(from, "a", "a")
}

// What is larger than the client takes is not sent, and counts as delivered
// [MQTT-3.1.2-25].
func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5, func(pk *wire.Connect) { pk.MaximumPacketSize = 100 }, receiveMaximum(1))
	c.listen(1, "a")
	from := w.connect(t, acme.app("x"), wire.V5)
	from.say("a", string(make([]byte, 200)), 1)
	from.say("a", string(make([]byte, 200)), 0)
	c.silence(from, "a", "a")
}
