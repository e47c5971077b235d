package policy

import (
	"net/netip"
	"time"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Action is the closed set of what can be decided.
type Action uint8

// The zero Action is none, and no engine allows it.
const (
	ActionNone Action = iota
	ActionConnect
	ActionPublish
	ActionSubscribe
	ActionReceive
	ActionAdminister
)

func (a Action) String() string {
	switch a {
	case ActionConnect:
		return "connect"
	case ActionPublish:
		return "publish"
	case ActionSubscribe:
		return "subscribe"
	case ActionReceive:
		return "receive"
	case ActionAdminister:
		return "administer"
	default:
		return "none"
	}
}

// ClientID is an MQTT client identifier as the client sent it, such as
// "d:acme01:sensor:d1": at most 256 bytes without control characters. It may be
// empty where MQTT allows that.
type ClientID string

// ParseClientID checks s.
func ParseClientID(s string) (ClientID, error) {
	if len(s) > 256 || !topic.CheckText(s) {
		return "", &Error{Kind: KindInvalid, Field: "client ID", Public: "must be at most 256 bytes without control characters"}
	}
	return ClientID(s), nil
}

// Client says what is known of a connection beside who it is. Only ID and
// Username were chosen by the client.
type Client struct {
	ID       ClientID
	Username string
	Protocol string // "3.1", "3.1.1", "5"; empty over HTTP
	Listener string // "mqtts", "mqtt", "wss", "https"
	Address  netip.Addr
	TLS      *TLS // nil on a plain connection
}

// TLS says what a client's TLS connection showed.
type TLS struct {
	Version string // "1.2", "1.3"
	SNI     string
	Cert    *Certificate // nil when none was presented
}

// Certificate says what a presented client certificate holds. Whether it is
// trusted is the certificate verifier's finding, not this.
type Certificate struct {
	Subject string
	SAN     []string
	SHA256  string // lower-case hex
}

// Organisation is what policies may know of the organisation itself.
type Organisation struct {
	ID OrgID
	// ConnectionLevel is what a connection has to bring: "tls_optional", "tls_token",
	// "tls_certificate", "tls_token_and_certificate", "tls_certificate_or_token", or "tls"
	// where the organisation chose none. It is that of the client's device type where
	// that has one of its own.
	ConnectionLevel string
	// AddressList is "allow" or "deny" where the organisation has such a list; and
	// AddressListed says that the client's address is on it.
	AddressList   string
	AddressListed bool
	// CertificateRegistration says that devices with a certificate may be registered
	// when they first connect.
	CertificateRegistration bool
	Data                    map[string]any // set by the organisation's administrators; JSON values
}

// Device is what the registry knows of the device a topic names. It is immutable, so
// a Judge may keep it.
type Device struct {
	Type, ID   ID
	Registered bool
	Status     string // "enabled", "disabled"; empty when not registered
	Groups     []string
}

// Facts are the constant part of every request of one holder: a session or one
// REST call. They are immutable; a registry change makes new ones.
type Facts struct {
	Principal *Principal
	Org       *Organisation
	Client    *Client
	// Budget bounds evaluations that nothing is remembered for; nil: unbounded.
	Budget Budget
}

// Budget is what an organisation may still have evaluated at this moment. A
// remembered answer costs nothing.
type Budget interface {
	// Spend takes one evaluation and reports whether there was one left. It is
	// safe for concurrent use.
	Spend() bool
}

// Properties are the MQTT 5 properties of a message that policies may read.
type Properties struct {
	ContentType   string
	ResponseTopic string
	MessageExpiry *uint32 // seconds
	User          []UserProperty
}

// UserProperty is one name and value pair; names may repeat.
type UserProperty struct{ Key, Value string }

// Memo is where a Judge may note the answer it gave, so that the next request
// about the same topic finds it at once. The zero Memo is ready. All requests
// that carry one have the same Judge, action, topic, levels and filter, and are
// not asked at the same time.
type Memo struct {
	Note any // the Judge's
}

// Request is one question. Which fields count depends on Action; the rest stay
// zero. A Judge does not keep it, so the caller may reuse it.
type Request struct {
	Action Action
	Time   time.Time
	Memo   *Memo // nil: none

	// Publish and receive: one concrete topic.
	Topic      topic.Name // as the client writes it
	Levels     []string   // inside the organisation; for subscribe, of the filter
	QoS        byte
	Retain     bool
	Size       int // payload bytes
	Will       bool
	Properties *Properties // nil when there are none
	Device     *Device     // the device the mount names, for subscribe too, or the REST call; nil when it names none

	// Subscribe: one filter, without its $share part.
	Filter topic.Filter
	Share  string // group name; empty for an ordinary subscription

	// Administer: one REST or console call.
	Method string            // "GET", "POST", …
	Route  string            // the pattern, such as "/device/types/{typeId}/devices/{deviceId}"
	Target map[string]string // the pattern's values; "roles", joined by commas, where the call yields a key's token
}
