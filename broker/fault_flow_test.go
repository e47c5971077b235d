package broker_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// A reader that stops holds at most what is left of the memory for all; who
// holds little finds room, and others' messages flow.
func TestStuckReaderYieldsFirst(t *testing.T) {
	t.Parallel()
	const buffer = 4 << 20
	w := newWorldOn(t, rules{connect: limited(`"inflight_max": 10`)}.bundle(t), memstore.NewDisk(), broker.Config{Buffer: buffer})
	s := scene{t, w, w.org("acme01"), wire.V5}
	s.away()
	stuck := w.connect(t, s.acme.app("stuck"), wire.V5)
	stuck.listen(0, "flood")
	reads := w.connect(t, s.acme.free("reads", "r"), wire.V311)
	reads.listen(1, "flood/reads", "b")
	from := s.connect("d1")
	payload := strings.Repeat("x", 64<<10)
	const messages = 3 * buffer >> 16
	for range messages {
		from.say("flood", payload, 0)
	}
	const little = 20
	for i := range little { // to a queue that holds next to nothing
		from.say("a", fmt.Sprint(i, payload[:5000]), 1)
		from.say("b", "x", 1)
		reads.hear("b", "x")
	}
	c := s.resume("d2")
	for i := range little {
		c.hear("a", fmt.Sprint(i, payload[:5000]))
	}
	c.quiet()
	stuck.ping()
	if n := len(stuck.inbox); n == 0 || n >= messages/2 {
		t.Errorf("a reader that stopped has %d of %d messages, with room for %d", n, messages, buffer>>16)
	}
}

// The client uses packet identifiers 1 to 20 while the broker does, and a crash
// comes in between: no direction takes the other's for its own.
func TestPacketIdentifiersCollide(t *testing.T) {
	t.Parallel()
	eachEnd(t, rules{}, func(s scene, end ending) {
		c := s.connect("d1", kept)
		c.listen(2, "to")
		other := s.connect("d2", kept)
		other.listen(2, "from")
		const ids = 20
		for i := range ids {
			other.say("to", fmt.Sprint(i), 2)
			c.expectAck(wire.TypePubrec, c.send(message("from", fmt.Sprint(i), 2)))
		}
		var in []*wire.Publish
		for range ids {
			in = append(in, c.next())
		}
		s = s.after(end)
		last := c.lastID
		c, other = s.resume("d1"), s.resume("d2")
		for _, p := range in {
			if again := c.next(); again.PacketID != p.PacketID || !again.Dup {
				s.t.Errorf("sent again as %+v, first %+v", again, p)
			}
		}
		for i, p := range in {
			c.finish(p)
			c.answerAs(wire.TypePubrel, last-uint16(i))
			if a := c.expectAck(wire.TypePubcomp, last-uint16(i)); a.Code != wire.Success {
				s.t.Errorf("PUBCOMP %s", a.Code)
			}
		}
		for i := range ids {
			other.hear("from", fmt.Sprint(i))
		}
		c.quiet()
		other.quiet()
		if n := len(s.w.stored(store.KindInbound)); n != 0 {
			s.t.Errorf("%d packet identifiers are left", n)
		}
	})
}

// A thousand messages that waited arrive in order through the smallest windows,
// never more at a time than the client takes.
func TestReceiveMaximumAfterARestart(t *testing.T) {
	t.Parallel()
	const messages = 1000
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	maxima := []int{1, 2, 10}
	who := func(n int) login { return s.acme.free("many", fmt.Sprint(n)) }
	for _, n := range maxima {
		c := w.connect(t, who(n), wire.V5, kept)
		c.listen(byte(1+n%2), "a")
		c.disconnect()
	}
	from := s.connect("d1")
	for i := range messages {
		from.send(message("a", fmt.Sprint(i), 2))
		from.expectAck(wire.TypePubrec, from.lastID)
		from.answerAs(wire.TypePubrel, from.lastID)
		from.expectAck(wire.TypePubcomp, from.lastID)
	}
	s = s.after((*world).shut)
	for _, most := range maxima {
		c := s.w.connect(t, who(most), wire.V5, kept, receiveMaximum(uint16(most)))
		c.completes = true
		var open []*wire.Publish
		for i := range messages {
			p := c.next()
			if string(p.Payload) != fmt.Sprint(i) {
				t.Fatalf("got %s, want %d", p.Payload, i)
			}
			if open = append(open, p); len(open) == most {
				if i%100 == 0 {
					c.quiet()
				}
				c.finish(open[0])
				open = open[1:]
			}
		}
		for _, p := range open {
			c.finish(p)
		}
		c.quiet()
	}
	s.w.nothingQueued()
}

// However many connections fight for one client ID, one has it in the end, and a
// kept session is whole: one record of it, its subscription and what it queued.
func TestDoubleConnectStorm(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"kept": {kept}, "clean": nil} {
		for _, v := range []wire.Version{wire.V311, wire.V5} {
			t.Run(fmt.Sprintf("%s MQTT %s", name, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				s := scene{t, w, w.org("acme01"), v}
				first := s.connect("d1", options...)
				first.listen(1, "a")
				from := s.connect("d2")
				if name == "kept" {
					first.disconnect()
					from.say("a", "queued before", 1)
				}
				const rivals, rounds = 6, 10
				conns := make([]net.Conn, rivals*rounds)
				var wg sync.WaitGroup
				for i := range rivals {
					wg.Go(func() {
						for j := range rounds {
							conn := w.net.Dial()
							conns[i*rounds+j] = conn
							_, _ = conn.Write(wiretest.Connect(connectPacket(s.acme.device("d1"), v, options...)))
							_ = conn.SetReadDeadline(time.Now().Add(wiretest.Patience))
							_, _ = conn.Read(make([]byte, 1)) // some answer, or the end
						}
					})
				}
				wg.Wait()
				c := s.connect("d1", options...)
				for _, conn := range conns { // every other one is ended
					_ = conn.SetReadDeadline(time.Now().Add(wiretest.Patience))
					if _, err := io.Copy(io.Discard, conn); err != nil {
						t.Fatalf("a rival is still connected: %v", err)
					}
				}
				if c.ack.SessionPresent != (name == "kept") {
					t.Errorf("session present %v", c.ack.SessionPresent)
				}
				w.store.settle()
				if name == "clean" {
					if n := w.store.changes(); n != 0 {
						t.Errorf("%d commits", n)
					}
					c.quiet()
					return
				}
				if n := len(w.stored(store.KindSession)); n != 1 {
					t.Errorf("%d sessions in the store", n)
				}
				c.hear("a", "queued before")
				from.say("a", "to the one that is left", 1)
				c.hear("a", "to the one that is left")
				c.quiet()
				s.after((*world).shut).resume("d1").quiet()
			})
		}
	}
}

// What is retained under ten thousand topics arrives complete at one wildcard,
// whatever the queue and the window take at a time.
func TestManyRetainedMessages(t *testing.T) {
	t.Parallel()
	const topics = 10_000
	w := newWorld(t, rules{connect: limited(`"queue_messages": 20, "inflight_max": 10`)}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	from := s.connect("d1")
	for i := range topics {
		from.send(retained(fmt.Sprintf("r/%05d", i), "x", 0))
	}
	from.ping()
	for qos := range byte(2) {
		c := s.connect("d2", kept)
		c.listen(qos, "r/+")
		c.completes = true
		seen := map[string]bool{}
		for len(seen) < topics {
			p := c.take()
			if name := string(p.Topic); seen[name] {
				t.Fatalf("%s came twice", name)
			} else {
				seen[name] = true
			}
		}
		c.quiet()
	}
}
