package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// ending is a way in which a broker stops; the disk is what the next one finds.
type ending func(*world) *memstore.Disk

var endings = map[string]ending{"restart": (*world).shut, "crash": (*world).image}

// eachEnd runs test for every way to stop, in MQTT 3.1.1 and 5.
func eachEnd(t *testing.T, r rules, test func(s scene, end ending)) {
	bundle := r.bundle(t)
	for name, end := range endings {
		for _, v := range []wire.Version{wire.V311, wire.V5} {
			t.Run(fmt.Sprintf("%s MQTT %s", name, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, bundle)
				test(scene{t, w, w.org("acme01"), v}, end)
			})
		}
	}
}

// after is the scene in the world that follows end.
func (s scene) after(end ending) scene { s.t.Helper(); return s.on(end(s.w)) }

// on is the scene in a world on that disk.
func (s scene) on(disk *memstore.Disk) scene {
	s.t.Helper()
	w := s.w.again(disk)
	return scene{s.t, w, w.orgs[s.acme.id.String()], s.v}
}

// resume is connect, and the session must be there.
func (s scene) resume(who string, options ...option) *client {
	s.t.Helper()
	c := s.connect(who, append(options, kept)...)
	if !c.ack.SessionPresent && s.v != wire.V31 { // which has no word for it
		s.t.Fatalf("the session of %s is gone", who)
	}
	return c
}

// answerAs sends one acknowledgement.
func (c *client) answerAs(kind wire.Type, id uint16) {
	c.t.Helper()
	c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: kind, PacketID: id}))
}

// What was sent and not acknowledged is sent again with DUP under the same
// packet identifier; what waited comes after it, in order, and without DUP
// unless it might have been sent.
func TestRestartKeepsTheQueue(t *testing.T) {
	t.Parallel()
	eachEnd(t, rules{connect: limited(`"inflight_max": 2`)}, func(s scene, end ending) {
		t := s.t
		c := s.connect("d1", kept)
		c.listen(2, "a")
		from := s.connect("d2")
		for i := range 6 {
			from.say("a", fmt.Sprint(i), byte(1+i%2))
		}
		before := []*wire.Publish{c.next(), c.next()}

		s = s.after(end)
		if s.w.restored.Sessions != 1 || s.w.restored.Messages != 6 {
			t.Errorf("restored %+v", s.w.restored)
		}
		c = s.resume("d1")
		from = s.connect("d2")
		from.say("a", "6", 1)
		got := []*wire.Publish{c.next(), c.next()}
		c.quiet() // the window is what it was
		for i := range got {
			if p := got[i]; !p.Dup || p.PacketID != before[i].PacketID || p.QoS != before[i].QoS {
				t.Errorf("sent again as %+v, first %+v", p, before[i])
			}
		}
		c.completes = true
		for _, p := range got {
			c.finish(p)
		}
		for i := 2; i < 7; i++ {
			if p := c.hear("a", fmt.Sprint(i)); p.Dup {
				t.Errorf("message %d has DUP, and was never sent", i)
			}
		}
		c.quiet()
		s.w.nothingQueued()
		s.after(end).resume("d1").quiet()
	})
}

// nothingQueued waits until no queue has anything in the store.
func (w *world) nothingQueued() {
	w.t.Helper()
	for _, kind := range []store.Kind{store.KindQueue, store.KindMessage} {
		eventually(w.t, func() bool { return len(w.stored(kind)) == 0 })
	}
}

// stages are the states of an exchange at QoS 2 towards a client. play brings it
// there, and the last change of it is still on its way to the store if lost is set.
var stagesOut = []struct {
	name string
	play func(c *client, hold func())
	dup  bool      // what is sent again: the PUBLISH
	next wire.Type // or else this
}{
	{"sent", func(c *client, _ func()) { c.next() }, true, 0},
	{"PUBREC not stored", func(c *client, hold func()) {
		p := c.next()
		hold()
		c.answerAs(wire.TypePubrec, p.PacketID)
		c.ping()
	}, true, 0},
	{"PUBREC stored", func(c *client, _ func()) {
		p := c.next()
		c.answerAs(wire.TypePubrec, p.PacketID)
		c.expectAck(wire.TypePubrel, p.PacketID)
	}, false, wire.TypePubrel},
	{"PUBCOMP not stored", func(c *client, hold func()) {
		p := c.next()
		c.answerAs(wire.TypePubrec, p.PacketID)
		c.expectAck(wire.TypePubrel, p.PacketID)
		hold()
		c.answerAs(wire.TypePubcomp, p.PacketID)
		c.ping()
	}, false, wire.TypePubrel},
	{"done", func(c *client, _ func()) { c.take(); c.ping() }, false, 0},
}

// Whatever the state in which an exchange at QoS 2 is cut off, it goes on from
// there under the same packet identifier: the client gets the message once.
func TestCrashInEveryStateTowardsTheClient(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for _, stage := range stagesOut {
			t.Run(fmt.Sprintf("MQTT %s %s", v, stage.name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, bundle)
					s := scene{t, w, w.org("acme01"), v}
					c := s.connect("d1", kept)
					c.listen(2, "a")
					s.connect("d2").say("a", "once", 2)
					stage.play(c, w.store.hold)
					synctest.Wait()

					s = s.after((*world).image)
					c = s.resume("d1")
					switch {
					case stage.dup:
						p := c.next()
						if !p.Dup || p.PacketID != 1 || p.QoS != 2 {
							t.Errorf("sent again as %+v", p)
						}
						c.finish(p)
					case stage.next != 0:
						c.expectAck(stage.next, 1)
						c.answerAs(wire.TypePubcomp, 1)
					}
					c.quiet()
					synctest.Wait()
					s.w.nothingQueued()
				})
			})
		}
	}
}

// A message that could not be sent at QoS 2 before the crash, since its packet
// identifier was not stored, was not acknowledged to its publisher either.
func TestCrashBeforeAnythingIsStored(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		s := scene{t, w, w.org("acme01"), wire.V5}
		c := s.connect("d1", kept)
		c.listen(2, "a")
		from := s.connect("d2", kept)
		synctest.Wait()
		w.store.hold()
		from.send(message("a", "lost", 2))
		from.nothing()
		c.nothing()
		s = s.after((*world).image)
		s.resume("d1").quiet()
		from = s.resume("d2")
		p := message("a", "sent again", 2)
		p.PacketID, p.Dup = 1, true
		from.publish(p)
		s.resume("d1").hear("a", "sent again")
	})
}

// Whatever the state in which an exchange at QoS 2 from a client is cut off, the
// client finishes it and its message arrives once.
func TestCrashInEveryStateFromTheClient(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	stages := []struct {
		name    string
		play    func(c *client, p *wire.Publish, hold func())
		publish bool      // the client has no PUBREC yet
		comp    wire.Code // the answer to its PUBREL
	}{
		{"PUBLISH not stored", func(c *client, p *wire.Publish, hold func()) { hold(); c.send(p); c.ping() }, true, wire.Success},
		{"PUBLISH stored", func(c *client, p *wire.Publish, _ func()) { c.send(p); c.expectAck(wire.TypePubrec, 1) }, false, wire.Success},
		{"PUBREC lost", func(c *client, p *wire.Publish, _ func()) { c.send(p); c.expectAck(wire.TypePubrec, 1) }, true, wire.Success},
		{"PUBREL not stored", func(c *client, p *wire.Publish, hold func()) {
			c.send(p)
			c.expectAck(wire.TypePubrec, 1)
			hold()
			c.answerAs(wire.TypePubrel, 1)
			c.ping()
		}, false, wire.Success},
		{"PUBCOMP lost", func(c *client, p *wire.Publish, _ func()) { c.publish(p) }, false, wire.PacketIdentifierNotFound},
	}
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for _, stage := range stages {
			t.Run(fmt.Sprintf("MQTT %s %s", v, stage.name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, bundle)
					s := scene{t, w, w.org("acme01"), v}
					s.away()
					from := s.connect("d1", kept)
					p := message("a", "once", 2)
					p.PacketID = 1
					stage.play(from, p, w.store.hold)
					synctest.Wait()

					s = s.after((*world).image)
					from = s.resume("d1")
					if stage.publish {
						p.Dup = true
						from.send(p)
						from.expectAck(wire.TypePubrec, 1)
					}
					from.answerAs(wire.TypePubrel, 1)
					if a := from.expectAck(wire.TypePubcomp, 1); v == wire.V5 && a.Code != stage.comp {
						t.Errorf("PUBCOMP %s, want %s", a.Code, stage.comp)
					}
					again := message("a", "the identifier is free", 2)
					again.PacketID = 1
					from.publish(again)
					c := s.resume("d2")
					c.hear("a", "once")
					c.hear("a", "the identifier is free")
					c.quiet()
					if n := len(s.w.stored(store.KindInbound)); n != 0 {
						t.Errorf("%d packet identifiers are left", n)
					}
				})
			})
		}
	}
}

// Sequence numbers go on after a restart: what comes then has packet identifiers
// that nothing older has.
func TestPacketIdentifiersGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	eachEnd(t, rules{}, func(s scene, end ending) {
		seen := map[uint16]string{}
		for round := range 3 {
			c := s.connect("d1", kept)
			c.listen(1, "a")
			from := s.connect("d2")
			for i := range 3 {
				from.say("a", fmt.Sprint(round, i), 1)
			}
			for range 3 * (round + 1) {
				p := c.next()
				if old, ok := seen[p.PacketID]; ok && old != string(p.Payload) {
					s.t.Errorf("packet identifier %d is both %q and %q", p.PacketID, old, p.Payload)
				}
				seen[p.PacketID] = string(p.Payload)
			}
			s = s.after(end)
		}
	})
}

// What was sent at QoS 2 and may not be sent again is completed all the same:
// only PUBREL frees its packet identifier at the client, which would take the
// next message under it for a repetition.
func TestExchangeOfAMessageThatMayNotBeSentAgain(t *testing.T) {
	t.Parallel()
	eachEnd(t, rules{}, func(s scene, end ending) {
		for _, stop := range []bool{false, true} { // the broker, too
			c := s.connect("d1", kept)
			c.listen(2, "a")
			s.connect("d2").say("a", "x", 2)
			p := c.next()
			c.unsubscribe("a")
			c.drop(s.w)
			if stop {
				s = s.after(end)
			}
			c = s.resume("d1")
			c.expectAck(wire.TypePubrel, p.PacketID)
			c.answerAs(wire.TypePubcomp, p.PacketID)
			c.quiet()
			s.w.nothingQueued()
		}
	})
}
