package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// publication is one message on its way in. A connection reuses one for all its
// packets, and payload may alias its read buffer: whoever keeps the message
// takes a copy with stored.
type publication struct {
	space    *space
	origin   sessionKey // whose message it is; zero for the broker's own
	payer    *conn      // whose rates it counts against; nil: caller's, or nobody's
	caller   *Caller    // likewise, of a message that came by no connection
	standing *standing
	name     topic.Name // as the client wrote it
	payload  []byte
	qos      byte
	retain   bool
	will     bool
	props    *wire.PublishProperties
	unstored bool     // where it is retained, in memory alone: see Voice.Say
	again    bool     // it was retained before, and no quota is asked: see KeepAgain
	only     *session // the one that it is for, whoever else subscribes; nil: all are

	// Filled in by authorise.
	in       *inbound
	response topic.RoutedName // the Response Topic inside the organisation; zero: none
	expires  time.Time        // zero: never
	request  policy.Request

	fromRetained bool // it was stored, and a new subscription asks for it

	// Filled in by admit.
	matched int
	copied  *stored
	writes  writes // what has to be stored before it is acknowledged; whoever admits commits it
	arrival *Arrival
}

// inbound is what a topic means to one standing: its place inside the
// organisation and who subscribed to it. It is kept between packets.
type inbound struct {
	name     topic.Name
	standing *standing
	routed   topic.RoutedName
	levels   []string
	mount    *topic.Mount
	err      error // the mounts do not allow it
	memo     policy.Memo

	targets    []target
	targetsAt  generation
	hasTargets bool

	device      *policy.Device
	deviceEpoch uint64
}

// topicsKept bounds how many topics a connection remembers the meaning of.
const topicsKept = 256

// handlePublish is a PUBLISH packet from its topic alias to its acknowledgement.
func (c *conn) handlePublish(ctx context.Context, pk *wire.Publish) {
	s := c.session
	st := s.current(ctx)
	if !st.connect.Allow || c.closing.Load() {
		return // expelled meanwhile; its connection is ending
	}
	if pk.QoS == 2 {
		switch s.receipt(pk.PacketID) {
		case receiptOpen: // a repeated one is only acknowledged again [MQTT-4.3.3-10]
			c.answer(&writes{}, ackAfter{Ack: wire.Ack{Kind: wire.TypePubrec, PacketID: pk.PacketID}, repeats: true})
			return
		case receiptFull:
			c.end(ending{cause: policy.CauseProtocol, code: wire.ReceiveMaximumExceeded, will: willFires})
			return
		case receiptNew:
		}
	}
	in, r := c.resolve(st, pk)
	if r == nil {
		r = c.overLimit(st, pk, in)
	}
	if r != nil {
		c.refusePublish(ctx, pk, r)
		return
	}
	if c.pub == nil {
		c.pub = new(publication)
	}
	p := c.pub
	*p = publication{
		space: c.space, origin: s.key, payer: c, standing: st, name: in.name, in: in,
		payload: pk.Payload, qos: pk.QoS, retain: pk.Retain, props: pk.Properties,
	}
	if r := c.b.admit(ctx, p); r != nil {
		c.refusePublish(ctx, pk, r)
		return
	}
	c.acknowledge(pk, p)
}

// acknowledge answers an admitted PUBLISH, once what has to be kept of it is
// stored: what is acknowledged is kept.
func (c *conn) acknowledge(pk *wire.Publish, p *publication) {
	code := wire.Success
	if p.matched == 0 {
		code = wire.NoMatchingSubscribers
	}
	switch pk.QoS {
	case 0:
		c.b.commitAny(&p.writes)
	case 1:
		c.answer(&p.writes, ackAfter{Ack: wire.Ack{Kind: wire.TypePuback, PacketID: pk.PacketID, Code: code}})
	case 2:
		s, id := c.session, pk.PacketID
		s.receive(&p.writes, id)
		c.answer(&p.writes, ackAfter{
			Ack: wire.Ack{Kind: wire.TypePubrec, PacketID: id, Code: code}, failed: func() { s.unreceive(id) },
		})
	}
}

// ack sends an acknowledgement. via is c where its own goroutine does, else nil.
func (c *conn) ack(a wire.Ack, via *conn) {
	if buf, ok := c.out.begin(0); ok {
		a.MaxSize = c.maxOut
		c.out.commit(wire.AppendAck(buf, c.version, a), via)
	}
}

// resolve turns topic and alias into the topic's meaning. The alias comes
// first, so that nothing is ever judged on an empty topic.
func (c *conn) resolve(st *standing, pk *wire.Publish) (*inbound, *refusal) {
	bad := func(cause policy.Cause, code wire.Code, err error) *refusal {
		r := &refusal{action: policy.ActionPublish, cause: cause, code: code, onDeny: policy.Close}
		if err != nil {
			r.detail = err.Error()
		}
		return r
	}
	written := pk.Topic
	if pk.TopicAlias != 0 {
		if pk.TopicAlias > topicAliasMaximum { // [MQTT-3.3.2-9]
			return nil, bad(policy.CauseProtocol, wire.TopicAliasInvalid, nil)
		}
		if len(pk.Topic) > 0 {
			if c.aliases == nil {
				c.aliases = make(map[uint16]string)
			}
			c.aliases[pk.TopicAlias] = string(pk.Topic)
		} else {
			known, ok := c.aliases[pk.TopicAlias]
			if !ok {
				return nil, bad(policy.CauseProtocol, wire.TopicAliasInvalid, nil)
			}
			written = []byte(known)
		}
	}
	if in := c.topics[string(written)]; in != nil && in.standing == st {
		return in, nil
	}
	name, err := topic.ParseName(string(written))
	if err != nil {
		return nil, bad(policy.CauseTopic, wire.TopicNameInvalid, err)
	}
	in := resolveName(st, name)
	if len(written) > topic.MaxRoutedBytes {
		return in, nil // hardly one that is allowed, and it would be kept for nothing
	}
	switch {
	case c.topics == nil:
		c.topics = make(map[string]*inbound)
	case len(c.topics) < topicsKept:
	case c.comesAgain(written):
		clear(c.topics)
	default: // a client that never writes a topic twice has nothing to remember
		return in, nil
	}
	c.topics[name.String()] = in
	return in, nil
}

// comesAgain reports whether a topic came before, not long ago. It may say so wrongly.
func (c *conn) comesAgain(written []byte) bool {
	if c.strangers == nil {
		c.strangers = new([64]uint64)
	}
	h := maphash.Bytes(c.b.seed, written)
	at := &c.strangers[h%uint64(len(c.strangers))]
	again := *at == h
	*at = h
	return again
}

func resolveName(st *standing, name topic.Name) *inbound {
	in := &inbound{name: name, standing: st}
	in.routed, in.mount, in.err = st.mounts().In(name)
	if in.err == nil {
		in.levels = in.routed.Levels()
	}
	return in
}

// overLimit checks what the connect decision bounds, before any policy is asked.
func (c *conn) overLimit(st *standing, pk *wire.Publish, in *inbound) *refusal {
	limits := st.limits()
	switch {
	case len(pk.Payload) > limits.PayloadMax:
		return &refusal{action: policy.ActionPublish, cause: policy.CausePayloadSize, topic: in.name.String(), onDeny: policy.Close}
	case pk.QoS > limits.QoSMax: // [MQTT-3.2.2-11]
		return &refusal{action: policy.ActionPublish, cause: policy.CauseLimit, code: wire.QoSNotSupported, topic: in.name.String(), onDeny: policy.Close}
	}
	return nil
}

// admit is the only way a message enters: PUBLISH, will and what callers send
// pass here. It authorises, retains and delivers.
// When it returns nil, every session the message was routed to has it, and the
// caller commits p.writes before it says so to anybody.
func (b *Broker) admit(ctx context.Context, p *publication) *refusal {
	r := b.authorise(ctx, p)
	if r.registers() && !p.will {
		if r = p.register(ctx, r); r == nil {
			r = b.authorise(ctx, p)
		}
	}
	if r != nil {
		return r
	}
	switch {
	case p.payer != nil:
		if r := p.payer.charge(ctx, p); r != nil {
			return r
		}
	case p.caller != nil:
		if r := p.caller.charge(ctx, p); r != nil {
			return r
		}
	}
	if p.qos > 0 && b.short.Load() {
		return &refusal{action: policy.ActionPublish, cause: policy.CauseStorage, topic: p.name.String(), detail: "free space is below the watermark"}
	}
	if p.qos > 0 && p.space.stored.Load() >= p.space.limits(ctx).StoredBytes {
		// Refused, not dropped: what is acknowledged is kept.
		return &refusal{action: policy.ActionPublish, cause: policy.CauseQuota, topic: p.name.String(), detail: "stored bytes of the organisation"}
	}
	if r := b.expect(p); r != nil {
		return r
	}
	if p.retain {
		if r := b.retain(ctx, p); r != nil {
			p.turnBack()
			return r
		}
	}
	b.stats.of(p.payer).in.messages[min(p.qos, 2)].Add(1)
	if p.space.tapped.Load() && p.only == nil {
		b.cfg.Monitor.Admitted(p.space.tenant(), p.in.routed, p.stored().payload)
	}
	p.arrive()
	for i := range p.space.targets(p.in) {
		if p.only != nil && p.in.targets[i].session != p.only {
			continue
		}
		if b.deliver(ctx, &p.in.targets[i], p) {
			p.matched++
		}
	}
	return nil
}

// authorise maps, checks and judges p and fills in what admit needs. It changes
// nothing, so a will can be judged by it before it is due.
func (b *Broker) authorise(ctx context.Context, p *publication) *refusal {
	if p.in == nil {
		p.in = resolveName(p.standing, p.name)
	}
	in := p.in
	no := func(cause policy.Cause, code wire.Code) *refusal {
		return &refusal{action: policy.ActionPublish, cause: cause, code: code, topic: p.name.String()}
	}
	switch {
	case errors.Is(in.err, topic.ErrNoMount):
		return no(policy.CauseTopic, wire.NotAuthorized)
	case in.err != nil:
		r := no(policy.CauseTopic, wire.TopicNameInvalid)
		r.detail = in.err.Error()
		return r
	case in.routed.IsSystem():
		return no(policy.CauseSystemTopic, wire.NotAuthorized)
	case len(p.payload) > p.standing.limits().PayloadMax:
		return no(policy.CausePayloadSize, 0)
	}
	if r := b.authoriseProperties(p); r != nil {
		return r
	}

	p.request = policy.Request{
		Action: policy.ActionPublish, Memo: &in.memo, Topic: p.name, Levels: in.levels, QoS: p.qos, Retain: p.retain,
		Size: len(p.payload), Will: p.will, Properties: policyProperties(p.props),
	}
	if in.mount.Device != nil {
		d, err := p.space.deviceOf(ctx, in)
		if err != nil {
			r := no(policy.CauseUnavailable, 0)
			r.detail = err.Error()
			return r
		}
		p.request.Device = d
	}
	d := p.standing.judge.Decide(ctx, &p.request)
	if !d.Allow {
		r := denied(policy.ActionPublish, d, p.name.String())
		r.device = p.request.Device
		return r
	}
	if p.retain && d.Retain == policy.RetainRefuse {
		r := no(policy.CauseRetain, wire.RetainNotSupported)
		r.decision, r.onDeny, r.notice, r.device = d, d.OnDeny, d.Notify, p.request.Device
		return r
	}
	p.retain = p.retain && d.Retain == policy.RetainKeep // stripped: nobody sees the flag
	return nil
}

// authoriseProperties maps the Response Topic in and fixes the time of expiry.
// A Response Topic under no mount has no place inside the organisation.
func (b *Broker) authoriseProperties(p *publication) *refusal {
	if p.props == nil {
		return nil
	}
	if p.props.ResponseTopic != "" {
		name, err := topic.ParseName(p.props.ResponseTopic)
		if err == nil {
			p.response, _, err = p.standing.mounts().In(name)
		}
		if err != nil {
			return &refusal{
				action: policy.ActionPublish, cause: policy.CauseTopic, code: wire.TopicNameInvalid,
				topic: p.name.String(), detail: "response topic: " + err.Error(),
			}
		}
	}
	if p.props.HasMessageExpiry {
		p.expires = time.Now().Add(time.Duration(p.props.MessageExpiry) * time.Second)
	}
	return nil
}

func policyProperties(props *wire.PublishProperties) *policy.Properties {
	if props == nil {
		return nil
	}
	out := &policy.Properties{ContentType: props.ContentType, ResponseTopic: props.ResponseTopic}
	if props.HasMessageExpiry {
		expiry := props.MessageExpiry
		out.MessageExpiry = &expiry
	}
	for _, u := range props.User {
		out.User = append(out.User, policy.UserProperty(u))
	}
	return out
}

// deviceOf returns the registry's facts of the device that the topic names,
// looked up again after a change in the organisation.
func (sp *space) deviceOf(ctx context.Context, in *inbound) (*policy.Device, error) {
	epoch := sp.epoch.Load()
	if in.device != nil && in.deviceEpoch == epoch {
		return in.device, nil
	}
	d, err := sp.deviceAt(ctx, in.mount.Device, in.levels)
	if err == nil {
		in.device, in.deviceEpoch = d, epoch
	}
	return d, err
}

// deviceAt looks up the device that levels name at the given positions; nil
// where they name none.
func (sp *space) deviceAt(ctx context.Context, at *topic.DeviceLevels, levels []string) (*policy.Device, error) {
	if at.Type >= len(levels) || at.ID >= len(levels) {
		return nil, nil
	}
	// The epoch is read first: what changes afterwards makes the answer old.
	epoch := sp.epoch.Load()
	kept := &sp.devices[maphash.String(sp.b.seed, levels[at.ID])%uint64(len(sp.devices))]
	if k := kept.Load(); k != nil && k.epoch == epoch && string(k.device.ID) == levels[at.ID] && string(k.device.Type) == levels[at.Type] {
		return k.device, nil
	}
	typ, err := policy.ParseID("type", levels[at.Type])
	if err != nil {
		return nil, nil //nolint:nilerr // what is no ID names no device
	}
	id, err := policy.ParseID("id", levels[at.ID])
	if err != nil {
		return nil, nil //nolint:nilerr // what is no ID names no device
	}
	d, err := sp.b.registry.DeviceFacts(ctx, sp.key.org, typ, id)
	if err == nil && d != nil {
		kept.Store(&keptDevice{epoch, d})
	}
	return d, err
}

// keptDevice is what the registry knew of a device.
type keptDevice struct {
	epoch  uint64
	device *policy.Device
}
