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
	// waits for it unless its own answer is stale.
	connectMu sync.Mutex
	standing  atomic.Pointer[standing]

	// conn is the live connection, nil while offline. Written under guarded.
	conn atomic.Pointer[conn]

	guarded struct {
		sync.Mutex
		dead   bool // ended: nothing may be added any more
		subs   map[subscriptionKey]*subscription
		out    outgoing
		in     map[uint16]struct{} // QoS 2 packet IDs received and not released
		will   *will
		expiry time.Duration // how long it outlives its connection

		expiryTimer, judgeTimer, willTimer *time.Timer
	}
}

func newSession(sp *space, key sessionKey) *session {
	s := &session{key: key, space: sp}
	s.guarded.subs = make(map[subscriptionKey]*subscription)
	s.guarded.out.total = &sp.stored
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
	owed     []queued // shared messages of the session that was begun anew
}

func (t *takeover) finish(ctx context.Context, c *conn) {
	c.b.log.Info("connected", "org", t.s.space.key.org, "client", string(t.s.key.client),
		"address", c.client.Address, "protocol", c.client.Protocol, "resumed", t.resumed)
	if t.old != nil {
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
	t.s.drain(ctx)
}

// attach is one try. It answers nothing at all when the session ended meanwhile.
func (s *session) attach(ctx context.Context, c *conn, st *standing, pk *wire.Connect, w *will, assigned string) (*takeover, *refusal) {
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	before := s.standing.Load()
	if s.isDead() {
		return nil, nil
	}
	if c.closing.Load() { // revoked since it was verified: it takes nothing over
		if before == nil {
			s.endLocked()
		}
		return nil, &refusal{action: policy.ActionConnect, cause: policy.CauseRevoked}
	}
	resumed := before != nil && !pk.CleanStart && s.kept()
	if resumed {
		s.rejudgeSubscriptions(ctx, before, st) // before the first delivery on this connection
	} else {
		s.dropSubscriptions()
	}

	s.guarded.Lock()
	defer s.guarded.Unlock()
	t := &takeover{s: s, resumed: resumed, old: s.conn.Load(), standing: before, oldWill: s.guarded.will}
	if resumed && t.oldWill != nil && t.oldWill.delay > 0 {
		t.oldWill = nil // back in time [MQTT-3.1.3-9]
	}
	s.stopTimersLocked()
	if !resumed {
		t.owed = s.owedLocked(true, anyGroup)
		s.guarded.out.reset()
		s.guarded.in = nil
	}
	s.guarded.out.window = windowFor(pk, st)
	s.guarded.will = w
	s.guarded.expiry = expiryFor(pk, st.limits().SessionExpiryMax)
	c.keepAlive = keepAliveFor(pk.KeepAlive, st.limits().KeepAliveMax)
	ack := accept(st, pk, resumed, assigned, c.b.cfg.MaxPacket, s.guarded.expiry, c.keepAlive)
	c.keepAlive += c.keepAlive / 2 // [MQTT-3.1.2-22]
	c.session = s
	s.standing.Store(st)
	if buf, ok := c.out.begin(0); ok { // first in the outbox: nobody delivers before conn is stored
		c.out.commit(wire.AppendConnack(buf, c.version, ack))
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
	s.guarded.Lock()
	if s.conn.Load() != c {
		s.guarded.Unlock()
		return
	}
	s.conn.Store(nil)
	defer s.space.b.log.Info("disconnected", "org", s.space.key.org, "client", string(s.key.client))
	if s.guarded.dead {
		s.guarded.Unlock()
		return
	}
	w, expiry := s.guarded.will, s.guarded.expiry
	if fate == willNever {
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
	var owed []queued
	if expiry > 0 {
		owed = s.owedLocked(true, func(g *group) bool { return g.others(s) })
	}
	if expiry > 0 && expiry < neverExpires {
		s.guarded.expiryTimer = s.after(expiry, s.endIfOffline)
	}
	s.guarded.Unlock()
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
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	if s.conn.Load() == nil {
		s.endLocked()
	}
}

// purge ends the session whatever its state, and its connection with it: its
// owner is gone or may not have it any more. Its will never fires.
func (s *session) purge(e ending) {
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	s.guarded.Lock()
	s.guarded.will = nil
	s.guarded.Unlock()
	if c := s.conn.Load(); c != nil {
		e.will = willNever
		c.end(e)
	}
	s.endLocked()
}

// endLocked removes everything the session has; connectMu is held.
func (s *session) endLocked() {
	if s.isDead() {
		return
	}
	s.guarded.Lock()
	owed := s.owedLocked(true, anyGroup)
	s.guarded.Unlock()
	s.dropSubscriptions()
	s.guarded.Lock()
	s.guarded.dead = true
	s.stopTimersLocked()
	w, st := s.guarded.will, s.standing.Load()
	s.guarded.out.reset()
	s.guarded.will, s.guarded.in = nil, nil
	s.guarded.Unlock()
	s.space.forget(s)
	if len(owed) > 0 {
		s.space.b.background(func() { s.handOver(context.Background(), owed, false) })
	}
	if w != nil && s.conn.Load() == nil && st != nil { // a delayed will fires when its session ends
		s.space.b.fireLater(s, st, w)
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
