package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// subscription is one filter of a session, as granted. But for until it is
// immutable; another SUBSCRIBE to the same filter replaces it whole.
type subscription struct {
	session *session
	filter  topic.Filter
	mounts  topic.Mounts // the mounts it was made under
	mount   *topic.Mount
	routed  topic.RoutedFilter
	wanted  byte // QoS asked for
	qos     byte // QoS granted
	id      uint32
	number  uint32    // among the subscriptions of its session, kept by what replaces it
	named   string    // share name as the client wrote it; empty for an ordinary filter
	share   string    // share name inside the organisation: named, or that of the connect answer
	group   *group    // of a shared one, once it is entered
	until   time.Time // when it is judged again; zero: never. Guarded by the session's lock

	noLocal, asPublished bool

	dead atomic.Bool                  // removed or replaced: it delivers nothing by itself
	heir atomic.Pointer[subscription] // what replaced it; set before dead
}

// living is sub or what has replaced it, and nil once it is removed. A message
// that was gathered or queued for sub goes on to its heir.
func (sub *subscription) living() *subscription {
	for sub != nil && sub.dead.Load() {
		sub = sub.heir.Load()
	}
	return sub
}

// subscriptionKey is what makes two SUBSCRIBEs the same subscription.
type subscriptionKey struct {
	share  string
	filter topic.Filter
}

func (sub *subscription) key() subscriptionKey { return subscriptionKey{sub.named, sub.filter} }

// handleSubscribe judges each filter by itself and answers them together.
func (c *conn) handleSubscribe(ctx context.Context, pk *wire.Subscribe) {
	s := c.session
	s.current(ctx)
	type granted struct {
		sub    *subscription
		isNew  bool
		option wire.Subscription
	}
	codes := make([]wire.Code, len(pk.Filters))
	var fresh []granted
	var told []*refusal
	reason := ""
	var fatal *refusal
	unknown := c.registerFor(ctx, pk)
	stored := c.change(func(w *writes) {
		for i, option := range pk.Filters {
			sub, isNew, r := s.subscribe(ctx, w, option, pk.SubscriptionID)
			if r == nil {
				codes[i] = wire.Code(sub.qos)
				fresh = append(fresh, granted{sub, isNew, option})
				continue
			}
			if unknown != nil && r.registers() {
				r = unknown // it says why nothing was registered
			}
			told = append(told, r)
			c.b.logRefusal(c.org(), c.client.ID, r)
			if r.onDeny == policy.Close {
				fatal = r
				return
			}
			codes[i] = r.reasonCode()
			if reason == "" && c.problem {
				reason = r.publicReason()
			}
		}
	})
	if !c.await(ctx, stored) {
		return
	}
	if fatal != nil {
		c.end(ending{cause: fatal.cause, code: fatal.reasonCode(), reason: fatal.publicReason(), will: willFires})
		return
	}
	if buf, ok := c.out.begin(0); ok {
		ack := wire.Suback{PacketID: pk.PacketID, Codes: codes, ReasonString: reason, MaxSize: c.maxOut}
		c.out.commit(wire.AppendSuback(buf, c.version, &ack), nil)
	}
	for _, r := range told {
		c.notify(ctx, r)
	}
	s.schedule()
	for _, g := range fresh {
		if g.option.RetainHandling == 0 || g.option.RetainHandling == 1 && g.isNew { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
			c.b.sendRetained(ctx, g.sub)
		}
	}
	c.handOver(ctx)
}

// registerFor has the device that a gateway listens for registered, where there is
// one filter and the policy says so. It judges before the session is locked: what
// counts is the judgement that follows. A refusal says why it did not come about.
func (c *conn) registerFor(ctx context.Context, pk *wire.Subscribe) *refusal {
	st := c.session.standing.Load()
	if len(pk.Filters) != 1 || st.principal.Kind != policy.KindGateway {
		return nil
	}
	share, filter, err := topic.ParseSubscription(pk.Filters[0].Filter)
	if err != nil {
		return nil // which is found again, and told
	}
	sub := &subscription{session: c.session, filter: filter, named: share, wanted: pk.Filters[0].QoS}
	r := c.session.authoriseSubscription(ctx, st, sub)
	if !r.registers() {
		return nil
	}
	c.flushTouched()
	return c.space.register(ctx, st.principal, r)
}

// change runs f, which changes the subscriptions of the session, with connectMu
// held, and submits what it notes before it is released. The channel has the
// outcome; it is nil where there was nothing to store.
func (c *conn) change(f func(w *writes)) <-chan error {
	c.session.connectMu.Lock()
	defer c.session.connectMu.Unlock()
	var w writes
	f(&w)
	if w.none() {
		return nil
	}
	outcome := make(chan error, 1)
	c.b.commit(&w, func(err error) { outcome <- err })
	return outcome
}

// await waits until a change is stored, and ends the connection if it could not
// be: nothing is promised that a crash would take back.
func (c *conn) await(ctx context.Context, outcome <-chan error) bool {
	if outcome == nil {
		return true
	}
	if err := <-outcome; err != nil {
		c.end(ending{cause: policy.CauseStorage, code: codeOf(policy.CauseStorage), will: willFires})
		return false
	}
	return ctx.Err() == nil
}

// subscribe judges one filter and enters it; connectMu is held, so that no
// change of standing can come between the judgement and the entry.
func (s *session) subscribe(ctx context.Context, w *writes, option wire.Subscription, id uint32) (*subscription, bool, *refusal) {
	no := func(cause policy.Cause, code wire.Code, onDeny policy.OnDeny, detail string) (*subscription, bool, *refusal) {
		return nil, false, &refusal{
			action: policy.ActionSubscribe, cause: cause, code: code, topic: option.Filter, detail: detail, onDeny: onDeny,
		}
	}
	st := s.standing.Load()
	if !st.connect.Allow || s.isDead() {
		return no(policy.CauseRejudged, wire.NotAuthorized, policy.Close, "")
	}
	share, filter, err := topic.ParseSubscription(option.Filter)
	switch {
	case errors.Is(err, topic.ErrShare):
		return no(policy.CauseTopic, wire.TopicFilterInvalid, policy.Refuse, err.Error())
	case err != nil: // malformed: there is no such filter in MQTT
		return no(policy.CauseTopic, wire.MalformedPacket, policy.Close, err.Error())
	case share != "" && option.NoLocal: // [MQTT-3.8.3-4]
		return no(policy.CauseProtocol, wire.ProtocolError, policy.Close, "no local on a shared subscription")
	}
	sub := &subscription{
		session: s, filter: filter, named: share, wanted: option.QoS, id: id,
		noLocal: option.NoLocal, asPublished: option.RetainAsPublished,
	}
	if r := s.authoriseSubscription(ctx, st, sub); r != nil {
		return nil, false, r
	}
	isNew, r := s.enter(ctx, w, sub, st.limits().SubscriptionsMax)
	if r != nil {
		return nil, false, r
	}
	return sub, isNew, nil
}

// authoriseSubscription maps and judges sub under st, and fills in what was granted.
func (s *session) authoriseSubscription(ctx context.Context, st *standing, sub *subscription) *refusal {
	routed, mount, err := st.mounts().InFilter(sub.filter)
	if err != nil {
		code := wire.NotAuthorized
		if errors.Is(err, topic.ErrTooLong) || errors.Is(err, topic.ErrTooDeep) {
			code = wire.TopicFilterInvalid
		}
		return &refusal{
			action: policy.ActionSubscribe, cause: policy.CauseTopic, code: code,
			topic: sub.filter.String(), detail: err.Error(),
		}
	}
	request := policy.Request{
		Action: policy.ActionSubscribe, Filter: sub.filter, Levels: routed.Levels(), QoS: sub.wanted, Share: sub.named,
	}
	if mount.Device != nil {
		if request.Device, err = s.space.deviceAt(ctx, mount.Device, request.Levels); err != nil {
			return &refusal{action: policy.ActionSubscribe, cause: policy.CauseUnavailable, topic: sub.filter.String(), detail: err.Error()}
		}
	}
	d := decide(ctx, st.judge, &request)
	if !d.Allow {
		r := denied(policy.ActionSubscribe, d, sub.filter.String())
		r.device = request.Device
		return r
	}
	sub.mounts, sub.routed, sub.mount, sub.until = st.mounts(), routed, mount, d.Until
	sub.qos = min(sub.wanted, d.MaxQoS, st.limits().QoSMax)
	if sub.share = sub.named; sub.share == "" {
		sub.share = connectShare(st.connect.Share)
	}
	return nil
}

// enter puts sub into the session and the index, in place of an earlier one of
// the same filter. The new one is entered first, so that no message falls
// between the two; a message that meets both is delivered once.
func (s *session) enter(ctx context.Context, w *writes, sub *subscription, most int) (isNew bool, r *refusal) {
	key := sub.key()
	quota := s.space.limits(ctx).Subscriptions
	s.guarded.Lock()
	defer s.guarded.Unlock()
	old := s.guarded.subs[key]
	if old == nil && (len(s.guarded.subs) >= most || s.space.subscriptions() >= quota) {
		cause := policy.CauseLimit
		if len(s.guarded.subs) < most {
			cause = policy.CauseQuota
		}
		return false, &refusal{action: policy.ActionSubscribe, cause: cause, topic: sub.filter.String()}
	}
	if old != nil {
		sub.number = old.number
	} else {
		s.guarded.subbed++
		sub.number = s.guarded.subbed
	}
	s.guarded.subs[key] = sub
	w.subscribeLocked(s, sub)
	s.space.add(sub)
	if old != nil {
		s.space.remove(old)
		old.heir.Store(sub)
		old.dead.Store(true)
	}
	return old == nil, nil
}

// handleUnsubscribe removes filters. No policy is asked: whoever subscribed may
// always stop.
func (c *conn) handleUnsubscribe(ctx context.Context, pk *wire.Unsubscribe) {
	codes := make([]wire.Code, len(pk.Filters))
	var owed []*entry
	malformed := false
	stored := c.change(func(w *writes) {
		for i, written := range pk.Filters {
			share, filter, err := topic.ParseSubscription(written)
			switch {
			case errors.Is(err, topic.ErrShare):
				codes[i] = wire.TopicFilterInvalid
			case err != nil:
				malformed = true
				return
			default:
				sub := c.session.unsubscribe(w, subscriptionKey{share, filter})
				if sub == nil {
					codes[i] = wire.NoSubscriptionExisted // [MQTT-3.11.3-2]
				} else if sub.group != nil {
					owed = append(owed, c.session.owed(sub.group)...)
				}
			}
		}
	})
	c.session.handOver(ctx, owed, false)
	if !c.await(ctx, stored) {
		return
	}
	if malformed {
		c.end(ending{cause: policy.CauseTopic, code: wire.MalformedPacket, will: willFires})
		return
	}
	if buf, ok := c.out.begin(0); ok {
		ack := wire.Unsuback{PacketID: pk.PacketID, Codes: codes, MaxSize: c.maxOut}
		c.out.commit(wire.AppendUnsuback(buf, c.version, &ack), nil)
	}
}

// unsubscribe takes one subscription out and returns it, nil if there was none.
func (s *session) unsubscribe(w *writes, key subscriptionKey) *subscription {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	sub := s.guarded.subs[key]
	if sub == nil {
		return nil
	}
	delete(s.guarded.subs, key)
	if s.guarded.number != 0 {
		w.delete(s.space.keys.Subscription(s.guarded.number, sub.number))
	}
	sub.dead.Store(true)
	s.space.remove(sub)
	if c := s.conn.Load(); c != nil && c.poll != nil {
		c.poll.notify() // it has nothing to wait for any more
	}
	return sub
}

// dropSubscriptions ends all of them; connectMu is held.
func (s *session) dropSubscriptions(w *writes) {
	for _, sub := range s.subscriptions() {
		s.unsubscribe(w, sub.key())
	}
}

// rejudgeSubscriptions judges every subscription under st, from its client
// spelling, and takes away what is not allowed any more. What is still allowed
// stays the same object, unless its mount or its QoS changed; connectMu is held.
func (s *session) rejudgeSubscriptions(ctx context.Context, w *writes, old, st *standing) {
	b := s.space.b
	for _, sub := range s.subscriptions() {
		now := &subscription{
			session: s, filter: sub.filter, named: sub.named, wanted: sub.wanted, id: sub.id,
			noLocal: sub.noLocal, asPublished: sub.asPublished,
		}
		r := s.authoriseSubscription(ctx, st, now)
		switch {
		case r != nil:
			s.unsubscribe(w, sub.key())
			r.detail = joinDetail(r.detail, "subscription removed")
			b.logRefusal(s.space.key.org.String(), s.key.client, r)
		case now.qos != sub.qos || now.share != sub.share || !old.mounts().Equal(st.mounts()):
			s.replace(w, sub, now)
		default:
			s.guarded.Lock()
			sub.until = now.until
			s.guarded.Unlock()
		}
	}
}

// replace puts now in the place of sub. What was queued for sub goes to now,
// where it still has a spelling.
func (s *session) replace(w *writes, sub, now *subscription) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	key := sub.key()
	if s.guarded.subs[key] != sub {
		return
	}
	now.number = sub.number
	s.guarded.subs[key] = now
	w.subscribeLocked(s, now)
	s.space.add(now)
	s.space.remove(sub)
	sub.heir.Store(now)
	sub.dead.Store(true)
}

// subscribeLocked notes that sub is to be stored, if its session is. The
// session's lock is held.
func (w *writes) subscribeLocked(s *session, sub *subscription) {
	if s.guarded.number == 0 {
		return
	}
	record := durable.Subscription{
		Filter: sub.filter, Named: sub.named, Share: sub.share, Wanted: sub.wanted, QoS: sub.qos, ID: sub.id,
		NoLocal: sub.noLocal, AsPublished: sub.asPublished,
	}
	w.put(s.space.keys.Subscription(s.guarded.number, sub.number), record.Append(nil))
}
