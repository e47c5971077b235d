package broker

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// will is the message a connection leaves behind when it ends without a word.
// It keeps the client's own spelling: it is mapped and judged at CONNECT, and
// again with what holds then when it fires.
type will struct {
	name    topic.Name
	payload []byte
	qos     byte
	retain  bool
	delay   time.Duration
	props   *wire.PublishProperties
	place   uint64 // number of the session it is stored with; 0: it is not
}

func (w *will) record() *durable.Will {
	return &durable.Will{Name: w.name, Payload: w.payload, QoS: w.qos, Retain: w.retain, Delay: w.delay, Props: w.props}
}

// willFate says whether the will of an ending connection may fire. Firing is
// judged again; never is for a clean goodbye and a revoked credential.
type willFate uint8

const (
	willFires willFate = iota
	willNever
)

// judgeWill judges the will of a CONNECT as a publish of that principal. A
// denied one refuses the connect, or is left out where the connect or the publish
// answer says on_deny drop.
func (c *conn) judgeWill(ctx context.Context, st *standing, pk *wire.Will) (*will, *refusal) {
	if pk == nil {
		return nil, nil
	}
	name, err := topic.ParseName(pk.Topic)
	if err != nil {
		return nil, &refusal{action: policy.ActionPublish, cause: policy.CauseTopic, detail: err.Error()}
	}
	if pk.QoS > st.limits().QoSMax { // [MQTT-3.2.2-12]
		return nil, &refusal{action: policy.ActionPublish, cause: policy.CauseLimit, code: wire.QoSNotSupported, topic: pk.Topic}
	}
	w := &will{
		name: name, payload: pk.Payload, qos: pk.QoS, retain: pk.Retain,
		delay: time.Duration(pk.DelayInterval) * time.Second,
	}
	if !pk.Properties.IsZero() {
		props := pk.Properties
		w.props = &props
	}
	p := c.b.publication(c.space, sessionKey{}, st, w)
	if r := c.b.authorise(ctx, p); r != nil {
		if r.onDeny == policy.Drop || st.connect.OnDeny == policy.Drop {
			c.b.logRefusal(c.org(), c.client.ID, r)
			return nil, nil
		}
		return nil, r
	}
	return w, nil
}

// publication is the message of w, as it would be published under st.
func (b *Broker) publication(sp *space, origin sessionKey, st *standing, w *will) *publication {
	return &publication{
		space: sp, origin: origin, standing: st, name: w.name, payload: w.payload,
		qos: w.qos, retain: w.retain, will: true, props: w.props,
	}
}

// fire publishes a will, if it may still be, and takes it out of the store in
// the same step.
func (b *Broker) fire(ctx context.Context, s *session, st *standing, w *will) {
	var done writes
	b.publishWill(ctx, &done, s, st, w)
	if w.place != 0 {
		done.delete(s.space.keys.Will(w.place))
	}
	b.commitAny(&done)
}

// publishWill takes a will through the same door as any message, judged with
// what holds now. A principal that no longer stands leaves none.
func (b *Broker) publishWill(ctx context.Context, done *writes, s *session, st *standing, w *will) {
	p, err := b.registry.Refresh(ctx, st.principal)
	if err != nil {
		b.logRefusal(s.space.key.org.String(), s.key.client, &refusal{
			action: policy.ActionPublish, cause: policy.CauseRevoked, topic: w.name.String(), detail: "will not fired: " + err.Error(),
		})
		return
	}
	now, err := b.stand(ctx, s.space, &p, st.facts.Client)
	if err != nil {
		b.logRefusal(s.space.key.org.String(), s.key.client, &refusal{
			action: policy.ActionPublish, cause: policy.CauseUnavailable, topic: w.name.String(), detail: "will not fired: " + err.Error(),
		})
		return
	}
	if !now.connect.Allow {
		b.logRefusal(s.space.key.org.String(), s.key.client, denied(policy.ActionPublish, now.connect, w.name.String()))
		return
	}
	message := b.publication(s.space, s.key, now, w)
	if r := b.admit(ctx, message); r != nil {
		b.logRefusal(s.space.key.org.String(), s.key.client, r)
		return
	}
	*done = message.writes
}

// fireLater fires from where a session's lock is held: delivering may have to
// judge other sessions, and two of them must not wait for each other.
func (b *Broker) fireLater(s *session, st *standing, w *will) {
	b.background(func() { b.fire(context.Background(), s, st, w) })
}

// fireDelayed fires the will whose delay has passed without a return.
func (s *session) fireDelayed() {
	s.guarded.Lock()
	w := s.guarded.will
	if s.conn.Load() != nil || s.guarded.dead {
		w = nil
	} else {
		s.guarded.will = nil
	}
	s.guarded.Unlock()
	if w != nil {
		s.space.b.fire(context.Background(), s, s.standing.Load(), w)
	}
}

// rejudgeWill drops a will that st no longer allows; connectMu is held.
func (s *session) rejudgeWill(ctx context.Context, wr *writes, st *standing) {
	s.guarded.Lock()
	w := s.guarded.will
	s.guarded.Unlock()
	if w == nil {
		return
	}
	b := s.space.b
	r := b.authorise(ctx, b.publication(s.space, s.key, st, w))
	if r == nil {
		return
	}
	b.logRefusal(s.space.key.org.String(), s.key.client, r)
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.will == w {
		s.guarded.will = nil
		if w.place != 0 {
			wr.delete(s.space.keys.Will(w.place))
		}
	}
}
