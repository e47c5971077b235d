package wire

import "fmt"

// Version is the protocol level of a connection. Zero means that no CONNECT was understood.
type Version byte

// The protocol levels this package speaks.
const (
	V31  Version = 3 // MQTT 3.1, protocol name "MQIsdp"
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5
)

// String returns "3.1", "3.1.1" or "5".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5"
	}
	return fmt.Sprintf("protocol level %d", byte(v))
}

// Type is an MQTT control packet type (MQTT 5 §2.1.2).
type Type byte

// The control packet types.
const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15
)

// String returns the name as the specification writes it.
func (t Type) String() string {
	switch t {
	case TypeConnect:
		return "CONNECT"
	case TypeConnack:
		return "CONNACK"
	case TypePublish:
		return "PUBLISH"
	case TypePuback:
		return "PUBACK"
	case TypePubrec:
		return "PUBREC"
	case TypePubrel:
		return "PUBREL"
	case TypePubcomp:
		return "PUBCOMP"
	case TypeSubscribe:
		return "SUBSCRIBE"
	case TypeSuback:
		return "SUBACK"
	case TypeUnsubscribe:
		return "UNSUBSCRIBE"
	case TypeUnsuback:
		return "UNSUBACK"
	case TypePingreq:
		return "PINGREQ"
	case TypePingresp:
		return "PINGRESP"
	case TypeDisconnect:
		return "DISCONNECT"
	case TypeAuth:
		return "AUTH"
	}
	return fmt.Sprintf("packet type %d", byte(t))
}

// Packet is one packet. Reader.Next returns those a client sends: *Connect,
// *Publish, *Ack, *Subscribe, *Unsubscribe, *Pingreq, *Disconnect or *Auth.
type Packet interface{ Type() Type }

// UserProperty is one name and value of the User Property; either may be empty.
type UserProperty struct{ Key, Value string }

// Connect is the first packet of a client. Everything in it is the caller's.
type Connect struct {
	Version    Version
	ClientID   string // may be empty
	CleanStart bool   // Clean Session in MQTT 3.x
	KeepAlive  uint16 // seconds; 0 switches it off

	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte // secret: never log it

	Will *Will // nil when there is none

	HasSessionExpiry    bool
	SessionExpiry       uint32 // seconds; 0xFFFFFFFF never ends
	ReceiveMaximum      uint16 // never 0: absent is 65 535
	MaximumPacketSize   uint32 // bytes; 0 when absent: no limit
	TopicAliasMaximum   uint16 // 0 when absent
	RequestResponseInfo bool
	RequestProblemInfo  bool // true when absent
	HasAuthMethod       bool
	AuthMethod          string
	AuthData            []byte // nil when absent; secret: never log it
	User                []UserProperty
}

// Will is the message a CONNECT leaves behind. Its topic is a valid topic
// name without wildcards, as the client wrote it.
type Will struct {
	Topic         string
	Payload       []byte
	QoS           byte
	Retain        bool
	DelayInterval uint32 // seconds
	Properties    PublishProperties
}

// PublishProperties are the properties that travel with an application
// message from end to end. The zero value is none.
type PublishProperties struct {
	HasPayloadFormat bool
	PayloadFormat    byte // 0 or 1
	HasMessageExpiry bool
	MessageExpiry    uint32 // seconds
	HasContentType   bool
	ContentType      string
	ResponseTopic    string // empty when absent: a topic name has at least one character
	CorrelationData  []byte // nil when absent; empty and not nil when present and empty
	User             []UserProperty
}

// IsZero reports whether no property is present.
func (p *PublishProperties) IsZero() bool {
	return !p.HasPayloadFormat && !p.HasMessageExpiry && !p.HasContentType &&
		p.ResponseTopic == "" && p.CorrelationData == nil && len(p.User) == 0
}

// Publish is an application message.
//
// As returned by Reader.Next, Topic and Payload alias the Reader's buffer and
// the Publish itself is reused: all of it is valid until the next call of
// Next. Properties is allocated anew and the caller's to keep.
type Publish struct {
	Topic           []byte // as written; empty only together with TopicAlias
	Payload         []byte
	PacketID        uint16 // 0 exactly when QoS is 0
	QoS             byte
	Retain, Dup     bool
	TopicAlias      uint16             // MQTT 5; 0 is none
	SubscriptionIDs []uint32           // outbound only: 1 to 268 435 455 each
	Properties      *PublishProperties // nil when there are none; always nil from MQTT 3.x
}

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP. As returned by Reader.Next it is
// reused: valid until the next call of Next.
type Ack struct {
	Kind         Type // TypePuback, TypePubrec, TypePubrel or TypePubcomp
	PacketID     uint16
	Code         Code // Success from MQTT 3.x
	ReasonString string
	User         []UserProperty
	MaxSize      uint32 // outbound: see AppendAck
}

// Subscribe asks for subscriptions; it has at least one filter and at most MaxFilters.
type Subscribe struct {
	PacketID       uint16
	Filters        []Subscription
	SubscriptionID uint32 // MQTT 5; 0 is none
	User           []UserProperty
}

// Subscription is one filter of a SUBSCRIBE and its options. The filter is
// well-formed UTF-8 and not empty; where its wildcards stand is not judged here.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0, 1 or 2
}

// Unsubscribe ends subscriptions; it has at least one filter and at most MaxFilters.
type Unsubscribe struct {
	PacketID uint16
	Filters  []string
	User     []UserProperty
}

// Pingreq keeps a connection alive.
type Pingreq struct{}

// Disconnect is the last packet of a connection, in MQTT 5 in either direction.
type Disconnect struct {
	Code             Code
	HasSessionExpiry bool
	SessionExpiry    uint32 // seconds
	ReasonString     string
	ServerReference  string
	User             []UserProperty
	MaxSize          uint32 // outbound: see AppendDisconnect
}

// Auth is one step of enhanced authentication, MQTT 5 only.
type Auth struct {
	Code         Code
	Method       string
	Data         []byte // nil when absent; secret: never log it
	ReasonString string
	User         []UserProperty
	MaxSize      uint32 // outbound: see AppendAuth
}

// Connack answers a CONNECT. All but SessionPresent and Code is MQTT 5 only.
// The zero value of a property without a Has field leaves it out.
type Connack struct {
	SessionPresent bool
	Code           Code

	HasSessionExpiry           bool
	SessionExpiry              uint32 // seconds
	ReceiveMaximum             uint16
	HasMaximumQoS              bool
	MaximumQoS                 byte // 0 or 1; 2 is said by leaving it out
	HasRetainAvailable         bool
	RetainAvailable            bool
	MaximumPacketSize          uint32 // bytes
	AssignedClientID           string
	TopicAliasMaximum          uint16
	ReasonString               string
	User                       []UserProperty
	HasWildcardAvailable       bool
	WildcardAvailable          bool
	HasSubscriptionIDAvailable bool
	SubscriptionIDAvailable    bool
	HasSharedAvailable         bool
	SharedAvailable            bool
	HasServerKeepAlive         bool
	ServerKeepAlive            uint16 // seconds
	ResponseInformation        string
	ServerReference            string
	AuthMethod                 string
	AuthData                   []byte
	MaxSize                    uint32 // see AppendConnack
}

// Suback answers a SUBSCRIBE: one code per filter, in its order.
type Suback struct {
	PacketID     uint16
	Codes        []Code
	ReasonString string
	User         []UserProperty
	MaxSize      uint32 // see AppendSuback
}

// Unsuback answers an UNSUBSCRIBE: one code per filter, in its order.
type Unsuback struct {
	PacketID     uint16
	Codes        []Code
	ReasonString string
	User         []UserProperty
	MaxSize      uint32 // see AppendUnsuback
}

// Type returns TypeConnect.
func (*Connect) Type() Type { return TypeConnect }

// Type returns TypePublish.
func (*Publish) Type() Type { return TypePublish }

// Type returns the Kind.
func (a *Ack) Type() Type { return a.Kind }

// Type returns TypeSubscribe.
func (*Subscribe) Type() Type { return TypeSubscribe }

// Type returns TypeUnsubscribe.
func (*Unsubscribe) Type() Type { return TypeUnsubscribe }

// Type returns TypePingreq.
func (*Pingreq) Type() Type { return TypePingreq }

// Type returns TypeDisconnect.
func (*Disconnect) Type() Type { return TypeDisconnect }

// Type returns TypeAuth.
func (*Auth) Type() Type { return TypeAuth }

// Type returns TypeConnack.
func (*Connack) Type() Type { return TypeConnack }

// Type returns TypeSuback.
func (*Suback) Type() Type { return TypeSuback }

// Type returns TypeUnsuback.
func (*Unsuback) Type() Type { return TypeUnsuback }
