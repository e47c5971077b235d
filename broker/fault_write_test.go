package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
)

var errDisk = errors.New("the disk is on fire")

// faults are the ways in which a store takes no writes: one that are not
// written, and one after a sync that failed, when nothing can be promised.
var faults = map[string]func(*tap, bool){
	"write error": func(p *tap, on bool) { p.FailCommits(faultOr(errDisk, on)) },
	"sync error":  func(p *tap, on bool) { p.FailAnswers(faultOr(fmt.Errorf("%w: sync", store.ErrFailed), on)) },
}

func faultOr(err error, on bool) error {
	if !on {
		return nil
	}
	return err
}

// What cannot be stored is refused, to whom there is a word for that, and ends
// the connection of the others. Nothing else is harmed, and once the store is
// well again everything is.
func TestPublishThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for name, fail := range faults {
		for _, v := range versions {
			for _, qos := range []byte{1, 2} {
				t.Run(fmt.Sprintf("%s, MQTT %s QoS %d", name, v, qos), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, rules{}.bundle(t))
					s := scene{t, w, w.org("acme01"), v}
					s.away()
					from := s.connect("d1", kept)
					from.say("a", "before", qos)
					fail(w.store, true)
					p := message("a", "refused", qos)
					if v == wire.V5 {
						if ack := from.publish(p); ack.Code != wire.QuotaExceeded {
							t.Errorf("answered %s", ack.Code)
						}
					} else {
						from.send(p)
						from.expectGone()
					}
					fail(w.store, false)
					if v != wire.V5 {
						from = s.resume("d1")
						from.lastID = p.PacketID
					}
					from.say("a", "after", qos)
					p.Payload, p.Dup = []byte("sent again"), v != wire.V5
					from.publish(p)
					c := s.resume("d2")
					c.hear("a", "before")
					c.hear("a", "after")
					c.hear("a", "sent again")
					c.quiet()
					if len(w.log.find("msg", "not stored")) == 0 {
						t.Error("nobody is told")
					}
					w.nothingQueuedBut(map[string]int{"write error": 0, "sync error": 1}[name])
				})
			}
		}
	}
}

// nothingQueuedBut waits until the queues in the store have n entries left: what
// was reported as failed may have been written all the same.
func (w *world) nothingQueuedBut(n int) {
	w.t.Helper()
	eventually(w.t, func() bool { return len(w.stored(store.KindQueue)) <= n })
}

// While nothing can be stored, what need not be stored goes on.
func TestOthersGoOnWithoutTheStore(t *testing.T) {
	t.Parallel()
	broken := map[string]func(p *tap, on bool){"stalled": (*tap).stall}
	for name, fail := range faults {
		broken[name] = fail
	}
	for name, fail := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			s := scene{t, w, w.org("acme01"), wire.V5}
			s.away()
			victim := s.connect("d1")
			stays := w.connect(t, s.acme.app("stays"), wire.V5, keptClean)
			stays.listen(1, "b")
			clean := w.connect(t, s.acme.app("x"), wire.V5)
			clean.listen(2, "c/#")
			fail(w.store, true)
			id := victim.send(message("a", "cannot be stored now", 1))
			if name == "stalled" {
				eventually(t, func() bool { return w.store.stalls() > 0 })
			}
			globex := w.org("globex")
			there := w.connect(t, globex.device("d1"), wire.V311)
			from := w.connect(t, globex.device("d2"), wire.V5)
			there.listen(2, "a")
			for qos := range byte(3) {
				from.say("a", "in another organisation", qos)
				there.hear("a", "in another organisation")
				clean.say("c/d", "in the same", qos)
				clean.hear("c/d", "in the same")
			}
			clean.say("b", "QoS 0 to a kept session", 0)
			stays.hear("b", "QoS 0 to a kept session")
			if name == "stalled" {
				fail(w.store, false)
			}
			ack := victim.expectAck(wire.TypePuback, id)
			if ack.Code.Failed() != (name != "stalled") {
				t.Errorf("answered %s", ack.Code)
			}
			fail(w.store, false)
		})
	}
}

// What a session asks to have kept and cannot be, ends its connection: nothing
// is promised that a crash would take back.
func TestSessionThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			s := scene{t, w, w.org("acme01"), v}
			s.away()
			c := s.connect("d1", kept)
			w.store.FailCommits(errDisk)
			c.sendSubscribe("b")
			c.expectGone()
			refused := w.answer(t, s.acme.device("d1"), v, kept)
			want := wire.QuotaExceeded
			if v != wire.V5 {
				want = 3 // server unavailable
			}
			if refused.ack.Code != want || refused.ack.SessionPresent {
				t.Errorf("answered %s, session present %v", refused.ack.Code, refused.ack.SessionPresent)
			}
			refused.ExpectClosed()
			w.connect(t, s.acme.app("clean"), v).disconnect() // it needs no store
			w.store.FailCommits(nil)
			s.connect("d1").say("a", "x", 1)
			s.resume("d2").hear("a", "x")
		})
	}
}

// A retained message whose fan-out could not be stored is no place for others to
// share: who gets it later has it in a place that is there.
func TestSharedBodyThatCouldNotBeStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	for _, who := range []string{"d1", "d2"} {
		c := s.connect(who, kept)
		c.listen(1, "a")
		c.disconnect()
	}
	from := w.connect(t, s.acme.app("x"), wire.V5)
	w.store.FailCommits(errDisk)
	if ack := from.publish(retained("a", "x", 1)); ack.Code != wire.QuotaExceeded {
		t.Errorf("answered %s", ack.Code)
	}
	w.store.FailCommits(nil)
	late := w.connect(t, s.acme.free("late", "late"), wire.V5, keptClean)
	late.listen(1, "a")
	late.next()
	late.quiet() // not acknowledged
	w.store.settle()
	for range 2 {
		s = s.after((*world).image)
		if s.w.restored.Dropped != 0 {
			t.Errorf("restored %+v", s.w.restored)
		}
		late = s.w.connect(t, s.acme.free("late", "late"), wire.V5, kept)
		if p := late.next(); string(p.Payload) != "x" || !p.Dup {
			t.Errorf("got %+v", p)
		}
	}
}

// When space is short, QoS 1 and 2 are refused and everything else goes on; when
// there is room again, so do they. It is never acknowledged and dropped.
func TestShortOfSpace(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			s := scene{t, w, w.org("acme01"), v}
			s.away()
			from := s.connect("d1")
			from.say("a", "queued before", 1)
			w.broker.SetShort(true)
			for i := range 5 {
				qos := byte(1 + i%2)
				if v == wire.V5 {
					if ack := from.publish(message("a", "refused", qos)); ack.Code != wire.QuotaExceeded {
						t.Errorf("answered %s", ack.Code)
					}
					continue
				}
				from.send(message("a", "refused", qos))
				from.expectGone()
				from = s.connect("d1")
			}
			c := s.resume("d2")
			c.hear("a", "queued before")
			c.listen(2, "b")
			from.say("b", "QoS 0", 0)
			c.hear("b", "QoS 0")
			w.broker.SetShort(false)
			from.say("a", "there is room", 2)
			c.hear("a", "there is room")
			c.quiet()
		})
	}
}
