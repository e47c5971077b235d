package broker

import (
	"sync/atomic"
	"time"

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
	device   *policy.Device // whom the topic names; nil: nobody
	size     int            // bytes that limits and quotas count
}

// stored copies p at the first call and returns the same copy ever after.
func (p *publication) stored() *stored {
	if p.copied == nil {
		p.copied = &stored{
			routed: p.in.routed, levels: p.in.levels, payload: append([]byte(nil), p.payload...),
			qos: p.qos, retain: p.retain, props: p.props, response: p.response, expires: p.expires, origin: p.origin,
			device: p.request.Device, size: len(p.payload) + len(p.in.routed.String()) + propertiesSize(p.props),
		}
	}
	return p.copied
}

// propertiesSize is how many bytes a client put into the properties of a message.
func propertiesSize(props *wire.PublishProperties) int {
	if props == nil {
		return 0
	}
	n := len(props.ContentType) + len(props.ResponseTopic) + len(props.CorrelationData)
	for _, u := range props.User {
		n += len(u.Key) + len(u.Value)
	}
	return n
}

func (m *stored) expired(now time.Time) bool { return !m.expires.IsZero() && !now.Before(m.expires) }

// outgoing is what a session owes its client at QoS 1 and 2: messages in flight,
// in the order they were sent, and messages that wait for room in the window.
// The session's lock guards it. Packet IDs here are the broker's own; those of
// messages from the client are another space.
type outgoing struct {
	window   int // most messages in flight
	lastID   uint16
	inflight []*sent
	queue    []queued // queue[head:] waits
	head     int
	bytes    int           // of the waiting messages; see weigh
	total    *atomic.Int64 // of the whole organisation
	draining bool
	dropping bool // an episode of overflow is under way, logged once
}

// queued is one message for one subscription (or several merged ones).
type queued struct {
	msg    *stored
	subs   []*subscription
	qos    byte
	retain bool // retained flag as the client will see it
}

// sent is a message in flight.
type sent struct {
	queued
	id       uint16
	conn     *conn // it was last sent on; another one after a resume
	released bool  // QoS 2: PUBREC came, PUBREL is what is repeated
}

func windowFor(pk *wire.Connect, st *standing) int {
	return max(1, min(int(pk.ReceiveMaximum), st.limits().InflightMax))
}

// weigh adds n bytes of waiting messages, or takes them away.
func (o *outgoing) weigh(n int) {
	o.bytes += n
	o.total.Add(int64(n))
}

// reset forgets all messages. Whoever is draining goes on with what comes then.
func (o *outgoing) reset() {
	o.weigh(-o.bytes)
	*o = outgoing{total: o.total, draining: o.draining}
}

func (o *outgoing) waiting() int { return len(o.queue) - o.head }

// room reports whether one more message may be sent on c: the window is not
// full and nothing older still has to be sent again first.
func (o *outgoing) room(c *conn) bool {
	return len(o.inflight) < o.window && !o.resending(c)
}

// push queues q within the limits and answers what fell out of the queue.
func (o *outgoing) push(q queued, limits *policy.Limits) (dropped int) {
	over := func() bool {
		return o.waiting() >= limits.QueueMessages || o.bytes+q.msg.size > limits.QueueBytes
	}
	for over() {
		if limits.QueueOverflow == policy.DropNewest || o.waiting() == 0 {
			return dropped + 1
		}
		o.pop()
		dropped++
	}
	o.queue = append(o.queue, q)
	o.weigh(q.msg.size)
	return dropped
}

// pop takes the oldest waiting message; there must be one.
func (o *outgoing) pop() queued {
	q := o.queue[o.head]
	o.queue[o.head] = queued{}
	o.head++
	o.weigh(-q.msg.size)
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
	} else if o.head > 64 && o.head > len(o.queue)/2 {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	return q
}

// send enters q as in flight on c and gives it a packet ID [MQTT-2.2.1-4].
func (o *outgoing) send(q queued, c *conn) *sent {
	for {
		o.lastID++
		if o.lastID != 0 && o.find(o.lastID) < 0 {
			break
		}
	}
	m := &sent{queued: q, id: o.lastID, conn: c}
	o.inflight = append(o.inflight, m)
	return m
}

// find is the place of id among the messages in flight, or -1. Clients answer
// in order, so it is nearly always the first.
func (o *outgoing) find(id uint16) int {
	for i, m := range o.inflight {
		if m.id == id {
			return i
		}
	}
	return -1
}

func (o *outgoing) remove(i int) {
	copy(o.inflight[i:], o.inflight[i+1:])
	o.inflight[len(o.inflight)-1] = nil
	o.inflight = o.inflight[:len(o.inflight)-1]
}

// unsent is the first message in flight that was not sent on c yet, and how many
// before it were: they are sent again in their order, so the others follow it.
func (o *outgoing) unsent(c *conn) (m *sent, before int) {
	for i, m := range o.inflight {
		if m.conn != c {
			return m, i
		}
	}
	return nil, len(o.inflight)
}

// resending reports whether something in flight was not sent on c yet.
func (o *outgoing) resending(c *conn) bool {
	return len(o.inflight) > 0 && o.inflight[len(o.inflight)-1].conn != c
}
