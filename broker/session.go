package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// session is an MQTT session: what outlives a connection, and for a clean one
// ends with it.
type session struct {
	key   sessionKey
	space *space

	// connectMu serialises what changes the standing: attach, rejudge, subscribe
	// and the end. Policies are asked while it is held, and nothing that delivers
	// waits for it unless its own answer is stale. What such a change stores is
	// submitted before it is released, so that the store sees them in their order.
	connectMu sync.Mutex
	standing  atomic.Pointer[standing]

	// conn is the live connection, nil while offline. Written under guarded.
	conn atomic.Pointer[conn]

	guarded struct {
		sync.Mutex
		dead   bool // ended: nothing may be added any more
		subs   map[subscriptionKey]*subscription
		out    outgoing
		feeds  []feed              // of retained messages, not sent yet
		in     map[uint16]struct{} // QoS 2 packet IDs received and not released
		will   *will
		expiry time.Duration // how long it outlives its connection
		number uint64        // under which it is stored; 0: it is not, because it ends with its connection
		subbed uint32        // number of the last subscription

		expiryTimer, judgeTimer, willTimer *time.Timer
	}
}

func newSession(sp *space, key sessionKey) *session {
	s := &session{key: key, space: sp}
	s.guarded.subs = make(map[subscriptionKey]*subscription)
	s.guarded.out.total, s.guarded.out.budget = &sp.stored, &sp.b.budget
	return s
}

// attach makes c the connection of its session: it resumes or begins it,
// answers CONNACK, and only then ends the connection it takes over from.
func (c *conn) attach(ctx context.Context, st *standing, pk *wire.Connect, w *will, assigned string) *refusal {
	key := sessionKey{st.principal.Subject(), c.sessionID}
	for {
		s := c.space.session(ctx, key)
		if s == nil {
			return &refusal{action: policy.ActionConnect, cause: policy.CauseQuota, detail: "sessions of the organisation"}
		}
		took, r := s.attach(ctx, c, st, pk, w, assigned)
		switch {
		case r != nil:
			return r
		case took != nil:
			took.finish(ctx, c)
			return nil
		}
	}
}

// takeover is what attach leaves to do once the session's locks are free.
type takeover struct {
	s        *session
	resumed  bool
	old      *conn
	standing *standing // what oldWill was left under
	oldWill  *will
	owed     []*entry // shared messages of the session that was begun anew
	writes   writes
}

func (t *takeover) finish(ctx context.Context, c *conn) {
	c.b.log.Info("connected", "org", t.s.space.key.org, "client", string(t.s.key.client),
		"address", c.client.Address, "protocol", c.client.Protocol, "resumed", t.resumed)
	if t.old != nil {
		c.b.stats.takeOvers.Add(1)
		// [MQTT-3.1.4-3]; its will is seen to here.
		t.old.end(ending{code: wire.SessionTakenOver, will: willNever, linger: revokeLinger})
	}
	if t.oldWill != nil {
		t.s.space.b.fire(ctx, t.s, t.standing, t.oldWill)
	}
	t.s.handOver(ctx, t.owed, false)
	t.s.schedule()
	// A change or an activation since this connection was judged did not find its
	// session yet.
	t.s.rejudge(ctx, t.s.space.b.changes.Load() != c.changes)
	t.s.drain(ctx, nil)
}

// establish lets CONNACK leave: what it promises is stored. It runs on the
// committer's goroutine.
func (c *conn) establish(err error) {
	if err != nil {
		ack := wire.Connack{Code: codeOf(policy.CauseStorage), MaxSize: c.maxOut}
		c.out.replace(wire.AppendConnack(nil, c.version, &ack))
		c.established.Store(false)
	}
	c.out.release()
	if err != nil {
		c.end(ending{cause: policy.CauseStorage, will: willNever, quiet: true})
	}
}

// attach is one try. It answers nothing at all when the session ended meanwhile.
func (s *session) attach(ctx context.Context, c *conn, st *standing, pk *wire.Connect, w *will, assigned string) (*takeover, *refusal) {
	t := &takeover{s: s}
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	took, r := s.attachInto(ctx, t, c, st, pk, w, assigned)
	switch {
	case t.writes.none():
	case took == nil: // it did not come to that: no CONNACK waits for it
		c.b.commit(&t.writes, nil)
	default:
		c.b.commit(&t.writes, c.establish)
	}
	return took, r
}

func (s *session) attachInto(ctx context.Context, t *takeover, c *conn, st *standing, pk *wire.Connect, w *will, assigned string) (*takeover, *refusal) {
	expiry := expiryFor(pk, st.limits().SessionExpiryMax)
	record, err := st.record(expiry, time.Time{})
	if err != nil {
		return nil, &refusal{action: policy.ActionConnect, cause: policy.CauseStorage, detail: err.Error()}
	}
	before := s.standing.Load()
	if s.isDead() {
		return nil, nil
	}
	if c.closing.Load() { // revoked since it was verified: it takes nothing over
		if before == nil {
			s.endLocked(&t.writes)
		}
		return nil, &refusal{action: policy.ActionConnect, cause: policy.CauseRevoked}
	}
	resumed := before != nil && !pk.CleanStart && s.kept()
	if resumed {
		s.rejudgeSubscriptions(ctx, &t.writes, before, st) // before the first delivery on this connection
	} else {
		s.dropSubscriptions(&t.writes)
	}

	s.guarded.Lock()
	defer s.guarded.Unlock()
	t.resumed, t.old, t.standing, t.oldWill = resumed, s.conn.Load(), before, s.guarded.will
	if resumed && t.oldWill != nil && t.oldWill.delay > 0 {
		t.oldWill = nil // back in time [MQTT-3.1.3-9]
	}
	s.stopTimersLocked()
	if !resumed {
		t.owed = s.owedLocked(true, anyGroup)
		s.eraseLocked(&t.writes)
		s.guarded.out.reset()
		s.guarded.in, s.guarded.feeds = nil, nil
	}
	s.guarded.out.window = windowFor(pk, st)
	s.guarded.will = w
	s.guarded.expiry = expiry
	if expiry > 0 {
		s.storeLocked(&t.writes, record)
	} else {
		s.eraseLocked(&t.writes)
	}
	if t.oldWill != nil {
		t.oldWill.place = 0 // the new one, or none, has it
	}
	c.keepAlive = keepAliveFor(pk.KeepAlive, st.limits().KeepAliveMax)
	ack := accept(st, pk, resumed, assigned, c.b.cfg.MaxPacket, s.guarded.expiry, c.keepAlive)
	c.keepAlive += c.keepAlive / 2 // [MQTT-3.1.2-22]
	c.session = s
	s.standing.Store(st)
	if !t.writes.none() {
		c.out.hold() // until that is stored
	}
	if buf, ok := c.out.begin(0); ok { // first in the outbox: nobody delivers before conn is stored
		c.out.commit(wire.AppendConnack(buf, c.version, ack), nil)
	}
	c.established.Store(true)
	s.conn.Store(c)
	return t, nil
}

// kept reports whether the session outlives its connection. One that does not
// is never resumed, not even by a take-over [MQTT-3.1.2-6].
func (s *session) kept() bool {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	return s.guarded.expiry > 0
}

// detach takes c off the session, unless another connection took it over.
func (s *session) detach(c *conn, fate willFate) {
	s.connectMu.Lock()
	s.guarded.Lock()
	if s.conn.Load() != c {
		s.guarded.Unlock()
		s.connectMu.Unlock()
		return
	}
	s.conn.Store(nil)
	defer s.space.b.log.Info("disconnected", "org", s.space.key.org, "client", string(s.key.client))
	if s.guarded.dead {
		s.guarded.Unlock()
		s.connectMu.Unlock()
		return
	}
	var wr writes
	w, expiry, number := s.guarded.will, s.guarded.expiry, s.guarded.number
	if fate == willNever {
		if w != nil && w.place != 0 {
			wr.delete(s.space.keys.Will(w.place))
		}
		w, s.guarded.will = nil, nil
	}
	wait := time.Duration(0)
	if w != nil {
		wait = min(w.delay, expiry) // the session's end is the latest [MQTT-3.1.3-9]
	}
	if w != nil && wait == 0 {
		s.guarded.will = nil
	} else if w != nil {
		s.guarded.willTimer = s.after(wait, s.fireDelayed)
	}
	var owed []*entry
	if expiry > 0 {
		owed = s.owedLocked(true, func(g *group) bool { return g.others(s) })
	}
	if expiry > 0 && expiry < neverExpires {
		s.guarded.expiryTimer = s.after(expiry, s.endIfOffline)
	}
	s.guarded.Unlock()
	if number != 0 && expiry > 0 {
		if record, err := s.standing.Load().record(expiry, time.Now()); err == nil {
			wr.put(s.space.keys.Session(number), record)
		}
	}
	s.space.b.commitAny(&wr)
	s.connectMu.Unlock()
	s.handOver(context.Background(), owed, true)

	if w != nil && wait == 0 {
		s.space.b.fire(context.Background(), s, s.standing.Load(), w)
	}
	if expiry == 0 {
		s.endIfOffline()
	}
}

// neverExpires is the Session Expiry Interval that means for ever (MQTT 5 §3.1.2.11.2).
const neverExpires = 0xFFFFFFFF * time.Second

// after runs f later, as work the broker waits for at shutdown.
func (s *session) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		if s.space.b.enter() {
			defer s.space.b.work.Done()
			f()
		}
	})
}

// endIfOffline ends a session that no connection has resumed.
func (s *session) endIfOffline() {
	var w writes
	s.connectMu.Lock()
	if s.conn.Load() == nil {
		s.endLocked(&w)
	}
	s.space.b.commitAny(&w)
	s.connectMu.Unlock()
}

// purge ends the session whatever its state, and its connection with it: its
// owner is gone or may not have it any more. Its will never fires.
func (s *session) purge(e ending) {
	var w writes
	s.connectMu.Lock()
	s.guarded.Lock()
	s.guarded.will = nil
	s.guarded.Unlock()
	if c := s.conn.Load(); c != nil {
		e.will = willNever
		c.end(e)
	}
	s.endLocked(&w)
	s.space.b.commitAny(&w)
	s.connectMu.Unlock()
}

// endLocked removes everything the session has; connectMu is held.
func (s *session) endLocked(wr *writes) {
	if s.isDead() {
		return
	}
	s.guarded.Lock()
	owed := s.owedLocked(true, anyGroup)
	s.guarded.Unlock()
	s.dropSubscriptions(wr)
	s.guarded.Lock()
	s.guarded.dead = true
	s.stopTimersLocked()
	w, st := s.guarded.will, s.standing.Load()
	s.eraseLocked(wr)
	s.guarded.out.reset()
	s.guarded.will, s.guarded.in, s.guarded.feeds = nil, nil, nil
	s.guarded.Unlock()
	s.space.forget(s)
	if len(owed) > 0 {
		s.space.b.background(func() { s.handOver(context.Background(), owed, false) })
	}
	if w != nil && s.conn.Load() == nil && st != nil { // a delayed will fires when its session ends
		s.space.b.fireLater(s, st, w)
	}
}

// storeLocked notes everything about a session that is to outlive its
// connection: at its first connection a number is given to it. The session's
// lock is held.
func (s *session) storeLocked(w *writes, record []byte) {
	if s.guarded.number == 0 {
		s.guarded.number = s.space.numbers.Add(1)
	}
	keys, number := s.space.keys, s.guarded.number
	w.put(keys.Session(number), record)
	if s.guarded.will == nil {
		w.delete(keys.Will(number))
		return
	}
	s.guarded.will.place = number
	w.put(keys.Will(number), s.guarded.will.record().Append(nil))
}

// eraseLocked notes that nothing of the session is to be stored any more. What
// it has in memory stays. The session's lock is held.
func (s *session) eraseLocked(w *writes) {
	keys, number := s.space.keys, s.guarded.number
	if number == 0 {
		return
	}
	w.delete(keys.Session(number)) // first: without it the rest is nobody's
	w.delete(keys.Will(number))
	for _, sub := range s.guarded.subs {
		w.delete(keys.Subscription(number, sub.number))
	}
	for id := range s.guarded.in {
		w.delete(keys.Inbound(number, id))
	}
	o := &s.guarded.out
	for _, e := range o.inflight {
		w.removeLocked(s, e)
	}
	for _, e := range o.queue[o.head:] {
		w.removeLocked(s, e)
	}
	s.guarded.number = 0
	if s.guarded.will != nil {
		s.guarded.will.place = 0
	}
}

func (s *session) isDead() bool {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	return s.guarded.dead
}

func (s *session) stopTimers() {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	s.stopTimersLocked()
}

func (s *session) stopTimersLocked() {
	for _, t := range []**time.Timer{&s.guarded.expiryTimer, &s.guarded.judgeTimer, &s.guarded.willTimer} {
		if *t != nil {
			(*t).Stop()
			*t = nil
		}
	}
}

// changeExpiry is the Session Expiry Interval of a DISCONNECT. It may not keep
// a session that was to end with its connection (MQTT 5 §3.14.2.2.2).
func (s *session) changeExpiry(d time.Duration) bool {
	most := s.standing.Load().limits().SessionExpiryMax
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.expiry == 0 && d > 0 {
		return false
	}
	s.guarded.expiry = min(d, most)
	return true
}

func (s *session) subscriptions() []*subscription {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	return slices.Collect(maps.Values(s.guarded.subs))
}
