package broker

import (
	"context"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/route"
	"github.com/cordon-mq/cordon/policy"
)

// retained holds the last message of each topic of one organisation that was
// published with the retain flag and allowed to keep it.
type retained struct {
	names   route.Names[*stored]
	guarded struct {
		sync.Mutex
		bytes int64
	}
}

// retain stores p under its topic, or with an empty payload removes what is
// there [MQTT-3.3.1-6].
func (b *Broker) retain(ctx context.Context, p *publication) *refusal {
	store, most := &p.space.retained, p.space.limits(ctx).RetainedBytes
	store.guarded.Lock()
	defer store.guarded.Unlock()
	if len(p.payload) == 0 {
		if old, had := store.names.Delete(p.in.routed); had {
			store.guarded.bytes -= int64(old.size)
		}
		return nil
	}
	m := p.stored()
	old, had := store.names.Set(p.in.routed, m)
	grown := int64(m.size)
	if had {
		grown -= int64(old.size)
	}
	if grown > 0 && store.guarded.bytes+grown > most {
		if had {
			store.names.Set(p.in.routed, old)
		} else {
			store.names.Delete(p.in.routed)
		}
		return &refusal{action: policy.ActionPublish, cause: policy.CauseQuota, topic: p.name.String(), detail: "retained bytes of the organisation"}
	}
	store.guarded.bytes += grown
	return nil
}

// forget removes what is retained under topics that name a device.
func (r *retained) forget(typ, id policy.ID) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	for _, m := range r.names.All() {
		if m.device == nil || m.device.Type != typ || m.device.ID != id {
			continue
		}
		if _, had := r.names.Delete(m.routed); had {
			r.guarded.bytes -= int64(m.size)
		}
	}
}

// drop removes one message, unless another has its place by now.
func (r *retained) drop(m *stored) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	switch now, had := r.names.Delete(m.routed); {
	case !had:
	case now != m:
		r.names.Set(m.routed, now)
	default:
		r.guarded.bytes -= int64(m.size)
	}
}

// sendRetained delivers what is retained for a new subscription, through the
// same door as everything else.
func (b *Broker) sendRetained(ctx context.Context, sub *subscription) {
	if sub.group != nil {
		return // a shared subscription gets none when it begins (MQTT 5 §4.8.2)
	}
	sp := sub.session.space
	for _, m := range sp.retained.names.Match(sub.routed) {
		if m.expired(time.Now()) {
			sp.retained.drop(m)
			continue
		}
		name, ok := sub.spell(m.routed)
		if !ok {
			continue
		}
		t := target{session: sub.session, subs: []*subscription{sub}, name: name}
		p := &publication{
			space: sp, origin: m.origin, payload: m.payload, qos: m.qos, retain: true, props: m.props,
			in: &inbound{routed: m.routed, levels: m.levels}, response: m.response, expires: m.expires,
			copied: m, fromRetained: true,
		}
		b.deliver(ctx, &t, p)
	}
}
