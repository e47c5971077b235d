package wire

// The property identifiers of MQTT 5 (§2.2.2.2, table 2-4). All fit in one byte.
const (
	propPayloadFormat     = 0x01
	propMessageExpiry     = 0x02
	propContentType       = 0x03
	propResponseTopic     = 0x08
	propCorrelationData   = 0x09
	propSubscriptionID    = 0x0B
	propSessionExpiry     = 0x11
	propAssignedClientID  = 0x12
	propServerKeepAlive   = 0x13
	propAuthMethod        = 0x15
	propAuthData          = 0x16
	propRequestProblem    = 0x17
	propWillDelay         = 0x18
	propRequestResponse   = 0x19
	propResponseInfo      = 0x1A
	propServerReference   = 0x1C
	propReasonString      = 0x1F
	propReceiveMaximum    = 0x21
	propTopicAliasMaximum = 0x22
	propTopicAlias        = 0x23
	propMaximumQoS        = 0x24
	propRetainAvailable   = 0x25
	propUser              = 0x26
	propMaximumPacketSize = 0x27
	propWildcardAvailable = 0x28
	propSubIDAvailable    = 0x29
	propSharedAvailable   = 0x2A
)

// willProperties stands for the will's own property list in a CONNECT; no packet type is 0.
const willProperties Type = 0

// shape is the data type of a property's value; the zero shape belongs to no property.
type shape byte

const (
	shapeByte shape = iota + 1
	shapeUint16
	shapeUint32
	shapeVarint
	shapeText
	shapeBinary
	shapePair
)

func shapeOf(id uint32) shape {
	switch id {
	case propPayloadFormat, propRequestProblem, propRequestResponse, propMaximumQoS,
		propRetainAvailable, propWildcardAvailable, propSubIDAvailable, propSharedAvailable:
		return shapeByte
	case propServerKeepAlive, propReceiveMaximum, propTopicAliasMaximum, propTopicAlias:
		return shapeUint16
	case propMessageExpiry, propSessionExpiry, propWillDelay, propMaximumPacketSize:
		return shapeUint32
	case propSubscriptionID:
		return shapeVarint
	case propContentType, propResponseTopic, propAssignedClientID, propAuthMethod,
		propResponseInfo, propServerReference, propReasonString:
		return shapeText
	case propCorrelationData, propAuthData:
		return shapeBinary
	case propUser:
		return shapePair
	}
	return 0
}

// permitted reports whether a client may send property id in that list. A
// Subscription Identifier in a PUBLISH is the server's alone [MQTT-3.3.4-6].
func permitted(list Type, id uint32) bool {
	if id == propUser {
		return true
	}
	switch list {
	case TypeConnect:
		switch id {
		case propSessionExpiry, propReceiveMaximum, propMaximumPacketSize, propTopicAliasMaximum,
			propRequestResponse, propRequestProblem, propAuthMethod, propAuthData:
			return true
		}
	case willProperties:
		switch id {
		case propWillDelay, propPayloadFormat, propMessageExpiry, propContentType,
			propResponseTopic, propCorrelationData:
			return true
		}
	case TypePublish:
		switch id {
		case propTopicAlias, propPayloadFormat, propMessageExpiry, propContentType,
			propResponseTopic, propCorrelationData:
			return true
		}
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		return id == propReasonString
	case TypeSubscribe:
		return id == propSubscriptionID
	case TypeDisconnect:
		switch id {
		case propSessionExpiry, propReasonString, propServerReference:
			return true
		}
	case TypeAuth:
		switch id {
		case propAuthMethod, propAuthData, propReasonString:
			return true
		}
	}
	return false
}

// misplaced is the code for a property of another packet: RATIONALE.md says why it differs.
func misplaced(list Type) Code {
	if list == TypeSubscribe || list == TypeUnsubscribe {
		return MalformedPacket
	}
	return ProtocolError
}

// properties holds what one property list said.
type properties struct {
	seen uint64 // bit id is set when property id is present

	message           PublishProperties
	subscriptionID    uint32
	topicAlias        uint16
	sessionExpiry     uint32
	receiveMaximum    uint16
	maximumPacketSize uint32
	topicAliasMaximum uint16
	requestProblem    byte
	requestResponse   byte
	willDelay         uint32
	authMethod        string
	authData          []byte
	serverReference   string
	reasonString      string
	user              []UserProperty
}

func (p *properties) has(id uint32) bool { return p.seen&(1<<id) != 0 }

// properties reads a property list with its length. A list that cannot be
// read fails before one that can be read but says something forbidden.
func (c *cursor) properties(list Type) (p properties) {
	length := c.varint()
	if int64(length) > int64(c.left()) {
		c.fail(MalformedPacket, "properties are longer than the packet")
	}
	if c.err != nil || length == 0 {
		return p
	}
	in := cursor{body: c.take(int(length))}
	var forbidden *Error
	for in.left() > 0 {
		if e := p.read(&in, list); e != nil && forbidden == nil {
			forbidden = e
		}
	}
	if in.err == nil {
		in.err = forbidden
	}
	if in.err != nil {
		c.fail(in.err.Code, in.err.Reason)
	}
	return p
}

// read reads one property. It fails in when the property cannot be read, and
// returns an error when it may not stand here, or not twice, or not with this value.
func (p *properties) read(in *cursor, list Type) *Error {
	id := in.varint()
	var number uint32
	var data, second []byte
	switch shapeOf(id) {
	case shapeByte:
		number = uint32(in.uint8())
	case shapeUint16:
		number = uint32(in.uint16())
	case shapeUint32:
		number = in.uint32()
	case shapeVarint:
		number = in.varint()
	case shapeText:
		data = in.text()
	case shapeBinary:
		data = in.binary()
	case shapePair:
		data = in.text()
		second = in.text()
	default:
		in.fail(MalformedPacket, "unknown property (MQTT 5 §2.2.2.2)")
	}
	switch {
	case in.err != nil:
		return nil //nolint:nilerr // in keeps the error for the caller
	case !permitted(list, id):
		return &Error{Code: misplaced(list), Reason: "property does not belong to this packet (MQTT 5 §2.2.2.2)"}
	case id == propUser:
		if len(p.user) == MaxUserProperties {
			return &Error{Code: QuotaExceeded, Reason: "too many user properties"}
		}
		p.user = append(p.user, UserProperty{Key: string(data), Value: string(second)})
		return nil
	case p.has(id):
		return &Error{Code: ProtocolError, Reason: "property appears twice (MQTT 5 §2.2.2)"}
	}
	p.seen |= 1 << id
	return p.set(id, number, data)
}

// set stores the value of a property that may stand where it stands.
func (p *properties) set(id, number uint32, data []byte) *Error {
	var reason string
	switch id {
	case propPayloadFormat:
		if number > 1 {
			reason = "Payload Format Indicator is neither 0 nor 1"
		}
		p.message.HasPayloadFormat, p.message.PayloadFormat = true, byte(number)
	case propMessageExpiry:
		p.message.HasMessageExpiry, p.message.MessageExpiry = true, number
	case propContentType:
		p.message.HasContentType, p.message.ContentType = true, string(data)
	case propResponseTopic:
		if len(data) == 0 || hasWildcard(data) {
			reason = "Response Topic is not a topic name [MQTT-3.3.2-14] [MQTT-4.7.3-1]"
		}
		p.message.ResponseTopic = string(data)
	case propCorrelationData:
		p.message.CorrelationData = cloneBytes(data)
	case propSubscriptionID:
		if number == 0 {
			return &Error{Code: MalformedPacket, Reason: "Subscription Identifier is zero (MQTT 5 §3.8.2.1.2)"}
		}
		p.subscriptionID = number
	case propTopicAlias:
		if number == 0 {
			return &Error{Code: TopicAliasInvalid, Reason: "Topic Alias is zero [MQTT-3.3.2-8]"}
		}
		p.topicAlias = uint16(number)
	case propSessionExpiry:
		p.sessionExpiry = number
	case propReceiveMaximum:
		if number == 0 {
			reason = "Receive Maximum is zero (MQTT 5 §3.1.2.11.3)"
		}
		p.receiveMaximum = uint16(number)
	case propMaximumPacketSize:
		if number == 0 {
			reason = "Maximum Packet Size is zero (MQTT 5 §3.1.2.11.4)"
		}
		p.maximumPacketSize = number
	case propTopicAliasMaximum:
		p.topicAliasMaximum = uint16(number)
	case propRequestProblem:
		if number > 1 {
			reason = "Request Problem Information is neither 0 nor 1 (MQTT 5 §3.1.2.11.7)"
		}
		p.requestProblem = byte(number)
	case propRequestResponse:
		if number > 1 {
			reason = "Request Response Information is neither 0 nor 1 (MQTT 5 §3.1.2.11.6)"
		}
		p.requestResponse = byte(number)
	case propWillDelay:
		p.willDelay = number
	case propAuthMethod:
		p.authMethod = string(data)
	case propAuthData:
		p.authData = cloneBytes(data)
	case propServerReference:
		p.serverReference = string(data)
	case propReasonString:
		p.reasonString = string(data)
	}
	if reason != "" {
		return &Error{Code: ProtocolError, Reason: reason}
	}
	return nil
}
