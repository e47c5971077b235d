package wiretest

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/cordon-mq/cordon/broker/wire"
)

// Hello returns a plain CONNECT: clean, keep alive 60 s, nothing optional.
func Hello(v wire.Version, clientID string) []byte {
	return Connect(&wire.Connect{Version: v, ClientID: clientID, CleanStart: true, KeepAlive: 60})
}

// Connect encodes c for c.Version. ReceiveMaximum 0 leaves that property out.
// RequestProblemInfo is not encoded: a client that wants none says so with Bytes.
func Connect(c *wire.Connect) []byte {
	pk := packet(c.Version, wire.TypeConnect)
	pk.Connect = packets.ConnectParams{
		ProtocolName:     []byte("MQTT"),
		Clean:            c.CleanStart,
		Keepalive:        c.KeepAlive,
		ClientIdentifier: c.ClientID,
		UsernameFlag:     c.HasUsername,
		Username:         []byte(c.Username),
		PasswordFlag:     c.HasPassword,
		Password:         c.Password,
	}
	if c.Version == wire.V31 {
		pk.Connect.ProtocolName = []byte("MQIsdp")
	}
	pk.Properties = packets.Properties{
		SessionExpiryIntervalFlag: c.HasSessionExpiry,
		SessionExpiryInterval:     c.SessionExpiry,
		ReceiveMaximum:            c.ReceiveMaximum,
		MaximumPacketSize:         c.MaximumPacketSize,
		TopicAliasMaximum:         c.TopicAliasMaximum,
		AuthenticationMethod:      c.AuthMethod,
		AuthenticationData:        c.AuthData,
		User:                      userTo(c.User),
	}
	if c.RequestResponseInfo {
		pk.Properties.RequestResponseInfo = 1
	}
	if w := c.Will; w != nil {
		pk.Connect.WillFlag = true
		pk.Connect.WillTopic = w.Topic
		pk.Connect.WillPayload = w.Payload
		pk.Connect.WillQos = w.QoS
		pk.Connect.WillRetain = w.Retain
		pk.Connect.WillProperties = messageTo(&w.Properties)
		pk.Connect.WillProperties.WillDelayInterval = w.DelayInterval
	}
	return encode(pk.ConnectEncode)
}

// Publish encodes p as a client would.
func Publish(v wire.Version, p *wire.Publish) []byte {
	pk := packet(v, wire.TypePublish)
	pk.FixedHeader.Qos, pk.FixedHeader.Retain, pk.FixedHeader.Dup = p.QoS, p.Retain, p.Dup
	pk.TopicName, pk.Payload, pk.PacketID = string(p.Topic), p.Payload, p.PacketID
	if p.Properties != nil {
		pk.Properties = messageTo(p.Properties)
	}
	pk.Properties.TopicAliasFlag, pk.Properties.TopicAlias = p.TopicAlias != 0, p.TopicAlias
	for _, id := range p.SubscriptionIDs {
		pk.Properties.SubscriptionIdentifier = append(pk.Properties.SubscriptionIdentifier, int(id))
	}
	return encode(pk.PublishEncode)
}

// Ack encodes PUBACK, PUBREC, PUBREL or PUBCOMP.
func Ack(v wire.Version, a wire.Ack) []byte {
	pk := packet(v, a.Kind)
	pk.PacketID, pk.ReasonCode = a.PacketID, byte(a.Code)
	pk.Properties.ReasonString, pk.Properties.User = a.ReasonString, userTo(a.User)
	if a.Kind == wire.TypePubrel {
		pk.FixedHeader.Qos = 1
	}
	return encode(pk.PubackEncode)
}

// Subscribe encodes s.
func Subscribe(v wire.Version, s *wire.Subscribe) []byte {
	pk := packet(v, wire.TypeSubscribe)
	pk.FixedHeader.Qos = 1
	pk.PacketID = s.PacketID
	if s.SubscriptionID != 0 {
		pk.Properties.SubscriptionIdentifier = []int{int(s.SubscriptionID)}
	}
	pk.Properties.User = userTo(s.User)
	for _, f := range s.Filters {
		pk.Filters = append(pk.Filters, packets.Subscription{
			Filter:            f.Filter,
			Qos:               f.QoS,
			NoLocal:           f.NoLocal,
			RetainAsPublished: f.RetainAsPublished,
			RetainHandling:    f.RetainHandling,
		})
	}
	return encode(pk.SubscribeEncode)
}

// Unsubscribe encodes u.
func Unsubscribe(v wire.Version, u *wire.Unsubscribe) []byte {
	pk := packet(v, wire.TypeUnsubscribe)
	pk.FixedHeader.Qos = 1
	pk.PacketID = u.PacketID
	pk.Properties.User = userTo(u.User)
	for _, f := range u.Filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	return encode(pk.UnsubscribeEncode)
}

// Pingreq encodes a PINGREQ.
func Pingreq() []byte {
	pk := packet(wire.V311, wire.TypePingreq)
	return encode(pk.PingreqEncode)
}

// Disconnect encodes d; MQTT 3.x has no body.
func Disconnect(v wire.Version, d *wire.Disconnect) []byte {
	pk := packet(v, wire.TypeDisconnect)
	pk.ReasonCode = byte(d.Code)
	pk.Properties = packets.Properties{
		SessionExpiryIntervalFlag: d.HasSessionExpiry,
		SessionExpiryInterval:     d.SessionExpiry,
		ReasonString:              d.ReasonString,
		ServerReference:           d.ServerReference,
		User:                      userTo(d.User),
	}
	return encode(pk.DisconnectEncode)
}

// Auth encodes a.
func Auth(a *wire.Auth) []byte {
	pk := packet(wire.V5, wire.TypeAuth)
	pk.ReasonCode = byte(a.Code)
	pk.Properties = packets.Properties{
		AuthenticationMethod: a.Method,
		AuthenticationData:   a.Data,
		ReasonString:         a.ReasonString,
		User:                 userTo(a.User),
	}
	return encode(pk.AuthEncode)
}

func packet(v wire.Version, t wire.Type) *packets.Packet {
	return &packets.Packet{
		ProtocolVersion: byte(v),
		FixedHeader:     packets.FixedHeader{Type: byte(t)},
		Mods:            packets.Mods{AllowResponseInfo: true},
	}
}

// encode returns nil where mochi will not encode: a packet identifier of zero.
func encode(write func(*bytes.Buffer) error) []byte {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return nil
	}
	return buf.Bytes()
}

func messageTo(m *wire.PublishProperties) packets.Properties {
	return packets.Properties{
		PayloadFormatFlag:     m.HasPayloadFormat,
		PayloadFormat:         m.PayloadFormat,
		MessageExpiryInterval: m.MessageExpiry,
		ContentType:           m.ContentType,
		ResponseTopic:         m.ResponseTopic,
		CorrelationData:       m.CorrelationData,
		User:                  userTo(m.User),
	}
}

func userTo(user []wire.UserProperty) (out []packets.UserProperty) {
	for _, u := range user {
		out = append(out, packets.UserProperty{Key: u.Key, Val: u.Value})
	}
	return out
}
