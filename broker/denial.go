package broker

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// refusePublish does with a refused PUBLISH what on_deny says and the protocol
// has a word for. MQTT 3.x has no negative acknowledgement, so there to refuse
// is to close.
func (c *conn) refusePublish(ctx context.Context, pk *wire.Publish, r *refusal) {
	topic := r.topic
	if topic == "" {
		topic = string(pk.Topic)
	}
	how := r.onDeny
	if how == policy.Refuse && c.version != wire.V5 {
		how = policy.Close
		if lasting(r.cause) && c.space.closes.third(c.session.key, topic, time.Now()) {
			// The client stored the message and would send it after every reconnect.
			how = policy.Drop
			r.detail = joinDetail(r.detail, "third close within a minute: acknowledged and dropped")
		}
	}
	c.b.logRefusal(c.org(), c.client.ID, r)
	if how != policy.Close {
		defer c.notify(ctx, r) // after the acknowledgement
	}
	switch {
	case how == policy.Close:
		c.end(ending{cause: r.cause, code: r.reasonCode(), reason: r.publicReason(), action: r.action, will: willFires})
	case pk.QoS == 0: // there is no acknowledgement to say it with
	case how == policy.Drop:
		c.acknowledge(pk, &publication{matched: 1})
	default:
		kind := wire.TypePuback
		if pk.QoS == 2 {
			kind = wire.TypePubrec
		}
		a := wire.Ack{Kind: kind, PacketID: pk.PacketID, Code: r.reasonCode()}
		if c.problem { // [MQTT-3.1.2-29]
			a.ReasonString = r.publicReason()
		}
		c.answer(&writes{}, ackAfter{Ack: a})
	}
}

// lasting reports whether a message that is refused for cause will be refused
// again. One that can be stored later must not be acknowledged and dropped: what
// is acknowledged is kept.
func lasting(cause policy.Cause) bool {
	switch cause {
	case policy.CauseStorage, policy.CauseQuota, policy.CauseUnavailable:
		return false
	default:
		return true
	}
}

func joinDetail(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// closeMemory remembers which topics a 3.x client was lately cut off for. It
// outlives the session: a clean one ends with each close.
type closeMemory struct {
	guarded struct {
		sync.Mutex
		closes map[closeKey][]time.Time
	}
}

type closeKey struct {
	session sessionKey
	topic   [sha256.Size]byte // of any length, so only its digest is kept
}

const (
	closeWindow    = time.Minute
	closesPerTopic = 3
	closesKept     = 4096 // per organisation; beyond, old and then all entries go
)

// third records a close and reports whether it is the third within the window.
func (m *closeMemory) third(key sessionKey, topic string, now time.Time) bool {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	if m.guarded.closes == nil || len(m.guarded.closes) >= closesKept {
		m.forgetLocked(now)
	}
	k := closeKey{key, sha256.Sum256([]byte(topic))}
	recent := m.guarded.closes[k][:0:0]
	for _, at := range m.guarded.closes[k] {
		if now.Sub(at) < closeWindow {
			recent = append(recent, at)
		}
	}
	if len(recent) < closesPerTopic {
		recent = append(recent, now)
	} else {
		recent[closesPerTopic-1] = now
	}
	m.guarded.closes[k] = recent
	return len(recent) >= closesPerTopic
}

func (m *closeMemory) forgetLocked(now time.Time) {
	kept := make(map[closeKey][]time.Time)
	for k, times := range m.guarded.closes {
		if now.Sub(times[len(times)-1]) < closeWindow && len(kept) < closesKept/2 {
			kept[k] = times
		}
	}
	m.guarded.closes = kept
}
