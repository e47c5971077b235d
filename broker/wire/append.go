package wire

import (
	"encoding/binary"
	"math"
)

// SizePublish returns the bytes AppendPublish would append, to be compared
// with the client's Maximum Packet Size [MQTT-3.1.2-24]. It is 0 for a message that cannot be encoded.
func SizePublish(v Version, p *Publish) int {
	size, _, _ := publishSize(v, p)
	return size
}

// publishSize returns the size of the packet, of what follows its fixed
// header and of its property list without the length of the list.
func publishSize(v Version, p *Publish) (size, remaining, props int) {
	if len(p.Topic) > math.MaxUint16 {
		return 0, 0, 0
	}
	remaining = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		remaining += 2
	}
	if v == V5 {
		props = publishPropertiesSize(p)
		remaining += varintSize(props) + props
	}
	if remaining > maxVarint {
		return 0, 0, 0
	}
	return 1 + varintSize(remaining) + remaining, remaining, props
}

func publishPropertiesSize(p *Publish) (n int) {
	if p.TopicAlias != 0 {
		n += 3
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(int(id))
	}
	m := p.Properties
	if m == nil {
		return n
	}
	if m.HasPayloadFormat {
		n += 2
	}
	if m.HasMessageExpiry {
		n += 5
	}
	if m.HasContentType && fits(m.ContentType) {
		n += 3 + len(m.ContentType)
	}
	if m.ResponseTopic != "" && fits(m.ResponseTopic) {
		n += 3 + len(m.ResponseTopic)
	}
	if m.CorrelationData != nil && fits(m.CorrelationData) {
		n += 3 + len(m.CorrelationData)
	}
	return n + userSize(m.User)
}

// AppendPublish appends p to dst. Properties and alias are for MQTT 5 only; a
// property too long to be encoded is left out. A message that cannot be
// encoded, with a topic of more than 65 535 bytes or more than 256 MiB in all, appends nothing.
func AppendPublish(dst []byte, v Version, p *Publish) []byte {
	size, remaining, props := publishSize(v, p)
	if size == 0 {
		return dst
	}
	first := byte(TypePublish)<<4 | p.QoS<<1&6
	if p.Retain {
		first |= 1
	}
	if p.Dup {
		first |= 8
	}
	dst = append(dst, first)
	dst = appendVarint(dst, remaining)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.Topic)))
	dst = append(dst, p.Topic...)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	if v == V5 {
		dst = appendVarint(dst, props)
		dst = appendPublishProperties(dst, p)
	}
	return append(dst, p.Payload...)
}

func appendPublishProperties(dst []byte, p *Publish) []byte {
	if p.TopicAlias != 0 {
		dst = append(dst, propTopicAlias)
		dst = binary.BigEndian.AppendUint16(dst, p.TopicAlias)
	}
	for _, id := range p.SubscriptionIDs {
		dst = append(dst, propSubscriptionID)
		dst = appendVarint(dst, int(id))
	}
	m := p.Properties
	if m == nil {
		return dst
	}
	if m.HasPayloadFormat {
		dst = append(dst, propPayloadFormat, m.PayloadFormat)
	}
	if m.HasMessageExpiry {
		dst = append(dst, propMessageExpiry)
		dst = binary.BigEndian.AppendUint32(dst, m.MessageExpiry)
	}
	if m.HasContentType && fits(m.ContentType) {
		dst = append(dst, propContentType)
		dst = appendData(dst, m.ContentType)
	}
	if m.ResponseTopic != "" && fits(m.ResponseTopic) {
		dst = append(dst, propResponseTopic)
		dst = appendData(dst, m.ResponseTopic)
	}
	if m.CorrelationData != nil && fits(m.CorrelationData) {
		dst = append(dst, propCorrelationData)
		dst = appendData(dst, m.CorrelationData)
	}
	return appendUser(dst, m.User)
}

// AppendAck appends a. MQTT 3.x has the packet identifier alone. In MQTT 5 a
// Success without properties is as short as that; where a.MaxSize is not 0
// and the packet would be larger, user properties and then the reason string
// are left out [MQTT-3.4.2-2] [MQTT-3.4.2-3].
func AppendAck(dst []byte, v Version, a Ack) []byte {
	first := byte(a.Kind) << 4
	if a.Kind == TypePubrel {
		first |= 2
	}
	if v != V5 || a.Code == Success && a.ReasonString == "" && len(a.User) == 0 {
		return append(dst, first, 2, byte(a.PacketID>>8), byte(a.PacketID))
	}
	reason := reasonText(a.ReasonString)
	return diagnosed(dst, a.MaxSize, reason, a.User, func(dst []byte, reason string, user []UserProperty) []byte {
		props := userSize(user)
		if reason != "" {
			props += 3 + len(reason)
		}
		remaining := 3
		if props > 0 {
			remaining += varintSize(props) + props
		}
		dst = append(dst, first)
		dst = appendVarint(dst, remaining)
		dst = append(dst, byte(a.PacketID>>8), byte(a.PacketID), byte(a.Code))
		if props == 0 {
			return dst
		}
		dst = appendVarint(dst, props)
		if reason != "" {
			dst = append(dst, propReasonString)
			dst = appendData(dst, reason)
		}
		return appendUser(dst, user)
	})
}

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte {
	return append(dst, byte(TypePingresp)<<4, 0)
}

// diagnosed appends a packet whose reason string and user properties only
// help diagnosis. Where it would exceed maxSize, not 0, it goes without user
// properties, then without the reason string; and if it still does, nothing is appended [MQTT-3.1.2-24].
func diagnosed(dst []byte, maxSize uint32, reason string, user []UserProperty,
	appendTo func(dst []byte, reason string, user []UserProperty) []byte,
) []byte {
	start := len(dst)
	for {
		dst = appendTo(dst[:start], reason, user)
		switch {
		case maxSize == 0 || uint64(len(dst)-start) <= uint64(maxSize):
			return dst
		case len(user) > 0:
			user = nil
		case reason != "":
			reason = ""
		default:
			return dst[:start]
		}
	}
}

func fits[T []byte | string](data T) bool { return len(data) <= math.MaxUint16 }

func appendData[T []byte | string](dst []byte, data T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(data)))
	return append(dst, data...)
}

// userSize is the size of what appendUser appends.
func userSize(user []UserProperty) (n int) {
	for _, u := range user {
		if fits(u.Key) && fits(u.Value) {
			n += 5 + len(u.Key) + len(u.Value)
		}
	}
	return n
}

func appendUser(dst []byte, user []UserProperty) []byte {
	for _, u := range user {
		if fits(u.Key) && fits(u.Value) {
			dst = append(dst, propUser)
			dst = appendData(dst, u.Key)
			dst = appendData(dst, u.Value)
		}
	}
	return dst
}

func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// appendVarint appends n, at most maxVarint, in its shortest form.
func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
