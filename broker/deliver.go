package broker

import (
	"context"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// cleared is a message that may be sent to one session now. Only clear makes
// one and only transmit takes one: that is the one door out.
type cleared struct {
	name     topic.Name
	response topic.Name // zero: none, or it has no spelling here
	qos      byte
	asIs     bool // keep the publisher's retain flag [MQTT-3.3.1-13]
	ids      []uint32
	expires  time.Time
}

// delivery is what clear looks at: a live publication or a kept copy of one.
type delivery struct {
	name     topic.Name // how the filters' mount spells it; zero: not looked at yet
	routed   topic.RoutedName
	levels   []string
	qos      byte
	retain   bool
	size     int
	props    *wire.PublishProperties
	response topic.RoutedName
	expires  time.Time
	resent   bool // it was sent before: expiry is for what was not [MQTT-4.3.3-7]
	origin   sessionKey
}

// expired reports whether d came too late to be sent for the first time [MQTT-3.3.2-5].
func (d *delivery) expired() bool {
	return !d.resent && !d.expires.IsZero() && !time.Now().Before(d.expires)
}

// clear decides whether s may have d now, through subs that share a mount. It
// is asked for every message on every way out: live, retained, queued, resent.
func (s *session) clear(ctx context.Context, subs []*subscription, d *delivery) (cleared, bool) {
	st := s.current(ctx) // judges a stale session first, which may end or replace some of subs
	out := cleared{expires: d.expires}
	var mount *topic.Mount
	unspelt := false
	for _, matched := range subs {
		sub := matched.living()
		if sub == nil || sub.noLocal && d.origin == s.key { // [MQTT-3.8.3-3]
			continue
		}
		if mount == nil {
			name, ok := d.name, true
			if sub != matched || name.IsZero() {
				name, ok = sub.spell(d.routed)
			}
			if !ok {
				unspelt = true
				continue
			}
			out.name, mount = name, sub.mount
		}
		out.qos = max(out.qos, sub.qos)
		out.asIs = out.asIs || sub.asPublished
		if sub.id != 0 && !slices.Contains(out.ids, sub.id) {
			out.ids = append(out.ids, sub.id) // [MQTT-3.3.4-4]
		}
	}
	switch stats := &s.space.b.stats; {
	case mount == nil && unspelt:
		stats.noTopic.Add(1)
		return cleared{}, false
	case mount == nil || !st.connect.Allow:
		return cleared{}, false
	case d.expired():
		stats.expired.Add(1)
		return cleared{}, false
	}
	out.qos = min(out.qos, d.qos) // [MQTT-3.8.4-8]
	if !d.response.IsZero() {
		out.response, _ = st.mounts().OutAny(mount, d.response)
	}
	if !s.mayReceive(ctx, st, out.name, mount, d) {
		return cleared{}, false
	}
	return out, true
}

// mayReceive asks cordon.receive about one concrete topic, where there is such a
// package.
func (s *session) mayReceive(ctx context.Context, st *standing, name topic.Name, mount *topic.Mount, d *delivery) bool {
	b := s.space.b
	if !st.judge.Decides(policy.ActionReceive) {
		return true
	}
	r := policy.Request{
		Action: policy.ActionReceive, Topic: name, Levels: d.levels,
		QoS: d.qos, Retain: d.retain, Size: d.size, Properties: policyProperties(d.props),
	}
	if mount.Device != nil {
		device, err := s.space.deviceAt(ctx, mount.Device, d.levels)
		if err != nil {
			b.logRefusal(s.space.key.org.String(), s.key.client, &refusal{
				action: policy.ActionReceive, cause: policy.CauseUnavailable, topic: name.String(), detail: err.Error(),
			})
			return false
		}
		r.Device = device
	}
	for {
		generation := st.judge.Generation()
		if !st.judge.Decides(policy.ActionReceive) {
			return true
		}
		decision := st.judge.Decide(ctx, &r)
		if decision.Allow {
			return true
		}
		if generation == st.judge.Generation() {
			b.logRefusal(s.space.key.org.String(), s.key.client, denied(policy.ActionReceive, decision, name.String()))
			return false
		}
		// An activation came between the two: to a bundle that does not decide it,
		// that is no denial.
	}
}

// deliver is the only way a new message leaves: live from admit, or retained
// from a subscribe. It reports whether the session has it, sent or queued.
func (b *Broker) deliver(ctx context.Context, t *target, p *publication) bool {
	if t.group != nil {
		return b.deliverShared(ctx, t.group, p, nil)
	}
	s := t.session
	c := s.conn.Load()
	if c == nil { // judged when it is sent
		return s.enqueue(ctx, t.subs, p)
	}
	d := delivery{
		name: t.name, routed: p.in.routed, levels: p.in.levels, qos: p.qos, retain: p.retain, size: len(p.payload),
		props: p.props, response: p.response, expires: p.expires, origin: p.origin,
	}
	out, ok := s.clear(ctx, t.subs, &d)
	if !ok {
		return false
	}
	if out.qos == 0 {
		return c.transmit(p.payer, &out, p.payload, p.props, 0, p.retainedFlag(out.asIs), false) != unsent
	}
	return s.sendOrQueue(&out, t.subs, p, p.retainedFlag(out.asIs))
}

// retainedFlag is the retain flag a receiver sees: set on a retained message for
// a new subscription [MQTT-3.3.1-8], else only for who asked for it as published.
func (p *publication) retainedFlag(asPublished bool) bool {
	return p.fromRetained || p.retain && asPublished
}

// sendOrQueue sends at QoS 1 if the window has room and nothing waits before
// it, and queues otherwise. So does QoS 2, unless the session is kept: then its
// packet identifier is stored first.
func (s *session) sendOrQueue(out *cleared, subs []*subscription, p *publication, retain bool) bool {
	e := &entry{msg: p.stored(), subs: subs, qos: out.qos, retain: retain}
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.dead {
		return false
	}
	o := &s.guarded.out
	c := s.conn.Load()
	kept := s.guarded.number != 0
	if c == nil || o.draining || o.waiting() > 0 || !o.room(c) || kept && e.qos == 2 {
		return s.pushLocked(&p.writes, e)
	}
	o.number(e)
	o.send(e, c)
	if c.transmit(p.payer, out, e.msg.payload, e.msg.props, e.id(), retain, false) == oversize {
		o.remove(e) // as if it had been sent and acknowledged [MQTT-3.1.2-25]
		return true
	}
	p.writes.saveLocked(s, e)
	return true
}

// enqueue keeps a message for an offline session. QoS 0 is not kept.
func (s *session) enqueue(ctx context.Context, subs []*subscription, p *publication) bool {
	qos, asIs := byte(0), false
	for _, sub := range subs {
		if sub = sub.living(); sub != nil && !(sub.noLocal && p.origin == s.key) {
			qos, asIs = max(qos, sub.qos), asIs || sub.asPublished
		}
	}
	if qos = min(qos, p.qos); qos == 0 {
		return false
	}
	return s.keep(ctx, &p.writes, &entry{msg: p.stored(), subs: subs, qos: qos, retain: p.retainedFlag(asIs)})
}

// keep queues e. The session may have come back since it was seen offline, and
// have sent all that it had by then: nobody else would send this one.
func (s *session) keep(ctx context.Context, w *writes, e *entry) bool {
	s.guarded.Lock()
	kept := !s.guarded.dead && s.pushLocked(w, e)
	online := s.conn.Load() != nil
	s.guarded.Unlock()
	if kept && online {
		s.drain(ctx, nil)
	}
	return kept
}

// pushLocked queues within the session's declared overflow rule.
func (s *session) pushLocked(w *writes, e *entry) bool {
	limits := s.standing.Load().limits()
	dropped := s.guarded.out.push(e, limits, s.space.b.budget.most(limits.QueueBytes))
	queued := true
	for _, d := range dropped {
		if d == e {
			queued = false
			continue
		}
		w.removeLocked(s, d)
	}
	if queued {
		w.saveLocked(s, e)
	}
	if len(dropped) > 0 {
		s.space.b.stats.droppedQueue.Add(uint64(len(dropped)))
		if !s.guarded.out.dropping {
			s.guarded.out.dropping = true
			s.space.b.log.Warn("queue overflow", "org", s.space.key.org, "client", string(s.key.client),
				"rule", limits.QueueOverflow.String(), "messages", s.guarded.out.waiting())
		}
	}
	return queued
}

// drain sends what is due: first, after a resume, what was in flight, then what
// waits, as far as the window allows. Each message passes clear again. Whatever
// is dropped on the way gives its place in the store back.
//
// via is the connection whose goroutine this is, if it is its own; see outbox.
func (s *session) drain(ctx context.Context, via *conn) {
	var w writes
	s.drainInto(ctx, via, &w)
	s.space.b.commitAny(&w)
}

func (s *session) drainInto(ctx context.Context, via *conn, w *writes) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	o := &s.guarded.out
	if o.draining {
		return // whoever is at it will see what there is now
	}
	o.draining = true
	for {
		c := s.conn.Load()
		if c == nil || s.guarded.dead {
			break
		}
		if e, before := o.unsent(c); e != nil {
			if before >= o.window && !e.released { // [MQTT-3.3.4-9]
				break
			}
			s.resendLocked(ctx, via, w, c, e)
			continue
		}
		if !o.room(c) || o.waiting() > 0 && o.first().unsafe() {
			break
		}
		switch {
		case o.waiting() > 0:
			s.sendNextLocked(ctx, via, w, c)
			continue
		case len(s.guarded.feeds) == 0:
		case c.out.busy():
			c.out.wakeToDrain() // once that is written
		default:
			s.feedLocked(ctx, w)
			continue
		}
		break
	}
	o.draining = false
	if o.waiting() == 0 {
		o.dropping = false
	}
}

// resendLocked sends a message in flight again on c: PUBREL if it was received
// already, else the PUBLISH with DUP, if it may still be had [MQTT-4.4.0-1].
func (s *session) resendLocked(ctx context.Context, via *conn, w *writes, c *conn, e *entry) {
	e.conn = c
	if e.released {
		if !e.saving { // else it is sent once that is stored
			c.ack(wire.Ack{Kind: wire.TypePubrel, PacketID: e.id()}, via)
		}
		return
	}
	out, ok := s.clearQueued(ctx, e, true)
	o := &s.guarded.out
	if !o.inFlight(e) { // acknowledged meanwhile
		return
	}
	if !ok {
		if e.qos == 2 && e.place != 0 {
			s.receivedLocked(w, c, e) // the client may have it: only PUBREL frees the packet ID there
			return
		}
		o.remove(e)
		w.removeLocked(s, e)
		return
	}
	if s.conn.Load() != c {
		return
	}
	out.qos = e.qos // the QoS of a packet ID does not change under way
	if c.transmit(via, &out, e.msg.payload, e.msg.props, e.id(), e.retain, true) == oversize {
		o.remove(e)
		w.removeLocked(s, e)
	}
}

// sendNextLocked sends the oldest waiting message, if it may still be had.
func (s *session) sendNextLocked(ctx context.Context, via *conn, w *writes, c *conn) {
	o := &s.guarded.out
	e := o.pop()
	if e.failed {
		return // its publisher knows, and will send it again
	}
	life := o.lives
	out, ok := s.clearQueued(ctx, e, false)
	switch {
	case !ok && e.resumed && e.qos == 2 && e.place != 0 && !s.guarded.dead && o.lives == life:
		o.send(e, c)
		s.receivedLocked(w, c, e) // the client may have it: only PUBREL frees the packet ID there
		return
	case !ok || s.guarded.dead || o.lives != life:
		w.removeLocked(s, e)
		return
	case s.conn.Load() != c: // gone meanwhile: the first in line again
		o.queue = slices.Insert(o.queue, o.head, e)
		o.weigh(e.msg.size)
		return
	}
	out.qos = e.qos
	o.send(e, c)
	if c.transmit(via, &out, e.msg.payload, e.msg.props, e.id(), e.retain, e.resumed) == oversize {
		o.remove(e)
		w.removeLocked(s, e)
	}
}

// clearQueued is clear for a kept message. It is called with the session's lock
// held and gives it up meanwhile: no policy is asked under a lock.
func (s *session) clearQueued(ctx context.Context, e *entry, resent bool) (cleared, bool) {
	m, subs, qos := e.msg, e.subs, e.qos
	s.guarded.Unlock()
	defer s.guarded.Lock()
	d := delivery{
		routed: m.routed, levels: m.levels, qos: qos, retain: m.retain, size: len(m.payload),
		props: m.props, response: m.response, expires: m.expires, resent: resent, origin: m.origin,
	}
	return s.clear(ctx, subs, &d)
}

// sending is what became of a message that was to be transmitted.
type sending uint8

const (
	unsent   sending = iota // the connection takes no more
	sent                    // it is in the outbox
	oversize                // it is larger than the client takes, and counts as sent [MQTT-3.1.2-25]
)

// transmit encodes one cleared message into the connection's outbox. A QoS 0
// message that finds more waiting than the session's limit is dropped; the
// others are bounded by the window. via is the connection whose goroutine this
// is, or nil.
func (c *conn) transmit(via *conn, out *cleared, payload []byte, props *wire.PublishProperties, id uint16, retain, dup bool) sending {
	if c.poll != nil {
		return c.poll.take(out, payload, id)
	}
	pk := wire.Publish{
		Payload: payload, PacketID: id, QoS: out.qos, Retain: retain, Dup: dup, SubscriptionIDs: out.ids,
	}
	if c.version == wire.V5 {
		pk.Properties = out.properties(props)
	} else {
		pk.SubscriptionIDs = nil
	}
	limit := 0
	if id == 0 {
		pk.QoS = 0
		limit = c.session.standing.Load().limits().QueueBytes
	}
	buf, ok := c.out.begin(limit)
	if !ok {
		if id == 0 {
			c.lane.out.dropped.Add(1)
		}
		return unsent
	}
	c.topicBuf = append(c.topicBuf[:0], out.name.String()...)
	pk.Topic = c.topicBuf
	if c.maxOut > 0 && wire.SizePublish(c.version, &pk)+aliasBytes > int(c.maxOut) {
		c.out.commit(buf, via)
		c.b.stats.tooLarge.Add(1)
		if id != 0 {
			c.b.log.Warn("message too large for its receiver", "org", c.space.key.org, "client", string(c.client.ID),
				"reason", string(policy.CausePayloadSize))
		}
		return oversize
	}
	if alias, known := c.aliasFor(out.name.String()); alias != 0 {
		pk.TopicAlias = alias
		if known {
			pk.Topic = nil
		}
	}
	c.lane.out.messages[min(pk.QoS, 2)].Add(1)
	c.wrote.messages++
	c.out.commit(wire.AppendPublish(buf, c.version, &pk), via)
	return sent
}

// properties are those of the message as this receiver sees them: the response
// topic in its own spelling, the rest of the expiry.
func (out *cleared) properties(props *wire.PublishProperties) *wire.PublishProperties {
	if props == nil || props.ResponseTopic == "" && !props.HasMessageExpiry {
		return props
	}
	seen := *props
	seen.ResponseTopic = out.response.String()
	if seen.HasMessageExpiry {
		// What is left of it, with whole seconds waited taken off [MQTT-3.3.2-6].
		seen.MessageExpiry = uint32(max(0, (time.Until(out.expires)+time.Second-1)/time.Second))
	}
	return &seen
}
