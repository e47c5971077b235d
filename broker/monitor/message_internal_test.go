package monitor

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
)

// payload is what the platform documents of a mon message, in its order.
type payload struct {
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

// What is written without reflection is what encoding/json writes.
func FuzzRender(f *testing.F) {
	f.Add("Disconnect", int64(1), int64(1_700_000_000_123_456_789), "127.0.0.1", "d:a:b:c", "", "CN=d1,O=\"acme\"", 91, "It ended.", uint64(7), true)
	f.Add("Connect", int64(0), int64(-1), "::1%eth0", "a:acme01:<x>&", "a-key", "\xff\u2028\t", 0, "", uint64(1)<<63, false)
	f.Add("FailedConnect", int64(5), int64(0), "", "", "\\", "ü", 180, "\x00\x7f", uint64(0), true)
	f.Fuzz(func(t *testing.T, what string, began, ended int64, addr, id, user, cert string, code int, reason string, n uint64, on bool) {
		s := ledger.State{
			Address: addr, ClientID: id, Port: uint16(n), Secure: on, Protocol: "mqtt5", User: user, CertName: cert, Durable: !on,
		}
		m := message{
			what: action(what), client: &s, code: code, reason: reason,
			readBytes: n, readMessages: n / 2, writtenBytes: n / 3, writtenMessages: n / 5,
		}
		switch m.what {
		case connect, failedConnect, disconnect:
		default:
			m.what = disconnect
		}
		at := func(n int64) time.Time {
			if n == 0 {
				return time.Time{}
			}
			return time.Unix(0, n)
		}
		m.began, m.ended = at(began), at(ended)
		want := payload{
			Action: m.what, Time: string(appendMoment(nil, m.ended)), ClientAddr: addr, ClientID: id, Port: s.Port, Secure: on, Protocol: "mqtt5",
			User: user, CertName: cert, Durable: !on, CloseCode: code, Reason: reason,
			ReadBytes: n, ReadMsg: n / 2, WriteBytes: n / 3, WriteMsg: n / 5,
		}
		switch m.what {
		case connect:
			want.Time, want.CloseCode, want.Reason = string(appendMoment(nil, m.began)), 0, ""
		case disconnect:
			want.ConnectTime = string(appendMoment(nil, m.began))
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.render()); got != string(text) {
			t.Errorf("written\n%s, want\n%s", got, text)
		}
	})
}

func TestMomentIsInUTC(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 1_999_999, time.FixedZone("east", 3600))
	if got := string(appendMoment(nil, at)); got != "2026-01-31T11:00:00.001Z" || !strings.HasSuffix(timeFormat, "Z") {
		t.Errorf("the moment is %s", got)
	}
}
