package wiretest

import (
	"bufio"
	"fmt"
	"io"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/cordon-mq/cordon/broker/wire"
)

// Pingresp answers a PINGREQ.
type Pingresp struct{}

// Type returns wire.TypePingresp.
func (*Pingresp) Type() wire.Type { return wire.TypePingresp }

// maxServerPacket bounds what a test reads as one packet.
const maxServerPacket = 16 << 20

// Read reads one packet of a server: *wire.Connack, *wire.Publish,
// *wire.Ack, *wire.Suback, *wire.Unsuback, *Pingresp, *wire.Disconnect or
// *wire.Auth. Everything in it is the caller's. The error is io.EOF at the end of the stream.
func Read(r *bufio.Reader, v wire.Version) (wire.Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	remaining, _, err := packets.DecodeLength(r)
	if err != nil {
		return nil, fmt.Errorf("read remaining length: %w", err)
	}
	if remaining > maxServerPacket {
		return nil, fmt.Errorf("packet of %d bytes", remaining)
	}
	body := make([]byte, remaining)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read packet body: %w", err)
	}
	return decode(v, first, body)
}

func decode(v wire.Version, first byte, body []byte) (wire.Packet, error) {
	pk := packets.Packet{ProtocolVersion: byte(v)}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return nil, fmt.Errorf("header byte %#02x: %w", first, err)
	}
	pk.FixedHeader.Remaining = len(body)
	var err error
	var p wire.Packet
	switch t := wire.Type(pk.FixedHeader.Type); t {
	case wire.TypeConnack:
		err = pk.ConnackDecode(body)
		p = connackFrom(&pk)
	case wire.TypePublish:
		err = pk.PublishDecode(body)
		p = publishFrom(&pk)
	case wire.TypePuback, wire.TypePubrec, wire.TypePubrel, wire.TypePubcomp:
		err = pk.PubackDecode(body)
		p = &wire.Ack{
			Kind: t, PacketID: pk.PacketID, Code: wire.Code(pk.ReasonCode),
			ReasonString: pk.Properties.ReasonString, User: userFrom(pk.Properties.User),
		}
	case wire.TypeSuback:
		err = pk.SubackDecode(body)
		p = &wire.Suback{
			PacketID: pk.PacketID, Codes: codesFrom(pk.ReasonCodes),
			ReasonString: pk.Properties.ReasonString, User: userFrom(pk.Properties.User),
		}
	case wire.TypeUnsuback:
		err = pk.UnsubackDecode(body)
		p = &wire.Unsuback{
			PacketID: pk.PacketID, Codes: codesFrom(pk.ReasonCodes),
			ReasonString: pk.Properties.ReasonString, User: userFrom(pk.Properties.User),
		}
	case wire.TypePingresp:
		p = &Pingresp{}
	case wire.TypeDisconnect:
		p, err = disconnectFrom(&pk, body)
	case wire.TypeAuth:
		err = pk.AuthDecode(body)
		p = &wire.Auth{
			Code: wire.Code(pk.ReasonCode), Method: pk.Properties.AuthenticationMethod,
			Data: pk.Properties.AuthenticationData, ReasonString: pk.Properties.ReasonString,
			User: userFrom(pk.Properties.User),
		}
	default:
		return nil, fmt.Errorf("%s is not a server's to send", t)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", wire.Type(pk.FixedHeader.Type), err)
	}
	return p, nil
}

// disconnectFrom reads the reason code itself where mochi overlooks it: in the form of one byte.
func disconnectFrom(pk *packets.Packet, body []byte) (*wire.Disconnect, error) {
	if len(body) == 1 {
		return &wire.Disconnect{Code: wire.Code(body[0])}, nil
	}
	err := pk.DisconnectDecode(body)
	return &wire.Disconnect{
		Code:             wire.Code(pk.ReasonCode),
		HasSessionExpiry: pk.Properties.SessionExpiryIntervalFlag,
		SessionExpiry:    pk.Properties.SessionExpiryInterval,
		ReasonString:     pk.Properties.ReasonString,
		ServerReference:  pk.Properties.ServerReference,
		User:             userFrom(pk.Properties.User),
	}, err
}

func connackFrom(pk *packets.Packet) *wire.Connack {
	p := &pk.Properties
	return &wire.Connack{
		SessionPresent:             pk.SessionPresent,
		Code:                       wire.Code(pk.ReasonCode),
		HasSessionExpiry:           p.SessionExpiryIntervalFlag,
		SessionExpiry:              p.SessionExpiryInterval,
		ReceiveMaximum:             p.ReceiveMaximum,
		HasMaximumQoS:              p.MaximumQosFlag,
		MaximumQoS:                 p.MaximumQos,
		HasRetainAvailable:         p.RetainAvailableFlag,
		RetainAvailable:            p.RetainAvailable == 1,
		MaximumPacketSize:          p.MaximumPacketSize,
		AssignedClientID:           p.AssignedClientID,
		TopicAliasMaximum:          p.TopicAliasMaximum,
		ReasonString:               p.ReasonString,
		User:                       userFrom(p.User),
		HasWildcardAvailable:       p.WildcardSubAvailableFlag,
		WildcardAvailable:          p.WildcardSubAvailable == 1,
		HasSubscriptionIDAvailable: p.SubIDAvailableFlag,
		SubscriptionIDAvailable:    p.SubIDAvailable == 1,
		HasSharedAvailable:         p.SharedSubAvailableFlag,
		SharedAvailable:            p.SharedSubAvailable == 1,
		HasServerKeepAlive:         p.ServerKeepAliveFlag,
		ServerKeepAlive:            p.ServerKeepAlive,
		ResponseInformation:        p.ResponseInfo,
		ServerReference:            p.ServerReference,
		AuthMethod:                 p.AuthenticationMethod,
		AuthData:                   p.AuthenticationData,
	}
}

// publishFrom converts a PUBLISH. Mochi does not tell a Message Expiry
// Interval of zero, nor an empty Content Type, from none.
func publishFrom(pk *packets.Packet) *wire.Publish {
	p := &pk.Properties
	out := &wire.Publish{
		Topic: []byte(pk.TopicName), Payload: pk.Payload, PacketID: pk.PacketID,
		QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, Dup: pk.FixedHeader.Dup,
		TopicAlias: p.TopicAlias,
	}
	for _, id := range p.SubscriptionIdentifier {
		out.SubscriptionIDs = append(out.SubscriptionIDs, uint32(id))
	}
	m := wire.PublishProperties{
		HasPayloadFormat: p.PayloadFormatFlag,
		PayloadFormat:    p.PayloadFormat,
		HasMessageExpiry: p.MessageExpiryInterval > 0,
		MessageExpiry:    p.MessageExpiryInterval,
		HasContentType:   p.ContentType != "",
		ContentType:      p.ContentType,
		ResponseTopic:    p.ResponseTopic,
		CorrelationData:  p.CorrelationData,
		User:             userFrom(p.User),
	}
	if !m.IsZero() {
		out.Properties = &m
	}
	return out
}

func codesFrom(b []byte) (codes []wire.Code) {
	for _, c := range b {
		codes = append(codes, wire.Code(c))
	}
	return codes
}

func userFrom(user []packets.UserProperty) (out []wire.UserProperty) {
	for _, u := range user {
		out = append(out, wire.UserProperty{Key: u.Key, Value: u.Val})
	}
	return out
}
