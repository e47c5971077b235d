package broker_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// A message to many sessions is stored once, and until the last one has it.
func TestBodyIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	const sessions = 50
	who := func(i int) login { return acme.free("many", fmt.Sprint("c", i)) }
	for i := range sessions {
		c := w.connect(t, who(i), versions[i%3], kept)
		c.listen(byte(1+i%2), "a")
		if i%5 != 0 {
			c.disconnect()
		}
	}
	w.connect(t, acme.app("x"), wire.V5).say("a", "to all of them", 2)
	if n := w.store.puts(store.KindMessage); n != 1 {
		t.Errorf("%d bodies written", n)
	}
	if n := len(w.stored(store.KindQueue)); n != sessions {
		t.Errorf("%d entries", n)
	}
	before := w
	for round, left := range []int{sessions, sessions / 2} { // half of them take it, then the broker restarts
		for i := range sessions / 2 {
			if n := len(w.stored(store.KindMessage)); n != 1 {
				t.Fatalf("%d bodies, and %d sessions wait for it", n, left-i)
			}
			c := w.connect(t, who(round*sessions/2+i), versions[i%3], kept)
			c.hear("a", "to all of them")
			c.ping()
		}
		if round == 0 {
			acme.w = w
			s := scene{t, w, acme, wire.V5}.after((*world).shut)
			w, acme = s.w, s.acme
		}
	}
	w.nothingQueued()
	if n := before.store.puts(store.KindMessage) + w.store.puts(store.KindMessage); n != 1 {
		t.Errorf("%d bodies written in the end", n)
	}
}

// Numbers of shared messages are used again, also after a restart: the keys of
// an organisation stay few.
func TestBodiesUseTheirKeysAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	for range 2 {
		readers := []*client{s.connect("d1", kept), s.connect("d2", kept)}
		from := s.w.connect(t, s.acme.app("x"), wire.V5)
		for _, c := range readers {
			c.listen(1, "a")
		}
		for i := range 100 {
			from.say("a", fmt.Sprint(i), 1)
			for _, c := range readers {
				c.hear("a", fmt.Sprint(i))
				c.ping()
			}
			s.w.nothingQueued()
		}
		if n := s.w.store.names(store.KindMessage); n > 4 {
			t.Errorf("%d keys of shared messages", n)
		}
		s = s.after((*world).shut)
	}
}

// A queue is a ring: behind its last slot it begins again with the first, and
// its messages stay in order across that, also after a crash.
func TestQueueGoesRound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{connect: limited(`"inflight_max": 20`)}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V311}
	c := s.connect("d1", kept)
	c.listen(2, "a")
	c.disconnect()
	keys := durable.In(s.acme.id, 1)
	number, _, _ := durable.Owner(w.stored(store.KindSession)[0])
	disk := w.shut()
	const nearTheEnd = 3*durable.Slots - 30
	write(t, disk, store.Put(keys.Entry(number, durable.Slot(nearTheEnd)), (&durable.Entry{
		Seq: nearTheEnd, QoS: 1, Subs: []uint32{1}, Message: &durable.Message{Topic: routedName(t, "a"), Payload: []byte("0"), QoS: 1},
	}).Append(nil)))
	s = s.on(disk)
	from := s.connect("d2")
	for i := 1; i < 60; i++ {
		from.say("a", fmt.Sprint(i), byte(1+i%2))
	}
	s = s.after((*world).image)
	c = s.resume("d1")
	c.completes = true
	for i := range 60 {
		p := c.hear("a", fmt.Sprint(i))
		if want := durable.Slot(nearTheEnd + uint64(i)); p.PacketID != want {
			t.Fatalf("message %d has packet identifier %d, want %d", i, p.PacketID, want)
		}
	}
	c.quiet()
	s.w.nothingQueued()
}

// A message to more sessions than the store takes in one step is in all of them,
// or in none: killed in between, nobody was told that it is kept.
func TestFanOutLargerThanOneCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	c := w.connect(t, s.acme.free("many", "first"), wire.V5, keptClean)
	c.listen(1, "a")
	c.disconnect()
	disk := w.shut()
	const sessions = store.MaxBatchOps + 16
	write(t, disk, s.multiply(sessions-1)...)
	s = s.on(disk)
	w = s.w
	if w.restored.Sessions != sessions || w.restored.Subscriptions != sessions {
		t.Fatalf("restored %+v", w.restored)
	}

	from := s.connect("d1")
	w.store.hold()
	from.send(message("a", "x", 1))
	eventually(t, func() bool { return w.store.holds() == 2 })
	w.store.pass(1)
	w.store.settle()
	half := w.image()
	from.quiet() // no PUBACK
	w.store.release()
	from.expectAck(wire.TypePuback, 1)
	if n, bodies := len(w.stored(store.KindQueue)), len(w.stored(store.KindMessage)); n != sessions || bodies != 1 {
		t.Errorf("%d entries and %d bodies", n, bodies)
	}
	w.stop()

	var others []store.Op // to restore them all again would take its time
	for i := 8; i < sessions-1; i++ {
		others = append(others, store.Delete(durable.In(s.acme.id, 1).Session(uint64(1000+i))))
	}
	write(t, half, others...)
	again := s.on(half)
	if found := again.w.restored; found.Sessions != 9 || found.Messages != 0 || found.Dropped < store.MaxBatchOps {
		t.Errorf("restored %+v", found)
	}
	again.w.nothingQueued()
	for _, id := range []string{"first", "copy 7"} {
		c := again.w.connect(t, s.acme.free("many", id), wire.V5, kept)
		if !c.ack.SessionPresent {
			t.Error("no session present")
		}
		c.quiet()
	}
}

// multiply returns records of n more sessions like the only one there is.
func (s scene) multiply(n int) (ops []store.Op) {
	s.t.Helper()
	st, err := s.w.disk.Open(storeOptions)
	must(s.t, err)
	defer st.Close()
	keys := durable.In(s.acme.id, 1)
	read := func(kind store.Kind) (value []byte) {
		must(s.t, st.Scan(keys.Prefix(kind), store.Key{}, func(_ store.Key, v []byte) bool { value = append(value, v...); return true }))
		return value
	}
	session, err := durable.ParseSession(read(store.KindSession))
	must(s.t, err)
	subscription := read(store.KindSubscription)
	for i := range n {
		session.Client.ID = policy.ClientID("copy " + strconv.Itoa(i))
		record, err := session.Append(nil)
		must(s.t, err)
		number := uint64(1000 + i)
		ops = append(ops, store.Put(keys.Session(number), record), store.Put(keys.Subscription(number, 1), subscription))
	}
	return ops
}
