package broker

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/route"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// spaceKey tells an organisation from a namesake created after its deletion.
type spaceKey struct {
	org         policy.OrgID
	incarnation uint64
}

// space is everything an organisation has inside the broker. Which one a packet
// touches is fixed by the verified principal when the connection is accepted,
// and there is no way from one space to another: that is the whole isolation.
type space struct {
	b        *Broker
	key      spaceKey
	index    route.Index[*subscription] // ordinary subscriptions
	shared   route.Index[*group]        // shared ones
	groups   groups
	retained retained
	closes   closeMemory
	usages   usages
	polls    polls

	attachments attachments
	enrolments  attachments // of clients themselves
	arrivals    arrivals

	published atomic.Pointer[rate.Limiter] // see rate
	evaluated atomic.Pointer[rate.Limiter] // see Spend
	stored    atomic.Int64                 // bytes of messages that wait in sessions
	traffic   atomic.Uint64                // bytes of connections that have ended, and of callers
	voiced    atomic.Pointer[voiced]       // whom the broker speaks as
	tapped    atomic.Bool                  // the monitor is shown what enters

	// devices are those that topics named last, by a hash of their ID.
	devices [256]atomic.Pointer[keptDevice]

	keys    durable.Space
	bodies  bodies
	numbers atomic.Uint64 // of stored sessions, the last one given out

	// epoch grows with every registry change in the organisation; what was
	// looked up in the registry holds as long as it stays.
	epoch  atomic.Uint64
	quotas atomic.Pointer[quotasAt]

	guarded struct {
		sync.Mutex
		sessions    map[sessionKey]*session
		connections int
		gone        bool
	}
}

type quotasAt struct {
	Quotas
	epoch uint64
}

// sessionKey is who a session belongs to and what it is called. The same client
// ID under another subject is another session, so that nobody takes over or
// resumes what is not theirs (a narrowing of [MQTT-3.1.4-3]).
type sessionKey struct {
	subject policy.Subject
	client  policy.ClientID
}

func newSpace(b *Broker, key spaceKey) *space {
	sp := &space{b: b, key: key, keys: durable.In(key.org, key.incarnation)}
	sp.guarded.sessions = make(map[sessionKey]*session)
	return sp
}

// add enters a subscription where messages find it: in the index, or in its group.
func (sp *space) add(sub *subscription) {
	if sub.share != "" {
		sp.join(sub)
		return
	}
	sp.index.Add(sub.routed, sub)
}

// remove takes a subscription out again.
func (sp *space) remove(sub *subscription) {
	if sub.group != nil {
		sp.leaveGroup(sub)
		return
	}
	sp.index.Remove(sub.routed, sub)
}

// subscriptions is how many there are in the organisation.
func (sp *space) subscriptions() int { return sp.index.Len() + int(sp.groups.count.Load()) }

// generation changes with what gather finds.
type generation struct{ index, shared uint64 }

func (sp *space) generation() generation {
	return generation{sp.index.Generation(), sp.shared.Generation()}
}

// changed reports whether what gather finds for a name may have changed between
// two generations.
func (sp *space) changed(since, now generation, name topic.RoutedName) bool {
	return sp.index.Changed(since.index, now.index, name) || sp.shared.Changed(since.shared, now.shared, name)
}

// limits returns the organisation's quotas, from the registry after a change.
// Without an answer from there nothing new is accepted.
func (sp *space) limits(ctx context.Context) Quotas {
	epoch := sp.epoch.Load()
	if q := sp.quotas.Load(); q != nil && q.epoch == epoch {
		return q.Quotas
	}
	q, err := sp.b.registry.SessionQuotas(ctx, sp.key.org)
	if err != nil {
		return Quotas{}
	}
	sp.quotas.Store(&quotasAt{q, epoch})
	return q
}

// online reports whether the session under key has a connection: a new one of
// the same key takes its place, whatever the limits on connections say.
func (sp *space) online(key sessionKey) bool {
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	s := sp.guarded.sessions[key]
	return s != nil && s.conn.Load() != nil
}

// enter counts a connection in, or refuses it.
func (sp *space) enter(ctx context.Context, takesOver bool) bool {
	most := sp.limits(ctx).Connections
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	if sp.guarded.gone || sp.guarded.connections >= most && !takesOver {
		return false
	}
	sp.guarded.connections++
	return true
}

func (sp *space) leave() {
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	sp.guarded.connections--
}

// session returns the session under key and makes one where there is none. It
// answers nil when the organisation may have no more.
func (sp *space) session(ctx context.Context, key sessionKey) *session {
	most := sp.limits(ctx).Sessions
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	if s := sp.guarded.sessions[key]; s != nil {
		return s
	}
	if sp.guarded.gone || len(sp.guarded.sessions) >= most {
		return nil
	}
	s := newSession(sp, key)
	sp.guarded.sessions[key] = s
	return s
}

// restore enters a session from the store and returns the one it takes the place
// of, nil if there was none.
func (sp *space) restore(s *session) (older *session) {
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	older = sp.guarded.sessions[s.key]
	sp.guarded.sessions[s.key] = s
	return older
}

// forget removes s, if it is still the session under its key.
func (sp *space) forget(s *session) {
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	if sp.guarded.sessions[s.key] == s {
		delete(sp.guarded.sessions, s.key)
	}
}

func (sp *space) list() []*session {
	sp.guarded.Lock()
	defer sp.guarded.Unlock()
	list := make([]*session, 0, len(sp.guarded.sessions))
	for _, s := range sp.guarded.sessions {
		list = append(list, s)
	}
	return list
}

// close ends the space for good: its organisation was deleted.
func (sp *space) close() {
	sp.guarded.Lock()
	sp.guarded.gone = true
	sp.guarded.Unlock()
	sp.b.guarded.Lock()
	delete(sp.b.guarded.spaces, sp.key)
	sp.b.guarded.Unlock()
}
