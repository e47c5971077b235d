package wire

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// The packets of this file are rare, so mochi's codec encodes them. What it
// leaves to its caller is done here: strings are cut to what a length of two
// bytes can say, and the client's Maximum Packet Size is held exactly.

// AppendConnack appends c. MQTT 3.x knows a session flag, which is never set
// on a refusal [MQTT-3.2.2-6], and six return codes: see returnCode. Where
// c.MaxSize is not 0 and the packet would be larger, user properties and then
// the reason string are left out, and a packet still larger is not appended
// at all [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.1.2-24]; so it is with the
// other packets that have a MaxSize. Without a version nothing is appended.
func AppendConnack(dst []byte, v Version, c *Connack) []byte {
	pk := packets.Packet{SessionPresent: c.SessionPresent && c.Code == Success, ReasonCode: byte(c.Code)}
	switch v {
	case V5:
		connackProperties(&pk.Properties, c)
	case V31:
		pk.SessionPresent = false // the bit is reserved
		pk.ReasonCode = returnCode(c.Code)
	case V311:
		pk.ReasonCode = returnCode(c.Code)
	default:
		return dst
	}
	return encode(dst, v, TypeConnack, &pk, c.MaxSize, c.ReasonString, c.User, (*packets.Packet).ConnackEncode)
}

func connackProperties(p *packets.Properties, c *Connack) {
	p.SessionExpiryIntervalFlag, p.SessionExpiryInterval = c.HasSessionExpiry, c.SessionExpiry
	p.ReceiveMaximum = c.ReceiveMaximum
	p.MaximumQosFlag, p.MaximumQos = c.HasMaximumQoS, c.MaximumQoS
	p.RetainAvailableFlag, p.RetainAvailable = c.HasRetainAvailable, bit(c.RetainAvailable)
	p.MaximumPacketSize = c.MaximumPacketSize
	p.AssignedClientID = encodable(c.AssignedClientID)
	p.TopicAliasMaximum = c.TopicAliasMaximum
	p.WildcardSubAvailableFlag, p.WildcardSubAvailable = c.HasWildcardAvailable, bit(c.WildcardAvailable)
	p.SubIDAvailableFlag, p.SubIDAvailable = c.HasSubscriptionIDAvailable, bit(c.SubscriptionIDAvailable)
	p.SharedSubAvailableFlag, p.SharedSubAvailable = c.HasSharedAvailable, bit(c.SharedAvailable)
	p.ServerKeepAliveFlag, p.ServerKeepAlive = c.HasServerKeepAlive, c.ServerKeepAlive
	p.ResponseInfo = encodable(c.ResponseInformation)
	p.ServerReference = encodable(c.ServerReference)
	p.AuthenticationMethod = encodable(c.AuthMethod)
	p.AuthenticationData = encodable(c.AuthData)
}

// returnCode maps a reason code to a return code of MQTT 3.x (3.1.1 §3.2.2.3).
// Codes without a counterpart become "server unavailable" when the server's
// state is the cause and "not authorised" when the client's request is.
func returnCode(c Code) byte {
	switch c {
	case Success:
		return 0
	case UnsupportedProtocolVersion:
		return 1
	case ClientIdentifierNotValid:
		return 2
	case ServerUnavailable, ServerBusy, ServerShuttingDown, UseAnotherServer, ServerMoved,
		ConnectionRateExceeded, QuotaExceeded, UnspecifiedError, ImplementationSpecificError:
		return 3
	case BadUserNameOrPassword:
		return 4
	}
	return 5
}

// AppendSuback appends s. In MQTT 3.x every failure is 0x80 [MQTT-3.9.3-2].
func AppendSuback(dst []byte, v Version, s *Suback) []byte {
	pk := packets.Packet{PacketID: s.PacketID, ReasonCodes: make([]byte, len(s.Codes))}
	for i, code := range s.Codes {
		if v != V5 && code.Failed() {
			code = UnspecifiedError
		}
		pk.ReasonCodes[i] = byte(code)
	}
	return encode(dst, v, TypeSuback, &pk, s.MaxSize, s.ReasonString, s.User, (*packets.Packet).SubackEncode)
}

// AppendUnsuback appends s. MQTT 3.x has the packet identifier alone.
func AppendUnsuback(dst []byte, v Version, s *Unsuback) []byte {
	pk := packets.Packet{PacketID: s.PacketID, ReasonCodes: make([]byte, len(s.Codes))}
	for i, code := range s.Codes {
		pk.ReasonCodes[i] = byte(code)
	}
	return encode(dst, v, TypeUnsuback, &pk, s.MaxSize, s.ReasonString, s.User, (*packets.Packet).UnsubackEncode)
}

// AppendDisconnect appends d in MQTT 5. In MQTT 3.x a server has no
// DISCONNECT and dst is returned as it is. A server sends no Session Expiry Interval [MQTT-3.14.2-2].
func AppendDisconnect(dst []byte, v Version, d *Disconnect) []byte {
	if v != V5 {
		return dst
	}
	pk := packets.Packet{ReasonCode: byte(d.Code)}
	pk.Properties.ServerReference = encodable(d.ServerReference)
	return encode(dst, v, TypeDisconnect, &pk, d.MaxSize, d.ReasonString, d.User, encodeDisconnect)
}

// encodeDisconnect takes the short form where there are no properties: mochi
// always writes their length, which not every client expects.
func encodeDisconnect(pk *packets.Packet, buf *bytes.Buffer) error {
	p := &pk.Properties
	if p.ReasonString == "" && p.ServerReference == "" && len(p.User) == 0 {
		buf.Write([]byte{byte(TypeDisconnect) << 4, 1, pk.ReasonCode})
		return nil
	}
	return pk.DisconnectEncode(buf)
}

// AppendAuth appends a in MQTT 5. MQTT 3.x has no AUTH and dst is returned as it is.
func AppendAuth(dst []byte, v Version, a *Auth) []byte {
	if v != V5 {
		return dst
	}
	pk := packets.Packet{ReasonCode: byte(a.Code)}
	pk.Properties.AuthenticationMethod = encodable(a.Method)
	pk.Properties.AuthenticationData = encodable(a.Data)
	return encode(dst, v, TypeAuth, &pk, a.MaxSize, a.ReasonString, a.User, (*packets.Packet).AuthEncode)
}

// AppendRefusal appends the last words the protocol has for a peer that did
// e: CONNACK before the connection was accepted and DISCONNECT after, in MQTT 5 only.
// MQTT 3.x and a peer of no known version are closed in silence.
func AppendRefusal(dst []byte, v Version, connected bool, e *Error) []byte {
	switch {
	case v != V5:
		return dst
	case connected:
		return AppendDisconnect(dst, v, &Disconnect{Code: e.Code})
	}
	return AppendConnack(dst, v, &Connack{Code: e.Code})
}

// encode fills in what all packets share and appends the encoding of pk.
func encode(dst []byte, v Version, t Type, pk *packets.Packet, maxSize uint32, reason string, user []UserProperty,
	write func(*packets.Packet, *bytes.Buffer) error,
) []byte {
	pk.FixedHeader.Type = byte(t)
	pk.ProtocolVersion = byte(v)
	pk.Mods.AllowResponseInfo = true // else mochi drops Response Information
	return diagnosed(dst, maxSize, reasonText(reason), user, func(dst []byte, reason string, user []UserProperty) []byte {
		pk.Properties.ReasonString = reason
		pk.Properties.User = pk.Properties.User[:0]
		for _, u := range user {
			if fits(u.Key) && fits(u.Value) {
				pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: u.Key, Val: u.Value})
			}
		}
		buf := bytes.NewBuffer(dst)
		if err := write(pk, buf); err != nil {
			return dst // none of the encoders used here fails
		}
		return buf.Bytes()
	})
}

// encodable leaves out what two bytes of length cannot say.
func encodable[T []byte | string](data T) T {
	if !fits(data) {
		var none T
		return none
	}
	return data
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
