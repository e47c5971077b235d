package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// scene is where a story is played: an organisation whose clients speak v.
type scene struct {
	t    *testing.T
	w    *world
	acme *organisation
	v    wire.Version
}

func (s scene) connect(who string, options ...option) *client {
	s.t.Helper()
	return s.w.connect(s.t, s.acme.device(who), s.v, options...)
}

// away is a kept session of d2 without a connection, subscribed to a.
func (s scene) away() {
	s.t.Helper()
	c := s.connect("d2", kept)
	c.listen(2, "a")
	c.disconnect()
}

// promise is something that may be said only once it is stored: act asks c's
// broker for it, answer is what c hears then.
type promise struct {
	c           *client
	act, answer func()
}

// promises are what design says is committed before it is answered.
var promises = map[string]func(scene) promise{
	"PUBACK after the message in a queue": func(s scene) promise {
		s.away()
		c := s.connect("d1")
		var id uint16
		return promise{c, func() { id = c.send(message("a", "x", 1)) }, func() { c.expectAck(wire.TypePuback, id) }}
	},
	"PUBACK after the message for who is online": func(s scene) promise {
		there := s.connect("d2", kept)
		there.listen(1, "a")
		c := s.connect("d1")
		var id uint16
		return promise{c, func() { id = c.send(message("a", "x", 1)) }, func() { c.expectAck(wire.TypePuback, id) }}
	},
	"PUBREC after the message in a queue": func(s scene) promise {
		s.away()
		c := s.connect("d1")
		var id uint16
		return promise{c, func() { id = c.send(message("a", "x", 2)) }, func() { c.expectAck(wire.TypePubrec, id) }}
	},
	"PUBREC after the packet identifier": func(s scene) promise {
		c := s.connect("d1", kept)
		var id uint16
		return promise{c, func() { id = c.send(message("nobody", "x", 2)) }, func() { c.expectAck(wire.TypePubrec, id) }}
	},
	"PUBREC again after the packet identifier": func(s scene) promise {
		c := s.connect("d1", kept)
		p := message("nobody", "x", 2)
		again := func() { c.expectAck(wire.TypePubrec, p.PacketID) }
		return promise{c, func() { c.send(p); p.Dup = true; c.send(p) }, func() { again(); again() }}
	},
	"PUBCOMP after the packet identifier is gone": func(s scene) promise {
		c := s.connect("d1", kept)
		id := c.send(message("nobody", "x", 2))
		c.expectAck(wire.TypePubrec, id)
		return promise{
			c, func() { c.Send(wiretest.Ack(s.v, wire.Ack{Kind: wire.TypePubrel, PacketID: id})) },
			func() { c.expectAck(wire.TypePubcomp, id) },
		}
	},
	"PUBACK after what is retained": func(s scene) promise {
		c := s.connect("d1")
		var id uint16
		return promise{c, func() { id = c.send(retained("a", "x", 1)) }, func() { c.expectAck(wire.TypePuback, id) }}
	},
	"PUBACK after what was retained is gone": func(s scene) promise {
		c := s.connect("d1")
		c.retain("a", "x", 1)
		var id uint16
		return promise{c, func() { id = c.send(retained("a", "", 1)) }, func() { c.expectAck(wire.TypePuback, id) }}
	},
	"SUBACK after the subscription": func(s scene) promise {
		c := s.connect("d1", kept)
		return promise{c, func() { c.sendSubscribe("a") }, func() { c.Expect(wire.TypeSuback) }}
	},
	"UNSUBACK after the subscription is gone": func(s scene) promise {
		c := s.connect("d1", kept)
		c.listen(1, "a")
		return promise{
			c, func() { c.Send(wiretest.Unsubscribe(s.v, &wire.Unsubscribe{PacketID: c.id(), Filters: []string{"a"}})) },
			func() { c.Expect(wire.TypeUnsuback) },
		}
	},
	"CONNACK after the session": func(s scene) promise {
		c := s.w.dial(s.t, s.v)
		return promise{
			c, func() { c.Send(wiretest.Connect(connectPacket(s.acme.device("d1"), s.v, kept))) },
			func() { c.Expect(wire.TypeConnack) },
		}
	},
	"CONNACK after the end of the session before": func(s scene) promise {
		s.connect("d1", kept).disconnect()
		c := s.w.dial(s.t, s.v)
		return promise{
			c, func() { c.Send(wiretest.Connect(connectPacket(s.acme.device("d1"), s.v))) },
			func() { c.Expect(wire.TypeConnack) },
		}
	},
	"PUBLISH at QoS 2 after its packet identifier": func(s scene) promise {
		c := s.connect("d1", kept)
		c.listen(2, "a")
		from := s.connect("d2")
		return promise{c, func() { from.send(message("a", "x", 2)) }, func() { c.next() }}
	},
	"PUBREL after the PUBREC": func(s scene) promise {
		c := s.connect("d1", kept)
		c.listen(2, "a")
		s.connect("d2").say("a", "x", 2)
		id := c.next().PacketID
		return promise{
			c, func() { c.Send(wiretest.Ack(s.v, wire.Ack{Kind: wire.TypePubrec, PacketID: id})) },
			func() { c.expectAck(wire.TypePubrel, id) },
		}
	},
}

func TestCommittedBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for name, begin := range promises {
			t.Run(fmt.Sprintf("MQTT %s %s", v, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, bundle)
					p := begin(scene{t, w, w.org("acme01"), v})
					synctest.Wait()
					w.store.hold()
					p.act()
					p.c.nothing()
					if w.store.holds() == 0 {
						t.Error("nothing is to be stored")
					}
					w.store.release()
					p.answer()
				})
			})
		}
	}
}

// Who has nothing to keep does not wait for the disk, and does not wear it out.
func TestWhatIsNotKeptNeverTouchesTheStore(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: limited(`"inflight_max": 2`)}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v, withWill(wire.Will{Topic: "a", Payload: []byte("will"), QoS: 1}))
			from := w.connect(t, acme.device("d2"), v)
			c.listen(2, "to/+")
			from.listen(1, "from", "a")
			for qos := range byte(3) {
				from.say("to/it", "x", qos)
				c.hear("to/it", "x")
				c.say("from", "x", qos)
				from.hear("from", "x")
			}
			for i := range 5 { // more than the window takes
				from.say("to/it", fmt.Sprint(i), 2)
			}
			for i := range 5 {
				c.hear("to/it", fmt.Sprint(i))
			}
			c.unsubscribe("to/+")
			w.connect(t, acme.device("d1"), v).ping() // takes over
			from.hear("a", "will")
			if n := w.store.changes(); n != 0 {
				t.Errorf("%d commits", n)
			}

			stays := w.connect(t, acme.device("d1"), v, kept)
			stays.listen(2, "a")
			before := w.store.changes()
			from.say("a", "QoS 0", 0)
			stays.hear("a", "QoS 0")
			if n := w.store.changes() - before; n != 0 {
				t.Errorf("%d commits for a message at QoS 0", n)
			}
		})
	}
}

// Acknowledgements leave in the order in which the messages came, although some
// messages have to be stored and others have not [MQTT-4.6.0-2] [MQTT-4.6.0-3].
func TestAcknowledgementsStayInOrder(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	for _, v := range versions {
		for qos, kind := range map[byte]wire.Type{1: wire.TypePuback, 2: wire.TypePubrec} {
			t.Run(fmt.Sprintf("MQTT %s QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, bundle)
					s := scene{t, w, w.org("acme01"), v}
					s.away()
					from := s.connect("d1")
					w.store.hold()
					for range 3 {
						from.send(message("a", "to be stored", qos))
						from.send(message("nobody", "not to be stored", qos))
					}
					from.nothing()
					w.store.release()
					for id := uint16(1); id <= 6; id++ {
						from.expectAck(kind, id)
					}
					from.nothing()
				})
			})
		}
	}
}

// What one client publishes on one topic arrives in that order, although QoS 2
// waits for the store and QoS 1 does not [MQTT-4.6.0-6].
func TestOrderOfAPublisher(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"kept": {kept}, "clean": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: limited(`"inflight_max": 7`)}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), wire.V5, append(options, func(c *wire.Connect) { c.ReceiveMaximum = 65535 })...)
			c.listen(2, "a")
			from := w.connect(t, acme.device("d2"), wire.V311)
			const messages = 60
			for i := range messages {
				from.send(message("a", fmt.Sprint(i), byte(1+i%2)))
			}
			for i := range messages {
				c.hear("a", fmt.Sprint(i))
			}
			c.quiet()
		})
	}
}

// While the disk is behind, what one packet needs of it is one commit.
func TestOnePacketIsOneCommit(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		s := scene{t, w, w.org("acme01"), wire.V5}
		s.away()
		c := s.connect("d1", kept)
		c.listen(1, "a")
		time.Sleep(time.Second)
		before := w.store.changes()
		c.publish(message("a", "to two sessions", 1))
		if n := w.store.changes() - before; n != 1 {
			t.Errorf("%d commits for one message to two sessions", n)
		}
	})
}
