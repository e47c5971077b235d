package monitor

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// message is the payload of a mon topic.
type message struct {
	Action      action
	Time        string
	ClientAddr  string
	ClientID    string
	Port        uint16
	Secure      bool
	Protocol    string
	User        string `json:",omitempty"`
	CertName    string `json:",omitempty"`
	ConnectTime string `json:",omitempty"`
	Durable     bool
	CloseCode   int    `json:",omitempty"`
	Reason      string `json:",omitempty"`
	ReadBytes   uint64
	ReadMsg     uint64
	WriteBytes  uint64
	WriteMsg    uint64
}

const timeFormat = "2006-01-02T15:04:05.000Z"

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// render is what is said of s.
func render(what action, s *ledger.State, l *broker.Leaving) []byte {
	msg := message{
		Action: what, Time: moment(s.ActivityTime), ClientAddr: s.Address, ClientID: s.ClientID, Port: s.Port, Secure: s.Secure,
		Protocol: s.Protocol, User: s.User, CertName: s.CertName, Durable: s.Durable,
	}
	if what != connect {
		msg.Time, msg.CloseCode, msg.Reason = moment(s.DisconnectTime), s.CloseCode, s.Reason
	}
	if what == disconnect {
		msg.ConnectTime = moment(s.ConnectTime)
	}
	if l != nil {
		msg.ReadBytes, msg.ReadMsg, msg.WriteBytes, msg.WriteMsg = l.ReadBytes, l.ReadMessages, l.WrittenBytes, l.WrittenMessages
	}
	payload, err := json.Marshal(msg)
	if err != nil { // strings, numbers and booleans
		return nil
	}
	return payload
}

// describe is the state that a connection makes.
func describe(v *broker.Visit, s *ledger.State) {
	p, c := v.Principal, &v.Client
	s.ClientID, s.Kind = string(c.ID), p.Kind.String()
	s.Type, s.ID, s.App, s.Device = "", "", "", 0
	switch p.Kind {
	case policy.KindDevice, policy.KindGateway:
		s.Type, s.ID, s.Device = p.Type, p.ID, p.DeviceIncarnation
	case policy.KindApplication:
		s.App = p.App
	default:
		s.ID = p.ID
	}
	s.Address, s.Port, s.Secure, s.Durable = "", v.Port, c.TLS != nil, v.Durable
	if c.Address.IsValid() {
		s.Address = c.Address.String()
	}
	s.Protocol = protocol(c)
	s.User = p.APIKey // never the name that was shown: it may be a secret in the wrong place
	s.CertName = ""
	if c.TLS != nil && c.TLS.Cert != nil {
		s.CertName = c.TLS.Cert.Subject
	}
}

// protocol is how the platform called it.
func protocol(c *policy.Client) string {
	name := map[string]string{"3.1": "mqtt3", "3.1.1": "mqtt4", "5": "mqtt5"}[c.Protocol]
	if strings.HasPrefix(c.Listener, "ws") || c.Listener == "https" {
		name += "-ws"
	}
	return name
}

// topicOf is where s is told of, empty for a client that nobody subscribes to.
func topicOf(s *ledger.State) string {
	switch {
	case s.Type != "" && s.ID != "":
		return "iot-2/type/" + string(s.Type) + "/id/" + string(s.ID) + "/mon"
	case s.App != "":
		return "iot-2/app/" + string(s.App) + "/mon"
	default:
		return ""
	}
}

// isDevice reports whether s is of a device or gateway.
func isDevice(s *ledger.State) bool { return s.Type != "" && s.ID != "" }

func deviceOf(s *ledger.State) ledger.Device {
	return ledger.Device{Type: s.Type, ID: s.ID, Incarnation: s.Device}
}

// eventOf reads whose event a topic is, such as
// iot-2/type/T/id/D/evt/E/fmt/F.
func eventOf(name topic.RoutedName) (typ, id policy.ID, event, format string, ok bool) {
	l := name.Levels()
	if len(l) != 9 || l[0] != "iot-2" || l[1] != "type" || l[3] != "id" || l[5] != "evt" || l[7] != "fmt" || l[6] == "" {
		return "", "", "", "", false
	}
	typ, typErr := policy.ParseID("type", l[2])
	id, idErr := policy.ParseID("id", l[4])
	return typ, id, l[6], l[8], typErr == nil && idErr == nil
}

// guess reads who a client that was not verified says it is.
func guess(c *policy.Client) (p policy.Principal, ok bool) {
	parts := strings.Split(string(c.ID), ":")
	if len(parts) < 3 || len(parts) > 4 {
		return p, false
	}
	org, err := policy.ParseOrgID(parts[1])
	if err != nil {
		return p, false
	}
	first, err := policy.ParseID("client", parts[2])
	if err != nil {
		return p, false
	}
	p.Org = org
	switch {
	case (parts[0] == "a" && len(parts) == 3) || parts[0] == "A":
		p.Kind, p.App, p.APIKey = policy.KindApplication, first, c.Username
		return p, true
	case len(parts) != 4:
		return p, false
	}
	second, err := policy.ParseID("client", parts[3])
	if err != nil {
		return p, false
	}
	p.Type, p.ID = first, second
	switch parts[0] {
	case "d":
		p.Kind = policy.KindDevice
	case "g":
		p.Kind = policy.KindGateway
	default:
		return p, false
	}
	return p, true
}
