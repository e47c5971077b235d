package broker

import (
	"sync"
	"sync/atomic"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// How kept state reaches the store.
//
// Problem: memory changes under a session's lock, the store is written by its
// committer, and what is answered must be stored first. A write may not be
// submitted under a lock, because that can wait for a disk.
//
// Invariants: what one packet changes is one [writes], committed as one step
// after all locks are free but connectMu, which no delivery waits for. The slot
// of an entry is freed only after the write that filled it was confirmed (saving, gone): else the two could be submitted
// in the wrong order by two goroutines, and a message that was acknowledged
// would come back, or one that was not be lost with its slot's next owner.
// Sessions that follow each other under one name have numbers of their own, so
// their writes never meet.
//
// Outline: push and remove note what they did to an entry in a writes. commit
// turns the notes into operations and submits them. confirmed, on the
// committer's goroutine, clears saving, wakes sessions whose QoS 2 messages may
// leave now, and frees what was removed meanwhile.
//
// Rejected: one lock around change and submission. Every publisher to a session
// would wait for the disk with it.

// writes are the changes that one packet makes to the store. The zero value is
// none.
type writes struct {
	ops     []store.Op
	saves   []save
	freed   []uint64 // numbers of shared messages that nobody has any more
	shareOf *space   // whose messages those are
	arrived []*Arrival

	// failed is where an earlier write of the same packet leaves its error; nil:
	// there was none.
	failed *atomic.Pointer[error]
}

// save is an entry whose slot is written.
type save struct {
	s *session
	e *entry
}

// body is the place of a message in the store that several queues share.
type body struct {
	id   uint64
	refs atomic.Int64 // slots that name it
}

// acquire counts one more slot in, unless the body is on its way out.
func (b *body) acquire() bool {
	for {
		n := b.refs.Load()
		if n == 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// bodies gives out the numbers of shared messages. They are used again, so that
// the keys of a space stay few.
type bodies struct {
	guarded struct {
		sync.Mutex
		next uint64
		free []uint64
	}
}

func (bs *bodies) take() uint64 {
	bs.guarded.Lock()
	defer bs.guarded.Unlock()
	if n := len(bs.guarded.free); n > 0 {
		id := bs.guarded.free[n-1]
		bs.guarded.free = bs.guarded.free[:n-1]
		return id
	}
	bs.guarded.next++
	return bs.guarded.next
}

func (bs *bodies) giveBack(ids []uint64) {
	bs.guarded.Lock()
	defer bs.guarded.Unlock()
	bs.guarded.free = append(bs.guarded.free, ids...)
}

func (w *writes) none() bool { return len(w.ops) == 0 && len(w.saves) == 0 && w.failed == nil }

// put notes that value is to be stored under key, and delete that key is to go.
func (w *writes) put(key store.Key, value []byte) { w.ops = append(w.ops, store.Put(key, value)) }
func (w *writes) delete(key store.Key)            { w.ops = append(w.ops, store.Delete(key)) }

// saveLocked notes that e, new in the session's queue or changed, is to be
// written, if the session is kept. The session's lock is held.
func (w *writes) saveLocked(s *session, e *entry) {
	if s.guarded.number == 0 {
		return
	}
	e.place, e.saving = s.guarded.number, true
	s.guarded.out.unsaved++
	w.saves = append(w.saves, save{s, e})
}

// removeLocked notes that e, which is in no list of the session any more, needs
// its slot no longer. The session's lock is held.
func (w *writes) removeLocked(s *session, e *entry) {
	switch {
	case e.place == 0:
	case e.saving:
		e.gone = true
	default:
		w.free(s.space, e)
	}
}

// free frees the slot of e, and its message where nobody else has it.
func (w *writes) free(sp *space, e *entry) {
	w.delete(sp.keys.Entry(e.place, e.id()))
	w.drop(sp, e)
	e.place = 0
}

// drop gives up e's part in a message that several queues share.
func (w *writes) drop(sp *space, e *entry) {
	b := e.body
	e.body = nil
	if b != nil && b.refs.Add(-1) == 0 {
		w.delete(sp.keys.Message(b.id))
		w.freed, w.shareOf = append(w.freed, b.id), sp
	}
}

// encode turns the noted entries into operations: a message that one queue has
// is stored in its slot, one that several have once beside them.
func (w *writes) encode() {
	for i := range w.saves {
		s, e := w.saves[i].s, w.saves[i].e
		record := durable.Entry{Seq: e.seq, QoS: e.qos, Retain: e.retain, Released: e.released}
		if e.released {
			record.Retain = false
			w.put(s.space.keys.Entry(e.place, e.id()), record.Append(nil))
			continue
		}
		for _, sub := range e.subs {
			record.Subs = append(record.Subs, sub.number)
		}
		b := e.msg.shared.Load()
		switch {
		case b != nil && b.acquire():
			record.Shared, e.body = b.id, b
		case b == nil && w.several(i):
			b = &body{id: s.space.bodies.take()}
			b.refs.Store(1)
			e.msg.shared.Store(b)
			message := e.msg.record()
			w.put(s.space.keys.Message(b.id), message.Append(nil))
			record.Shared, e.body = b.id, b
		default:
			record.Message = e.msg.record()
		}
		w.put(s.space.keys.Entry(e.place, e.id()), record.Append(make([]byte, 0, 64+e.msg.size)))
	}
}

// several reports whether the message of save i is in another one too: those of
// one message follow each other.
func (w *writes) several(i int) bool {
	m := w.saves[i].e.msg
	return i > 0 && w.saves[i-1].e.msg == m || i+1 < len(w.saves) && w.saves[i+1].e.msg == m
}

func (m *stored) record() *durable.Message {
	return &durable.Message{
		Topic: m.routed, Response: m.response, Payload: m.payload, QoS: m.qos, Retain: m.retain, Props: m.props,
		Expires: m.expires, Origin: durable.Origin{Subject: m.origin.subject, Client: m.origin.client},
		DeviceType: m.device.typ, DeviceID: m.device.id,
	}
}

// commit submits w and calls done, which may be nil, once it is stored or could
// not be. No lock may be held: it waits while the store is behind. It is one
// atomic step as long as the store takes that much in one; beyond, a message
// comes last of all that name it, so that a crash in between leaves entries
// without a message, which restore drops: nobody was told that they are kept.
func (b *Broker) commit(w *writes, done func(error)) {
	w.encode()
	saves, freed, shareOf, failed, arrived := w.saves, w.freed, w.shareOf, w.failed, w.arrived
	parts := split(w.ops)
	*w = writes{}
	if failed == nil && len(parts) > 1 {
		failed = new(atomic.Pointer[error])
	}
	for _, ops := range parts[:len(parts)-1] {
		b.store.Commit(ops, func(err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	b.store.Commit(parts[len(parts)-1], func(err error) {
		if failed != nil && failed.Load() != nil {
			err = *failed.Load()
		}
		if len(saves) > 0 {
			b.confirmed(saves, err)
		}
		if len(freed) > 0 {
			shareOf.bodies.giveBack(freed)
		}
		for _, a := range arrived {
			a.stored(err)
		}
		if err != nil {
			b.log.Error("not stored", "err", err)
		}
		if done != nil {
			done(err)
		}
	})
}

// commitAny commits w, unless it is empty: for whoever waits for no answer.
func (b *Broker) commitAny(w *writes) {
	if !w.none() {
		b.commit(w, nil)
	}
}

// split cuts ops into parts that the store takes, at least one. Messages come
// last, in the part that completes the others.
func split(ops []store.Op) [][]store.Op {
	size := 0
	for i := range ops {
		size += ops[i].Size()
	}
	if len(ops) <= store.MaxBatchOps && size <= store.MaxBatchBytes {
		return [][]store.Op{ops}
	}
	ordered := make([]store.Op, 0, len(ops))
	var messages []store.Op
	for _, op := range ops {
		if op.Key().Kind() == store.KindMessage && !op.IsDelete() {
			messages = append(messages, op)
			continue
		}
		ordered = append(ordered, op)
	}
	ordered = append(ordered, messages...)
	var parts [][]store.Op
	from, size := 0, 0
	for i := range ordered {
		if i > from && (i-from == store.MaxBatchOps || size+ordered[i].Size() > store.MaxBatchBytes) {
			parts = append(parts, ordered[from:i])
			from, size = i, 0
		}
		size += ordered[i].Size()
	}
	return append(parts, ordered[from:])
}

// confirmed runs on the committer's goroutine when the entries in saves are
// stored, or could not be.
func (b *Broker) confirmed(saves []save, err error) {
	var w writes
	for _, saved := range saves {
		s, e := saved.s, saved.e
		s.guarded.Lock()
		e.saving = false
		s.guarded.out.unsaved--
		if err != nil && !e.released {
			e.place, e.failed = 0, true
			w.drop(s.space, e) // nobody else may count on a message that is not there
		}
		if e.gone && e.place != 0 {
			w.free(s.space, e)
		}
		c := s.conn.Load()
		wake := c != nil && e.qos == 2 && !e.released
		release := c != nil && e.released && err == nil && s.guarded.out.inFlight(e)
		s.guarded.Unlock()
		if release {
			c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: e.id()}, nil)
		}
		if wake {
			c.out.wakeToDrain()
		}
	}
	b.commitAny(&w)
}

// ackAfter is an acknowledgement, and what becomes of it where the store fails.
type ackAfter struct {
	wire.Ack
	// repeats: what it answers was answered before, or is about to be, so it has
	// to follow whatever the store has not confirmed yet.
	repeats bool
	// failed undoes what was remembered of the message; nil: nothing.
	failed func()
}

// answer sends a once w is stored, and not before the answers that wait
// already: PUBACK and PUBREC leave in the order in which the messages came
// [MQTT-4.6.0-2], [MQTT-4.6.0-3].
func (c *conn) answer(w *writes, a ackAfter) {
	if w.none() && !a.repeats && c.unanswered.Load() == 0 {
		c.ack(a.Ack, c)
		return
	}
	c.unanswered.Add(1)
	c.b.commit(w, func(err error) {
		if err == nil {
			c.ack(a.Ack, nil)
		} else {
			c.notStored(&a)
		}
		c.unanswered.Add(-1) // last: who finds none waiting answers at once
	})
}

// notStored refuses what could not be stored, or ends the connection where the
// protocol has no word for that.
func (c *conn) notStored(a *ackAfter) {
	if a.failed != nil {
		a.failed()
	}
	if c.version != wire.V5 || a.Kind == wire.TypePubcomp {
		c.end(ending{cause: policy.CauseStorage, code: codeOf(policy.CauseStorage), will: willFires})
		return
	}
	a.Code, a.ReasonString = codeOf(policy.CauseStorage), ""
	if c.problem {
		a.ReasonString = policy.CauseStorage.Public()
	}
	c.ack(a.Ack, nil)
}
