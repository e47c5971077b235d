package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// A client may have as many QoS 2 messages open as the CONNACK said, and not one
// more. QoS 1 messages are acknowledged before the next packet is read, so they
// are never open [MQTT-3.3.4-7] [MQTT-4.13.1-1].
func TestReceiveMaximumOfTheServer(t *testing.T) {
	t.Parallel()
	w := newOpenWorld(t)
	c := w.join("c", wire.V5)
	most := c.ack.ReceiveMaximum
	if most == 0 {
		t.Fatal("no Receive Maximum in CONNACK")
	}
	open := func(id uint16) {
		c.Send(wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("a"), QoS: 2, PacketID: id}))
	}
	for id := range most {
		open(id + 1)
		c.expectAck(wire.TypePubrec, id+1)
	}
	c.lastID = most + 1
	c.say("a", "QoS 1 goes on", 1) // nothing but PUBLISH at QoS 2 is held up [MQTT-4.9.0-3]
	c.say("a", "QoS 0 goes on", 0)
	open(1) // a repeated one is none more
	c.expectAck(wire.TypePubrec, 1)
	c.Send(wiretest.Ack(wire.V5, wire.Ack{Kind: wire.TypePubrel, PacketID: 1}))
	c.expectAck(wire.TypePubcomp, 1)
	open(60000) // in its place
	c.expectAck(wire.TypePubrec, 60000)
	open(60001)
	if d := c.expectGone(); d.Code != wire.ReceiveMaximumExceeded {
		t.Errorf("told %s", d.Code)
	}
}

// A client whose Receive Maximum is used up is sent every other packet
// [MQTT-3.3.4-10] [MQTT-4.9.0-2] [MQTT-4.9.0-3].
func TestNothingElseWaitsForTheReceiveMaximum(t *testing.T) {
	t.Parallel()
	w := newOpenWorld(t)
	c := w.join("c", wire.V5, receiveMaximum(1))
	c.listen(2, "a")
	from := w.join("from", wire.V5)
	from.say("a", "1", 1)
	from.say("a", "2", 2)
	from.say("a", "3", 1)
	first := c.next()
	from.say("a", "QoS 0", 0)
	c.hear("a", "QoS 0")
	c.listen(1, "b")
	c.unsubscribe("b")
	c.say("nobody", "x", 2)
	c.quiet()
	c.finish(first)
	second := c.next()
	c.Send(wiretest.Ack(wire.V5, wire.Ack{Kind: wire.TypePubrec, PacketID: second.PacketID}))
	c.expectAck(wire.TypePubrel, second.PacketID)
	c.quiet() // PUBREC is half of it: room is made by PUBCOMP
	c.Send(wiretest.Ack(wire.V5, wire.Ack{Kind: wire.TypePubcomp, PacketID: second.PacketID}))
	c.hear("a", "3")
}

// The Maximum Packet Size of a client is met to the byte, with all that the
// broker adds, and what is larger counts as delivered [MQTT-3.1.2-24]
// [MQTT-3.1.2-25].
func TestMaximumPacketSizeIsMetToTheByte(t *testing.T) {
	t.Parallel()
	const most = 200
	for _, aliases := range []uint16{0, 64} {
		for qos := range byte(3) {
			w := newOpenWorld(t)
			c := w.join("c", wire.V5, receiveMaximum(1), func(pk *wire.Connect) {
				pk.MaximumPacketSize, pk.TopicAliasMaximum = most, aliases
			})
			c.subscribeWith(&wire.Subscribe{SubscriptionID: 300, Filters: []wire.Subscription{{Filter: "topic/+", QoS: qos}}})
			from := w.join("from", wire.V5)
			largest := 0
			for size := most - 40; size < most+5; size++ {
				from.say(fmt.Sprint("topic/", size), strings.Repeat("x", size), qos) // a new topic: a new alias with its name
				from.say("topic/small", "small", qos)
				p := c.take()
				if string(p.Payload) == "small" {
					continue
				}
				packet := wire.Publish{
					Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, PacketID: p.PacketID, TopicAlias: p.TopicAlias,
					SubscriptionIDs: p.SubscriptionIDs,
				}
				largest = max(largest, wire.SizePublish(wire.V5, &packet))
				if s := c.take(); string(s.Payload) != "small" {
					t.Fatalf("got %.10q", s.Payload)
				}
			}
			// A few bytes are kept for an alias, needed or not.
			if largest > most || largest < most-16 {
				t.Errorf("QoS %d, %d aliases: largest packet %d bytes, may be %d", qos, aliases, largest, most)
			}
		}
	}
}

// A CONNACK that the client could not take is not sent [MQTT-3.1.2-24]; reason
// strings are left out before that [MQTT-3.2.2-19].
func TestConnackFitsTheClient(t *testing.T) {
	t.Parallel()
	w := newOpenWorld(t)
	c := w.answer(t, anybody("c"), wire.V5, func(pk *wire.Connect) {
		pk.MaximumPacketSize, pk.AuthMethod, pk.HasAuthMethod = 10, "m", true
	})
	if c.ack.Code != wire.BadAuthenticationMethod || c.ack.ReasonString != "" {
		t.Errorf("CONNACK %+v", c.ack)
	}
	if more := c.ExpectClosed(); len(more) > 0 {
		t.Errorf("after a refusal: %+v", more)
	}
}

// Whatever is wrong, a client of MQTT 3.x is never sent a DISCONNECT: it has no
// such packet from a server.
func TestNoDisconnectForOlderVersions(t *testing.T) {
	t.Parallel()
	for _, v := range []wire.Version{wire.V31, wire.V311} {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newOpenWorld(t)
			for name, packet := range map[string]string{
				"malformed":         `36 [ s"a" 0001 "x" ]`,
				"protocol error":    `20 [ 0000 ]`,
				"too large":         `30 80 80 40`,
				"second CONNECT":    `10 [ s"MQTT" 04 02 003c s"c" ]`,
				"AUTH":              `f0 [ 18 00 ]`,
				"reserved topic":    `32 [ s"$SYS/x" 0001 "x" ]`,
				"wildcard in topic": `30 [ s"a/#" "x" ]`,
				"filter":            `82 [ 0001 s"a/#/b" 00 ]`,
				"goodbye":           `e0 []`,
			} {
				c := w.join("c", v)
				c.Send(wiretest.MustBytes(packet))
				if said := c.ExpectClosed(); len(said) > 0 {
					t.Errorf("%s: told %+v", name, said)
				}
			}
			old := w.join("c", v)
			w.join("c", v).ping()
			if said := old.ExpectClosed(); len(said) > 0 {
				t.Errorf("take-over: told %+v", said)
			}
			must(t, w.broker.Shutdown(t.Context()))
		})
	}
}

// An assigned client identifier is unique, told to the client, and as good as
// one of its own: the session can be resumed by it [MQTT-3.1.3-6] [MQTT-3.1.3-7]
// [MQTT-3.2.2-16].
func TestAssignedClientIdentifier(t *testing.T) {
	t.Parallel()
	w := newOpenWorld(t)
	seen := map[string]bool{}
	for range 20 {
		c := w.join("", wire.V5, keptClean)
		id := c.ack.AssignedClientID
		if id == "" || seen[id] || c.ack.SessionPresent {
			t.Fatalf("CONNACK %+v, seen %v", c.ack, seen[id])
		}
		seen[id] = true
		c.disconnect()
		if again := w.join(id, wire.V5, kept); !again.ack.SessionPresent || again.ack.AssignedClientID != "" {
			t.Errorf("with the assigned identifier: %+v", again.ack)
		}
	}
	// Without a clean start too, as nothing can be resumed.
	if c := w.join("", wire.V5, kept); c.ack.AssignedClientID == "" || c.ack.SessionPresent {
		t.Errorf("CONNACK %+v", c.ack)
	}
}

// What waited or was in flight for a client that returns with a smaller Maximum
// Packet Size holds up nothing.
func TestMaximumPacketSizeAfterAReturn(t *testing.T) {
	t.Parallel()
	for qos := byte(1); qos <= 2; qos++ {
		w := newOpenWorld(t)
		c := w.join("c", wire.V5, keptClean)
		c.listen(qos, "a")
		from := w.join("from", wire.V5)
		large := strings.Repeat("x", 200)
		from.say("a", large, qos)
		from.say("a", "small, in flight", qos)
		c.next()
		c.next()
		c.drop(w)
		from.say("a", large, qos)
		from.say("a", "small, queued", qos)
		c = w.join("c", wire.V5, kept, receiveMaximum(1), func(pk *wire.Connect) { pk.MaximumPacketSize = 100 })
		c.hear("a", "small, in flight")
		c.hear("a", "small, queued")
		c.quiet()
	}
}
