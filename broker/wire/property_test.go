package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// host is a place where a client may write a property list; %s is the list with its length.
type host struct {
	name    string
	packet  string
	withOwn string // what the list must hold besides, if anything
}

var hosts = []host{
	{"CONNECT", `10 [ s"MQTT" 05 02 000a %s s"c" ]`, ""},
	{"will", `10 [ s"MQTT" 05 06 000a [] s"c" %s s"w" s"p" ]`, ""},
	{"PUBLISH", `30 [ s"a" %s "x" ]`, ""},
	{"PUBACK", `40 [ 0001 00 %s ]`, ""},
	{"PUBREC", `50 [ 0001 00 %s ]`, ""},
	{"PUBREL", `62 [ 0001 00 %s ]`, ""},
	{"PUBCOMP", `70 [ 0001 00 %s ]`, ""},
	{"SUBSCRIBE", `82 [ 0001 %s s"a" 00 ]`, ""},
	{"UNSUBSCRIBE", `a2 [ 0001 %s s"a" ]`, ""},
	{"DISCONNECT", `e0 [ 00 %s ]`, ""},
	{"AUTH", `f0 [ 18 %s ]`, `15 s"m"`},
}

// The properties of MQTT 5 (table 2-4) with a value each, and the hosts where a client may write them.
var properties = []struct {
	name, id, value string
	hosts           []string
}{
	{"Payload Format Indicator", "01", "01", []string{"PUBLISH", "will"}},
	{"Message Expiry Interval", "02", "00000001", []string{"PUBLISH", "will"}},
	{"Content Type", "03", `s"t"`, []string{"PUBLISH", "will"}},
	{"Response Topic", "08", `s"r"`, []string{"PUBLISH", "will"}},
	{"Correlation Data", "09", `s"d"`, []string{"PUBLISH", "will"}},
	{"Subscription Identifier", "0b", "01", []string{"SUBSCRIBE"}},
	{"Session Expiry Interval", "11", "00000001", []string{"CONNECT", "DISCONNECT"}},
	{"Assigned Client Identifier", "12", `s"c"`, nil},
	{"Server Keep Alive", "13", "0001", nil},
	{"Authentication Method", "15", `s"m"`, []string{"CONNECT", "AUTH"}},
	{"Authentication Data", "16", `s"d"`, []string{"AUTH"}}, // in a CONNECT it needs a method: testdata/connect.txt
	{"Request Problem Information", "17", "01", []string{"CONNECT"}},
	{"Will Delay Interval", "18", "00000001", []string{"will"}},
	{"Request Response Information", "19", "01", []string{"CONNECT"}},
	{"Response Information", "1a", `s"i"`, nil},
	{"Server Reference", "1c", `s"s"`, []string{"DISCONNECT"}},
	{"Reason String", "1f", `s"r"`, []string{"PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "DISCONNECT", "AUTH"}},
	{"Receive Maximum", "21", "0001", []string{"CONNECT"}},
	{"Topic Alias Maximum", "22", "0001", []string{"CONNECT"}},
	{"Topic Alias", "23", "0001", []string{"PUBLISH"}},
	{"Maximum QoS", "24", "01", nil},
	{"Retain Available", "25", "01", nil},
	{"Maximum Packet Size", "27", "00000100", []string{"CONNECT"}},
	{"Wildcard Subscription Available", "28", "01", nil},
	{"Subscription Identifier Available", "29", "01", nil},
	{"Shared Subscription Available", "2a", "01", nil},
}

// code returns 0 for a packet that is accepted, else the code of its error.
func (h host) code(t *testing.T, list string) wire.Code {
	t.Helper()
	packet := wiretest.MustBytes(fmt.Sprintf(h.packet, list))
	var r *wire.Reader
	if packet[0]>>4 == byte(wire.TypeConnect) {
		r = wire.NewReader(bytes.NewReader(packet), 1<<20)
	} else {
		opening := wiretest.Connect(&wire.Connect{Version: wire.V5, AuthMethod: "m"})
		r = wire.NewReader(bytes.NewReader(append(opening, packet...)), 1<<20)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Next()
	if err == nil {
		return 0
	}
	var bad *wire.Error
	if !errors.As(err, &bad) {
		t.Fatalf("%s: %v", list, err)
	}
	return bad.Code
}

// Table 2-4, cell by cell: which property may stand where, that it may not
// stand twice, and that it may not be cut.
func TestPropertyTable(t *testing.T) {
	t.Parallel()
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			misplaced := wire.ProtocolError
			if h.name == "SUBSCRIBE" || h.name == "UNSUBSCRIBE" {
				misplaced = wire.MalformedPacket
			}
			for _, p := range properties {
				own := h.withOwn
				if own != "" && p.id == own[:2] {
					own = ""
				}
				once := p.id + " " + p.value
				wantOnce, wantTwice := misplaced, misplaced
				if slices.Contains(p.hosts, h.name) {
					wantOnce, wantTwice = 0, wire.ProtocolError
				}
				if p.id == "16" && h.name == "CONNECT" {
					wantOnce = wire.ProtocolError
				}
				if got := h.code(t, "[ "+own+" "+once+" ]"); got != wantOnce {
					t.Errorf("%s: %s, want %s", p.name, got, wantOnce)
				}
				if got := h.code(t, "[ "+own+" "+once+" "+once+" ]"); got != wantTwice {
					t.Errorf("%s twice: %s, want %s", p.name, got, wantTwice)
				}
				if got := h.code(t, "[ "+own+" "+p.id+" ]"); got != wire.MalformedPacket {
					t.Errorf("%s without a value: %s", p.name, got)
				}
			}
		})
	}
}

func TestUserPropertyEverywhere(t *testing.T) {
	t.Parallel()
	for _, h := range hosts {
		own := h.withOwn
		for list, want := range map[string]wire.Code{
			`26 s"k" s"v"`:              0,
			`26 s"k" s"v" 26 s"k" s"v"`: 0,
			`26 s"" s""`:                0,
			`26 s"k"`:                   wire.MalformedPacket,
			`26`:                        wire.MalformedPacket,
			`26 s"k" s"\x00"`:           wire.MalformedPacket,
			`26 s"\xff" s"v"`:           wire.MalformedPacket,
		} {
			if got := h.code(t, "[ "+own+" "+list+" ]"); got != want {
				t.Errorf("%s: %s: %s, want %s", h.name, list, got, want)
			}
		}
	}
}

func TestUnknownProperties(t *testing.T) {
	t.Parallel()
	known := map[int]bool{0x26: true}
	for _, p := range properties {
		known[int(wiretest.MustBytes(p.id)[0])] = true
	}
	for _, h := range hosts {
		for id := range 0x80 {
			if known[id] {
				continue
			}
			if got := h.code(t, fmt.Sprintf("[ %s %02x 01 ]", h.withOwn, id)); got != wire.MalformedPacket {
				t.Errorf("%s: property %#02x: %s", h.name, id, got)
			}
		}
		for _, id := range []string{"8100", "8001", "ff7f", "ffffff7f", "8080808001"} {
			if got := h.code(t, "[ "+h.withOwn+" "+id+" 01 ]"); got != wire.MalformedPacket {
				t.Errorf("%s: property %s: %s", h.name, id, got)
			}
		}
	}
}
