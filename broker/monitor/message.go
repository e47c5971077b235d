package monitor

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// message is what is said of a connection: its beginning, its end, or that there
// was none.
type message struct {
	what   action
	client *ledger.State // whose, and where from
	// Of the connection that has ended, and of one that never began.
	began, ended time.Time
	code         int
	reason       string
	// What went over it; messages are PUBLISH packets.
	readBytes, readMessages, writtenBytes, writtenMessages uint64
}

// render is m as the payload of a mon topic: one JSON object, its members in the
// order of the platform's documentation.
func (m *message) render() []byte {
	s := m.client
	b := make([]byte, 0, 512)
	b = append(b, `{"Action":"`...)
	b = append(b, m.what...)
	at := m.ended
	if m.what == connect {
		at = m.began
	}
	b = appendMoment(append(b, `","Time":"`...), at)
	b = appendText(append(b, `","ClientAddr":`...), s.Address)
	b = appendText(append(b, `,"ClientID":`...), s.ClientID)
	b = strconv.AppendUint(append(b, `,"Port":`...), uint64(s.Port), 10)
	b = strconv.AppendBool(append(b, `,"Secure":`...), s.Secure)
	b = appendText(append(b, `,"Protocol":`...), s.Protocol)
	if s.User != "" {
		b = appendText(append(b, `,"User":`...), s.User)
	}
	if s.CertName != "" {
		b = appendText(append(b, `,"CertName":`...), s.CertName)
	}
	if m.what == disconnect && !m.began.IsZero() {
		b = append(appendMoment(append(b, `,"ConnectTime":"`...), m.began), '"')
	}
	b = strconv.AppendBool(append(b, `,"Durable":`...), s.Durable)
	if m.what != connect && m.code != 0 {
		b = strconv.AppendInt(append(b, `,"CloseCode":`...), int64(m.code), 10)
	}
	if m.what != connect && m.reason != "" {
		b = appendText(append(b, `,"Reason":`...), m.reason)
	}
	b = strconv.AppendUint(append(b, `,"ReadBytes":`...), m.readBytes, 10)
	b = strconv.AppendUint(append(b, `,"ReadMsg":`...), m.readMessages, 10)
	b = strconv.AppendUint(append(b, `,"WriteBytes":`...), m.writtenBytes, 10)
	b = strconv.AppendUint(append(b, `,"WriteMsg":`...), m.writtenMessages, 10)
	return append(b, '}')
}

// appendText writes s as a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) //nolint:errchkjson // a string always has a form
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// appendMoment writes a time to the millisecond, in UTC, and nothing for none.
func appendMoment(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return t.UTC().AppendFormat(b, timeFormat)
}

// lastWord is the Disconnect that s tells of.
func lastWord(s *ledger.State) message {
	return message{
		what: disconnect, client: s, began: s.ConnectTime, ended: s.DisconnectTime, code: s.CloseCode, reason: s.Reason,
		readBytes: s.ReadBytes, readMessages: s.ReadMessages, writtenBytes: s.WrittenBytes, writtenMessages: s.WrittenMessages,
	}
}

// describe has s be of the client of v and of this connection of it.
func describe(v *broker.Visit, s *ledger.State) {
	identify(v, s)
	c := &v.Client
	s.Address, s.Port, s.Secure, s.Durable = address(c), v.Port, c.TLS != nil, v.Durable
	s.Protocol = protocol(c)
	s.User = v.Principal.APIKey // never the name that was shown: it may be a secret in the wrong place
	s.CertName = ""
	if c.TLS != nil && c.TLS.Cert != nil {
		s.CertName = c.TLS.Cert.Subject
	}
}

// identify has s be of the client of v.
func identify(v *broker.Visit, s *ledger.State) {
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
}

func address(c *policy.Client) string {
	if !c.Address.IsValid() {
		return ""
	}
	return c.Address.String()
}

// protocol is how the platform called it.
func protocol(c *policy.Client) string {
	name := ""
	switch c.Protocol {
	case "3.1":
		name = "mqtt3"
	case "3.1.1":
		name = "mqtt4"
	case "5":
		name = "mqtt5"
	}
	if strings.HasPrefix(c.Listener, "ws") || c.Listener == "https" {
		name += "-ws"
	}
	return name
}

// topicOf is where p is told of, empty for a client that nobody subscribes to.
func topicOf(p *policy.Principal) string {
	switch {
	case isDevice(p):
		return deviceTopic(p.Type, p.ID)
	case p.Kind == policy.KindApplication && p.App != "":
		return appTopic(p.App)
	default:
		return ""
	}
}

// stateTopic is topicOf for whoever s is of.
func stateTopic(s *ledger.State) string {
	switch {
	case ofDevice(s):
		return deviceTopic(s.Type, s.ID)
	case s.App != "":
		return appTopic(s.App)
	default:
		return ""
	}
}

func deviceTopic(typ, id policy.ID) string {
	return "iot-2/type/" + string(typ) + "/id/" + string(id) + "/mon"
}

func appTopic(app policy.ID) string { return "iot-2/app/" + string(app) + "/mon" }

// isDevice reports whether p is a device or gateway, and ofDevice whether s is of one.
func isDevice(p *policy.Principal) bool {
	return (p.Kind == policy.KindDevice || p.Kind == policy.KindGateway) && p.Type != "" && p.ID != ""
}

func ofDevice(s *ledger.State) bool { return s.Type != "" && s.ID != "" }

// connectedLine, closedLine and refusedLine are those of the connection log.
func connectedLine(s *ledger.State) string {
	return "Connected: ClientID='" + s.ClientID + "', ClientIP=" + s.Address + ", protocol " + s.Protocol
}

func closedLine(v *broker.Visit, l *broker.Leaving) string {
	return "Closed connection from " + address(&v.Client) + " (code " + strconv.Itoa(int(l.Code)) + "). " + l.Reason
}

func refusedLine(v *broker.Visit, l *broker.Leaving) string {
	line := "Refused connection from " + address(&v.Client) + " (code " + strconv.Itoa(int(l.Code)) + "). " + l.Reason
	if l.Words != "" && v.Principal != nil {
		line += " " + l.Words // to whom they were said
	}
	return line
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
