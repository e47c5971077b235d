package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// stored is the immutable copy of a message that outlives its publish: one,
// however many sessions queue it.
type stored struct {
	routed   topic.RoutedName
	levels   []string
	payload  []byte
	qos      byte
	retain   bool
	props    *wire.PublishProperties
	response topic.RoutedName
	expires  time.Time
	origin   sessionKey
	device   deviceName           // whom the topic names; zero: nobody
	size     int                  // bytes that limits and quotas count
	unstored bool                 // its publisher says it again after a restart
	shared   atomic.Pointer[body] // its one place in the store, once several queues needed it
}

// deviceName is the device that a topic names.
type deviceName struct{ typ, id policy.ID }

// stored copies p at the first call and returns the same copy ever after.
func (p *publication) stored() *stored {
	if p.copied == nil {
		p.copied = &stored{
			routed: p.in.routed, levels: p.in.levels, payload: append([]byte(nil), p.payload...),
			qos: p.qos, retain: p.retain, props: p.props, response: p.response, expires: p.expires, origin: p.origin,
			unstored: p.unstored,
		}
		if d := p.request.Device; d != nil {
			p.copied.device = deviceName{d.Type, d.ID}
		}
		p.copied.size = p.copied.weight()
	}
	return p.copied
}

// weight is what limits and quotas count of m, in bytes.
func (m *stored) weight() int {
	n := len(m.payload) + len(m.routed.String())
	if m.props == nil {
		return n
	}
	n += len(m.props.ContentType) + len(m.props.ResponseTopic) + len(m.props.CorrelationData)
	for _, u := range m.props.User {
		n += len(u.Key) + len(u.Value)
	}
	return n
}

func (m *stored) expired(now time.Time) bool { return !m.expires.IsZero() && !now.Before(m.expires) }

// entry is one message that a session owes its client, through one subscription
// or several merged ones. It waits, then is in flight, then is gone.
type entry struct {
	msg    *stored
	subs   []*subscription
	seq    uint64 // its place in the order of the session
	conn   *conn  // it was last sent on; nil: never; another one after a resume
	qos    byte
	retain bool // retained flag as the client will see it

	released bool // QoS 2: PUBREC came, PUBREL is what is repeated
	resumed  bool // it comes from an earlier run of the broker, which may have sent it

	// Where the session is kept, its state in the store; see writes.
	place  uint64 // the session's number there; 0: it has no slot
	body   *body  // the message, where the slot only names it
	saving bool   // what was written last is not confirmed yet
	gone   bool   // removed meanwhile: the slot is freed once it is
	failed bool   // it could not be written: whoever published it was told so
}

// id is the packet identifier of e, and its slot in the store.
func (e *entry) id() uint16 { return durable.Slot(e.seq) }

// unsafe reports whether e may not be sent yet: at QoS 2 its packet identifier
// is stored first, so that after a crash it is not sent under another one.
func (e *entry) unsafe() bool { return e.qos == 2 && e.saving }

// outgoing is what a session owes its client at QoS 1 and 2: messages in flight,
// in the order they were sent, and messages that wait for room in the window.
// The session's lock guards it. Packet IDs here are the broker's own; those of
// messages from the client are another space.
//
// Entries of both lists together are in the order of their numbers.
type outgoing struct {
	window   int    // most messages in flight
	next     uint64 // number of the next entry
	lives    uint64 // how often everything was forgotten
	inflight []*entry
	queue    []*entry // queue[head:] waits
	head     int
	bytes    int           // of the waiting messages; see weigh
	unsaved  int           // entries whose write is not confirmed
	total    *atomic.Int64 // of the whole organisation
	budget   *budget       // of all of them
	draining bool
	dropping bool // an episode of overflow is under way, logged once
}

// Bounds that packet identifiers set, whatever the limits of a policy say: each
// entry has one of its own, of which there are durable.Slots.
const (
	maxInflight = 16384
	maxEntries  = 49152
)

func windowFor(pk *wire.Connect, st *standing) int {
	return max(1, min(int(pk.ReceiveMaximum), st.limits().InflightMax, maxInflight))
}

// weigh adds n bytes of waiting messages, or takes them away.
func (o *outgoing) weigh(n int) {
	o.bytes += n
	o.total.Add(int64(n))
	o.budget.add(n)
}

// reset forgets all messages. Whoever is draining goes on with what comes then.
func (o *outgoing) reset() {
	o.weigh(-o.bytes)
	*o = outgoing{total: o.total, budget: o.budget, draining: o.draining, next: o.next, lives: o.lives + 1, unsaved: o.unsaved}
}

func (o *outgoing) waiting() int { return len(o.queue) - o.head }

// room reports whether one more message may be sent on c: the window is not
// full and nothing older still has to be sent again first.
func (o *outgoing) room(c *conn) bool {
	return len(o.inflight) < o.window && !o.resending(c) && (c.poll == nil || c.poll.waits())
}

// push queues e within the limits, and within bytes in all, and returns what
// fell out of the queue, which may be e itself.
func (o *outgoing) push(e *entry, limits *policy.Limits, bytes int) (dropped []*entry) {
	over := func() bool {
		return o.waiting() >= limits.QueueMessages || o.bytes+e.msg.size > bytes ||
			len(o.inflight)+o.waiting()+o.unsaved >= maxEntries
	}
	for over() {
		if limits.QueueOverflow == policy.DropNewest || o.waiting() == 0 {
			return append(dropped, e)
		}
		dropped = append(dropped, o.pop())
	}
	o.number(e)
	o.append(e)
	return dropped
}

// append puts e at the end of those that wait.
func (o *outgoing) append(e *entry) {
	o.queue = append(o.queue, e)
	o.weigh(e.msg.size)
}

// first is the oldest waiting message; there must be one.
func (o *outgoing) first() *entry { return o.queue[o.head] }

// pop takes the oldest waiting message; there must be one.
func (o *outgoing) pop() *entry {
	e := o.queue[o.head]
	o.queue[o.head] = nil
	o.head++
	o.weigh(-e.msg.size)
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
	} else if o.head > 64 && o.head > len(o.queue)/2 {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	return e
}

// number gives e the next number whose packet ID no other entry has
// [MQTT-2.2.1-4].
func (o *outgoing) number(e *entry) {
	for {
		e.seq = o.next
		o.next++
		if !o.taken(e.seq) {
			return
		}
	}
}

// taken reports whether an entry has the packet ID of number seq. Numbers only
// grow, so as long as the oldest is near enough nobody can.
func (o *outgoing) taken(seq uint64) bool {
	oldest := seq
	if len(o.inflight) > 0 {
		oldest = o.inflight[0].seq
	} else if o.waiting() > 0 {
		oldest = o.first().seq
	}
	if seq-oldest < durable.Slots {
		return false
	}
	id := durable.Slot(seq)
	for _, e := range o.queue[o.head:] {
		if e.id() == id {
			return true
		}
	}
	return o.find(id) >= 0
}

// send enters e as in flight on c.
func (o *outgoing) send(e *entry, c *conn) {
	e.conn = c
	o.inflight = append(o.inflight, e)
}

// find is the place of id among the messages in flight, or -1. Clients answer
// in order, so it is nearly always the first.
func (o *outgoing) find(id uint16) int {
	for i, e := range o.inflight {
		if e.id() == id {
			return i
		}
	}
	return -1
}

// inFlight reports whether e is.
func (o *outgoing) inFlight(e *entry) bool { return slices.Contains(o.inflight, e) }

// remove takes e out of the messages in flight, if it is there.
func (o *outgoing) remove(e *entry) {
	for i := range o.inflight {
		if o.inflight[i] == e {
			copy(o.inflight[i:], o.inflight[i+1:])
			o.inflight[len(o.inflight)-1] = nil
			o.inflight = o.inflight[:len(o.inflight)-1]
			return
		}
	}
}

// unsent is the first message in flight that was not sent on c yet, and how many
// before it were: they are sent again in their order, so the others follow it.
func (o *outgoing) unsent(c *conn) (e *entry, before int) {
	for i, e := range o.inflight {
		if e.conn != c {
			return e, i
		}
	}
	return nil, len(o.inflight)
}

// resending reports whether something in flight was not sent on c yet.
func (o *outgoing) resending(c *conn) bool {
	return len(o.inflight) > 0 && o.inflight[len(o.inflight)-1].conn != c
}
