package wire

import "strings"

// The bits of the connect flags (MQTT 5 §3.1.2.3).
const (
	flagReserved   = 1 << 0
	flagCleanStart = 1 << 1
	flagWill       = 1 << 2
	flagWillQoS    = 3 << 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7
)

// decodeConnect reads a CONNECT and fixes the version of the connection.
//
// MQTT 3.1 calls unused what 3.1.1 reserves, so its header flags, its reserved
// connect flag and will bits without a will are not judged; and it lets a
// packet end before the user name or password its flags announce.
func (r *Reader) decodeConnect(c *cursor, header byte) *Connect {
	v := r.decodeProtocol(c)
	m := &Connect{Version: v, ReceiveMaximum: 65535, RequestProblemInfo: true}
	if v != V31 && header != 0 {
		c.fail(MalformedPacket, "reserved header flags are set [MQTT-2.1.3-1]")
	}
	flags := c.uint8()
	checkConnectFlags(c, v, flags)
	m.CleanStart = flags&flagCleanStart != 0
	m.KeepAlive = c.uint16()
	if v == V5 {
		decodeConnectProperties(c, m)
	}
	m.ClientID = decodeClientID(c, v)
	if flags&flagWill != 0 {
		m.Will = decodeWill(c, v, flags)
	}
	if flags&flagUsername != 0 && !mayEnd(c, v) {
		m.HasUsername, m.Username = true, string(c.text())
	}
	if flags&flagPassword != 0 && !mayEnd(c, v) {
		m.HasPassword, m.Password = true, cloneBytes(c.binary())
	}
	r.hasAuthMethod = m.HasAuthMethod
	return m
}

// decodeProtocol reads protocol name and level. An unknown level leaves the
// Reader at MQTT 5, the only version whose CONNACK can say so to any client.
func (r *Reader) decodeProtocol(c *cursor) Version {
	name := string(c.binary())
	if name != "MQTT" && name != "MQIsdp" {
		c.fail(UnsupportedProtocolVersion, "unknown protocol name [MQTT-3.1.2-1]")
	}
	v := Version(c.uint8())
	switch {
	case c.err != nil:
		return 0
	case name == "MQIsdp" && v == V31, name == "MQTT" && (v == V311 || v == V5):
		r.version = v
		return v
	}
	r.version = V5
	c.fail(UnsupportedProtocolVersion, "unknown protocol level [MQTT-3.1.2-2]")
	return 0
}

func checkConnectFlags(c *cursor, v Version, flags byte) {
	switch {
	case flags&flagWillQoS == flagWillQoS:
		c.fail(MalformedPacket, "Will QoS is 3 [MQTT-3.1.2-12]")
	case v == V31:
	case flags&flagReserved != 0:
		c.fail(MalformedPacket, "reserved connect flag is set [MQTT-3.1.2-3]")
	case flags&flagWill == 0 && flags&(flagWillQoS|flagWillRetain) != 0:
		c.fail(MalformedPacket, "Will QoS or Will Retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]")
	}
	if v != V5 && flags&flagPassword != 0 && flags&flagUsername == 0 {
		c.fail(MalformedPacket, "password without user name [MQTT-3.1.2-22]")
	}
}

// mayEnd reports whether the packet ends here and may: MQTT 3.1 gives the
// remaining length precedence over the flags.
func mayEnd(c *cursor, v Version) bool { return v == V31 && c.left() == 0 && c.err == nil }

func decodeConnectProperties(c *cursor, m *Connect) {
	p := c.properties(TypeConnect)
	m.HasSessionExpiry, m.SessionExpiry = p.has(propSessionExpiry), p.sessionExpiry
	if p.has(propReceiveMaximum) {
		m.ReceiveMaximum = p.receiveMaximum
	}
	m.MaximumPacketSize = p.maximumPacketSize
	m.TopicAliasMaximum = p.topicAliasMaximum
	m.RequestResponseInfo = p.requestResponse == 1
	if p.has(propRequestProblem) {
		m.RequestProblemInfo = p.requestProblem == 1
	}
	m.HasAuthMethod, m.AuthMethod, m.AuthData = p.has(propAuthMethod), p.authMethod, p.authData
	if p.authData != nil && !m.HasAuthMethod {
		c.fail(ProtocolError, "Authentication Data without Authentication Method (MQTT 5 §3.1.2.11.10)")
	}
	m.User = p.user
}

// decodeClientID reads the client identifier; which of them are welcome is the broker's business.
func decodeClientID(c *cursor, v Version) string {
	id := c.binary()
	if !validText(id) {
		code := MalformedPacket
		if v == V5 {
			code = ClientIdentifierNotValid // [MQTT-3.1.3-8]
		}
		c.fail(code, "client identifier is not acceptable UTF-8 [MQTT-3.1.3-4]")
	}
	return string(id)
}

func decodeWill(c *cursor, v Version, flags byte) *Will {
	w := &Will{QoS: flags & flagWillQoS >> 3, Retain: flags&flagWillRetain != 0}
	if v == V5 {
		p := c.properties(willProperties)
		w.DelayInterval = p.willDelay
		w.Properties = p.message
		w.Properties.User = p.user
	}
	w.Topic = string(c.text())
	if w.Topic == "" || strings.ContainsAny(w.Topic, "+#") {
		c.fail(ProtocolError, "will topic is not a topic name [MQTT-4.7.1-1] [MQTT-4.7.3-1]")
	}
	w.Payload = cloneBytes(c.binary())
	return w
}
