package broker

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/route"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// retained holds the last message of each topic of one organisation that was
// published with the retain flag and allowed to keep it.
type retained struct {
	names route.Names[*stored]
	// order serialises changes together with their submission to the store. It is
	// no lock that a reader or a delivery ever waits for.
	order   sync.Mutex
	guarded struct {
		sync.Mutex
		bytes int64
	}
}

// retain keeps p under its topic, or with an empty payload removes what is there
// [MQTT-3.3.1-6]. It is stored before p is acknowledged.
func (b *Broker) retain(ctx context.Context, p *publication) *refusal {
	r, most := &p.space.retained, p.space.limits(ctx).RetainedBytes
	r.order.Lock()
	defer r.order.Unlock()
	var m *stored
	if len(p.payload) > 0 {
		m = p.stored()
	}
	if p.again {
		most = math.MaxInt64
	}
	old, ok := r.set(p.in.routed, m, most)
	switch {
	case !ok:
		return &refusal{action: policy.ActionPublish, cause: policy.CauseQuota, topic: p.name.String(), detail: "retained bytes of the organisation"}
	case m != nil && m.unstored && old == nil, old != nil && old.unstored && (m == nil || m.unstored):
		return nil // the store has none and gets none
	case m != nil && m.unstored:
		m = nil // the one it has goes
	}
	p.writes.failed = r.store(b, p.space, p.in.routed, m)
	return nil
}

// set puts m, or nothing, in the place of what is retained under name, and returns
// what was there. It reports whether there is room for it.
func (r *retained) set(name topic.RoutedName, m *stored, most int64) (old *stored, ok bool) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if m == nil {
		old, had := r.names.Delete(name)
		if had {
			r.guarded.bytes -= int64(old.size)
		}
		return old, true
	}
	old, had := r.names.Set(name, m)
	grown := int64(m.size)
	if had {
		grown -= int64(old.size)
	}
	if grown > 0 && r.guarded.bytes+grown > most {
		if had {
			r.names.Set(name, old)
		} else {
			r.names.Delete(name)
		}
		return nil, false
	}
	r.guarded.bytes += grown
	return old, true
}

// store writes what is retained under name now, and returns where an error will
// be by the time a later write is answered. Order is held, so that the store
// sees changes in the order in which memory did.
func (r *retained) store(b *Broker, sp *space, name topic.RoutedName, m *stored) *atomic.Pointer[error] {
	var w writes
	if m == nil {
		w.delete(sp.keys.Retained(name))
	} else {
		w.put(sp.keys.Retained(name), m.record().Append(nil))
	}
	failed := new(atomic.Pointer[error])
	b.commit(&w, func(err error) {
		if err != nil {
			failed.Store(&err)
		}
	})
	return failed
}

// restore enters a message from the store. What was retained within the quota
// stays, whatever the quota is now.
func (r *retained) restore(m *stored) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	r.names.Set(m.routed, m)
	r.guarded.bytes += int64(m.size)
}

// forget removes what is retained under topics that name one of the devices.
func (r *retained) forget(b *Broker, sp *space, deleted func(typ, id policy.ID) bool) {
	for _, m := range r.names.All() {
		if m.device != (deviceName{}) && deleted(m.device.typ, m.device.id) {
			r.drop(b, sp, m)
		}
	}
}

// silence removes what is retained under name, if anything is.
func (r *retained) silence(b *Broker, sp *space, name topic.RoutedName) {
	if m, had := r.names.Get(name); had {
		r.drop(b, sp, m)
	}
}

// payload is that of the message retained under name.
func (r *retained) payload(name topic.RoutedName) ([]byte, bool) {
	m, had := r.names.Get(name)
	if !had {
		return nil, false
	}
	return m.payload, true
}

// drop removes one message, unless another has its place by now.
func (r *retained) drop(b *Broker, sp *space, m *stored) {
	r.order.Lock()
	defer r.order.Unlock()
	if r.take(m) && !m.unstored {
		r.store(b, sp, m.routed, nil)
	}
}

// take removes m and reports whether it was still there.
func (r *retained) take(m *stored) bool {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	now, had := r.names.Delete(m.routed)
	if had && now != m {
		r.names.Set(m.routed, now)
		return false
	}
	if had {
		r.guarded.bytes -= int64(m.size)
	}
	return had
}

// stock is how much is retained.
func (r *retained) stock() Stock {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	return Stock{Messages: r.names.Len(), Bytes: r.guarded.bytes}
}

// feed is what is retained for a new subscription and was not sent yet. It waits
// beside the queue, not in it: however much it is, nothing overflows by it, and
// it takes no more memory than the list.
type feed struct {
	sub  *subscription
	rest []*stored
}

// sendRetained begins to deliver what is retained for a new subscription.
func (b *Broker) sendRetained(ctx context.Context, sub *subscription) {
	if sub.group != nil {
		return // a shared subscription gets none when it begins (MQTT 5 §4.8.2)
	}
	s := sub.session
	found := s.space.retained.names.Match(sub.routed)
	if len(found) == 0 {
		return
	}
	s.guarded.Lock()
	s.guarded.feeds = append(s.guarded.feeds, feed{sub, found})
	s.guarded.Unlock()
	s.drain(ctx, nil)
}

// feedLocked takes the next retained message from the first feed and delivers
// it through the same door as everything else. The session's lock is held, and
// given up meanwhile.
func (s *session) feedLocked(ctx context.Context, w *writes) {
	f := &s.guarded.feeds[0]
	sub, m := f.sub, f.rest[0]
	if f.rest = f.rest[1:]; len(f.rest) == 0 {
		s.guarded.feeds = slices.Delete(s.guarded.feeds, 0, 1)
	}
	s.guarded.Unlock()
	defer s.guarded.Lock()
	s.space.b.offerRetained(ctx, w, sub, m)
}

// offerRetained delivers one retained message, if it still is: what replaced it
// since was delivered when it was published.
func (b *Broker) offerRetained(ctx context.Context, w *writes, sub *subscription, m *stored) {
	sp := sub.session.space
	if m.expired(time.Now()) {
		sp.retained.drop(b, sp, m)
		return
	}
	name, ok := sub.spell(m.routed)
	if now, had := sp.retained.names.Get(m.routed); !ok || !had || now != m {
		return
	}
	t := target{session: sub.session, subs: []*subscription{sub}, name: name}
	p := &publication{
		space: sp, origin: m.origin, payload: m.payload, qos: m.qos, retain: true, props: m.props,
		in: &inbound{routed: m.routed, levels: m.levels}, response: m.response, expires: m.expires,
		copied: m, fromRetained: true, writes: *w,
	}
	b.deliver(ctx, &t, p)
	*w = p.writes
}
