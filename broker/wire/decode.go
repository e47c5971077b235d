package wire

import "bytes"

// Limits on one packet. What exceeds them is answered with QuotaExceeded, so
// that decoding a packet costs no more than a fixed multiple of its bytes.
const (
	MaxFilters        = 1000 // filters of one SUBSCRIBE or UNSUBSCRIBE
	MaxUserProperties = 100  // user properties of one list: a CONNECT with a will has two lists
)

// decode decodes the body of one packet whose header was accepted.
func (r *Reader) decode(first byte, body []byte) (p Packet, err *Error) {
	t := Type(first >> 4)
	defer contain(t, &p, &err)
	c := cursor{body: body}
	switch t {
	case TypeConnect:
		p = r.decodeConnect(&c, first&0x0F)
	case TypePublish:
		p = r.decodePublish(&c, first&0x0F)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		p = r.decodeAck(&c, t)
	case TypeSubscribe:
		p = decodeSubscribe(&c, r.version)
	case TypeUnsubscribe:
		p = decodeUnsubscribe(&c, r.version)
	case TypePingreq:
		p = &r.pingreq
	case TypeDisconnect:
		p = decodeDisconnect(&c)
	case TypeAuth:
		p = decodeAuth(&c)
	}
	c.end()
	if c.err != nil {
		c.err.Packet = t
		return nil, c.err
	}
	return p, nil
}

// contain turns a panic of the decoder into an error of that connection: a
// fault in this package must not take other connections with it.
func contain(t Type, p *Packet, err **Error) {
	if recover() != nil {
		*p, *err = nil, &Error{Code: MalformedPacket, Packet: t, Reason: "decoder failed"}
	}
}

func (r *Reader) decodePublish(c *cursor, flags byte) *Publish {
	p := &r.publish
	*p = Publish{QoS: flags >> 1 & 3, Retain: flags&1 != 0, Dup: flags&8 != 0}
	p.Topic = c.text()
	if hasWildcard(p.Topic) {
		c.fail(MalformedPacket, "topic name holds a wildcard [MQTT-3.3.2-2]")
	}
	if p.QoS > 0 {
		p.PacketID = c.packetID(ProtocolError)
	}
	if r.version == V5 {
		r.publishProperties(c, p)
	}
	if len(p.Topic) == 0 && p.TopicAlias == 0 {
		c.fail(MalformedPacket, "topic name is empty [MQTT-4.7.3-1]")
	}
	p.Payload = c.take(c.left())
	return p
}

// publishProperties keeps the usual PUBLISH, which has none, free of allocations.
func (r *Reader) publishProperties(c *cursor, p *Publish) {
	if c.left() > 0 && c.body[c.off] == 0 {
		c.off++
		return
	}
	props := c.properties(TypePublish)
	p.TopicAlias = props.topicAlias
	props.message.User = props.user
	if !props.message.IsZero() {
		p.Properties = &PublishProperties{}
		*p.Properties = props.message
	}
}

func (r *Reader) decodeAck(c *cursor, kind Type) *Ack {
	a := &r.ack
	*a = Ack{Kind: kind, PacketID: c.packetID(ProtocolError)}
	if c.left() == 0 {
		return a
	}
	a.Code = Code(c.uint8())
	if !validAckCode(kind, a.Code) {
		c.fail(ProtocolError, "reason code does not belong to this packet [MQTT-3.4.2-1] [MQTT-3.6.2-1]")
	}
	if c.left() > 0 {
		props := c.properties(kind)
		a.ReasonString, a.User = props.reasonString, props.user
	}
	return a
}

func validAckCode(kind Type, code Code) bool {
	if code == Success {
		return true
	}
	if kind == TypePubrel || kind == TypePubcomp {
		return code == PacketIdentifierNotFound
	}
	switch code {
	case NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
		TopicNameInvalid, PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid:
		return true
	}
	return false
}

func decodeSubscribe(c *cursor, v Version) *Subscribe {
	s := &Subscribe{PacketID: c.packetID(MalformedPacket)}
	if v == V5 {
		props := c.properties(TypeSubscribe)
		s.SubscriptionID, s.User = props.subscriptionID, props.user
	}
	for c.left() > 0 {
		filter := decodeFilter(c, len(s.Filters))
		sub := decodeOptions(c, v)
		sub.Filter = string(filter)
		if sub.NoLocal && bytes.HasPrefix(filter, []byte("$share/")) {
			c.fail(ProtocolError, "No Local on a shared subscription [MQTT-3.8.3-4]")
		}
		s.Filters = append(s.Filters, sub)
	}
	if len(s.Filters) == 0 {
		c.fail(MalformedPacket, "no topic filter [MQTT-3.8.3-2]")
	}
	return s
}

func decodeUnsubscribe(c *cursor, v Version) *Unsubscribe {
	u := &Unsubscribe{PacketID: c.packetID(MalformedPacket)}
	if v == V5 {
		u.User = c.properties(TypeUnsubscribe).user
	}
	for c.left() > 0 {
		u.Filters = append(u.Filters, string(decodeFilter(c, len(u.Filters))))
	}
	if len(u.Filters) == 0 {
		c.fail(MalformedPacket, "no topic filter [MQTT-3.10.3-2]")
	}
	return u
}

// decodeFilter reads the next topic filter of a packet that has had n.
func decodeFilter(c *cursor, n int) []byte {
	if n == MaxFilters {
		c.fail(QuotaExceeded, "too many topic filters")
		return nil
	}
	filter := c.text()
	if len(filter) == 0 {
		c.fail(MalformedPacket, "topic filter is empty [MQTT-4.7.3-1]")
	}
	return filter
}

// decodeOptions reads the byte after a filter: a QoS in MQTT 3.x, the Subscription Options in MQTT 5.
func decodeOptions(c *cursor, v Version) Subscription {
	b := c.uint8()
	s := Subscription{QoS: b & 3}
	if v == V5 {
		s.NoLocal = b&4 != 0
		s.RetainAsPublished = b&8 != 0
		s.RetainHandling = b >> 4 & 3
		b &= 0xC3
	}
	switch {
	case s.QoS == 3:
		c.fail(MalformedPacket, "requested QoS is 3 [MQTT-3.8.3-4]")
	case b > 3:
		c.fail(MalformedPacket, "reserved bits of the subscription options are set [MQTT-3.8.3-5]")
	case s.RetainHandling == 3:
		c.fail(MalformedPacket, "Retain Handling is 3 (MQTT 5 §3.8.3.1)")
	}
	return s
}

// decodeDisconnect reads a DISCONNECT; in MQTT 3.x the header check left it no body.
func decodeDisconnect(c *cursor) *Disconnect {
	d := &Disconnect{}
	if c.left() == 0 {
		return d
	}
	d.Code = Code(c.uint8())
	switch d.Code {
	case NormalDisconnection, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid,
		PacketTooLarge, MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
	default:
		c.fail(ProtocolError, "reason code is not a client's to send [MQTT-3.14.2-1]")
	}
	if c.left() > 0 {
		props := c.properties(TypeDisconnect)
		d.HasSessionExpiry, d.SessionExpiry = props.has(propSessionExpiry), props.sessionExpiry
		d.ReasonString, d.ServerReference = props.reasonString, props.serverReference
		d.User = props.user
	}
	return d
}

// decodeAuth reads an AUTH. A client never sends Success, so the short form
// without a reason code cannot come from one.
func decodeAuth(c *cursor) *Auth {
	if c.left() == 0 {
		c.fail(ProtocolError, "AUTH without Authentication Method (MQTT 5 §3.15.2.2.2)")
		return nil
	}
	a := &Auth{Code: Code(c.uint8())}
	if a.Code != ContinueAuthentication && a.Code != ReAuthenticate {
		c.fail(ProtocolError, "reason code is not a client's to send [MQTT-3.15.2-1]")
	}
	var props properties
	if c.left() > 0 {
		props = c.properties(TypeAuth)
	}
	if !props.has(propAuthMethod) {
		c.fail(ProtocolError, "AUTH without Authentication Method (MQTT 5 §3.15.2.2.2)")
	}
	a.Method, a.Data = props.authMethod, props.authData
	a.ReasonString, a.User = props.reasonString, props.user
	return a
}
