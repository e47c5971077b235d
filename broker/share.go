package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cordon-mq/cordon/policy/topic"
)

// groupKey names a shared subscription inside an organisation: the share name
// and the filter as it is routed, so that members with different mounts share
// what they mean and not what they write.
type groupKey struct {
	share  string
	filter topic.RoutedFilter
}

// group is one shared subscription: each message goes to one of its members
// (MQTT 5 §4.8.2).
type group struct {
	key  groupKey
	turn atomic.Uint32
	// members is replaced whole; groups.guarded serialises who replaces it.
	members atomic.Pointer[[]*subscription]
}

// groups are the shared subscriptions of one organisation.
type groups struct {
	guarded struct {
		sync.Mutex
		byKey map[groupKey]*group
	}
	count atomic.Int64 // members of all groups
}

// connectShare is the share name of a connect answer as a group's. The control
// character keeps it apart from every name that a client can write.
func connectShare(name string) string {
	if name == "" {
		return ""
	}
	return "\x00" + name
}

// join makes sub a member of its group, which is made with its first one.
func (sp *space) join(sub *subscription) {
	sp.groups.guarded.Lock()
	defer sp.groups.guarded.Unlock()
	key := groupKey{sub.share, sub.routed}
	g := sp.groups.guarded.byKey[key]
	if g == nil {
		if sp.groups.guarded.byKey == nil {
			sp.groups.guarded.byKey = make(map[groupKey]*group)
		}
		g = &group{key: key}
		g.members.Store(&[]*subscription{})
		sp.groups.guarded.byKey[key] = g
		sp.shared.Add(sub.routed, g)
	}
	members := append(slices.Clone(*g.members.Load()), sub)
	g.members.Store(&members)
	sub.group = g
	sp.groups.count.Add(1)
}

// leaveGroup takes sub out of its group, which ends with its last member.
func (sp *space) leaveGroup(sub *subscription) {
	sp.groups.guarded.Lock()
	defer sp.groups.guarded.Unlock()
	g := sub.group
	members := slices.DeleteFunc(slices.Clone(*g.members.Load()), func(m *subscription) bool { return m == sub })
	g.members.Store(&members)
	sp.groups.count.Add(-1)
	if len(members) == 0 {
		delete(sp.groups.guarded.byKey, g.key)
		sp.shared.Remove(g.key.filter, g)
	}
}

// deliverShared hands p to one member: in turn among those that are online and
// may receive it; with none of them, at QoS 1 and 2, it waits in the session of
// one that is offline. It never goes to a member that may not have it.
func (b *Broker) deliverShared(ctx context.Context, g *group, p *publication, except *session) bool {
	turn := int(g.turn.Add(1))
	online, offline := g.divide(*g.members.Load(), except)
	for i := range online {
		sub := online[(turn+i)%len(online)]
		name, ok := sub.spell(p.in.routed)
		if !ok {
			continue
		}
		if b.deliver(ctx, &target{session: sub.session, subs: []*subscription{sub}, name: name}, p) {
			return true
		}
	}
	for i := range offline {
		sub := offline[(turn+i)%len(offline)]
		if sub.session.enqueue(ctx, []*subscription{sub}, p) {
			return true
		}
	}
	return false
}

// divide tells the members that are online from the others; except is neither.
func (g *group) divide(members []*subscription, except *session) (online, offline []*subscription) {
	for _, sub := range members {
		switch c := sub.session.conn.Load(); {
		case sub.session == except:
		case c != nil && !c.closing.Load():
			online = append(online, sub)
		default:
			offline = append(offline, sub)
		}
	}
	return online, offline
}

// handOver gives the shared messages that s still owes its client to other
// members: those that wait and, at QoS 1, those that were sent and never
// acknowledged. A QoS 2 message stays with whom it was sent to [MQTT-4.8.2-4],
// [MQTT-4.8.2-5]. Where the session stays, it keeps what nobody else takes.
func (s *session) handOver(ctx context.Context, owed []*entry, keeps bool) {
	for _, e := range owed {
		m := e.msg
		p := &publication{
			space: s.space, origin: m.origin, payload: m.payload, qos: m.qos, retain: m.retain, props: m.props,
			in: &inbound{routed: m.routed, levels: m.levels}, response: m.response, expires: m.expires, copied: m,
		}
		if !s.space.b.deliverShared(ctx, e.subs[0].group, p, s) && keeps {
			s.keep(ctx, &p.writes, &entry{msg: m, subs: e.subs, qos: e.qos, retain: e.retain})
		}
		s.guarded.Lock()
		p.writes.removeLocked(s, e) // in the same step: it is never in neither place
		s.guarded.Unlock()
		s.space.b.commitAny(&p.writes)
	}
}

// owedLocked takes the shared messages that s owes its client out of it, in
// their order, where want says so of their group; inFlight includes those that
// were sent at QoS 1. The session's lock is held.
func (s *session) owedLocked(inFlight bool, want func(*group) bool) (owed []*entry) {
	if s.space.groups.count.Load() == 0 {
		return nil
	}
	o := &s.guarded.out
	takes := func(e *entry) bool {
		return len(e.subs) == 1 && e.subs[0].group != nil && want(e.subs[0].group)
	}
	o.inflight = slices.DeleteFunc(o.inflight, func(e *entry) bool {
		take := inFlight && !e.released && e.qos == 1 && takes(e)
		if take {
			owed = append(owed, e)
		}
		return take
	})
	var rest []*entry
	for o.waiting() > 0 {
		if e := o.pop(); takes(e) {
			owed = append(owed, e)
		} else {
			rest = append(rest, e)
		}
	}
	for _, e := range rest {
		o.append(e)
	}
	return owed
}

// owed takes what waits for a group out of s: the client unsubscribed from it.
// What was sent is completed [MQTT-3.10.4-3].
func (s *session) owed(g *group) []*entry {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	return s.owedLocked(false, func(other *group) bool { return other == g })
}

// others reports whether the group has a member that is online, beside s.
func (g *group) others(s *session) bool {
	online, _ := g.divide(*g.members.Load(), s)
	return len(online) > 0
}

func anyGroup(*group) bool { return true }
