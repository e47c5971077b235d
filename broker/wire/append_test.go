package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// everything is each property of an application message.
func everything() *wire.PublishProperties {
	return &wire.PublishProperties{
		HasPayloadFormat: true, PayloadFormat: 1,
		HasMessageExpiry: true, MessageExpiry: 60,
		HasContentType: true, ContentType: "application/json",
		ResponseTopic: "reply", CorrelationData: []byte{0, 1, 2},
		User: []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "", Value: ""}},
	}
}

// What the appenders write, byte by byte.
func TestAppendedBytes(t *testing.T) {
	t.Parallel()
	user := []wire.UserProperty{{Key: "k", Value: "v"}}
	tests := []struct {
		name   string
		append func(dst []byte, v wire.Version) []byte
		v3, v5 string // in the notation of wiretest; v3 for both 3.1 and 3.1.1
	}{
		{
			"PUBLISH",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendPublish(dst, v, &wire.Publish{Topic: []byte("a"), Payload: []byte("x")})
			},
			`30 [ s"a" "x" ]`, `30 [ s"a" [] "x" ]`,
		},
		{
			"PUBLISH with all there is",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendPublish(dst, v, &wire.Publish{
					Topic: []byte("a"), QoS: 2, PacketID: 258, Retain: true, Dup: true,
					TopicAlias: 9, SubscriptionIDs: []uint32{1, 268435455}, Properties: everything(),
				})
			},
			`3d [ s"a" 0102 ]`,
			`3d [ s"a" 0102 [ 23 0009 0b 01 0b ffffff7f 01 01 02 0000003c 03 s"application/json" 08 s"reply" 09 0003 000102 26 s"k" s"v" 26 s"" s"" ] ]`,
		},
		{
			"PUBACK",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendAck(dst, v, wire.Ack{Kind: wire.TypePuback, PacketID: 1})
			},
			`40 [ 0001 ]`, `40 [ 0001 ]`,
		},
		{
			"PUBREC with a code",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendAck(dst, v, wire.Ack{Kind: wire.TypePubrec, PacketID: 1, Code: wire.NoMatchingSubscribers})
			},
			`50 [ 0001 ]`, `50 [ 0001 10 ]`,
		},
		{
			"PUBREL with properties",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendAck(dst, v, wire.Ack{Kind: wire.TypePubrel, PacketID: 65535, ReasonString: "why", User: user})
			},
			`62 [ ffff ]`, `62 [ ffff 00 [ 1f s"why" 26 s"k" s"v" ] ]`,
		},
		{
			"CONNACK",
			func(dst []byte, v wire.Version) []byte { return wire.AppendConnack(dst, v, &wire.Connack{}) },
			`20 [ 00 00 ]`, `20 [ 00 00 [] ]`,
		},
		{
			"CONNACK that refuses",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendConnack(dst, v, &wire.Connack{SessionPresent: true, Code: wire.BadUserNameOrPassword})
			},
			`20 [ 00 04 ]`, `20 [ 00 86 [] ]`,
		},
		{
			"SUBACK",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendSuback(dst, v, &wire.Suback{PacketID: 1, Codes: []wire.Code{0, 1, 2, wire.NotAuthorized}})
			},
			`90 [ 0001 00 01 02 80 ]`, `90 [ 0001 [] 00 01 02 87 ]`,
		},
		{
			"UNSUBACK",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendUnsuback(dst, v, &wire.Unsuback{PacketID: 1, Codes: []wire.Code{0, wire.NoSubscriptionExisted}, User: user})
			},
			`b0 [ 0001 ]`, `b0 [ 0001 [ 26 s"k" s"v" ] 00 11 ]`,
		},
		{
			"PINGRESP",
			func(dst []byte, _ wire.Version) []byte { return wire.AppendPingresp(dst) },
			`d0 []`, `d0 []`,
		},
		{
			"DISCONNECT",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendDisconnect(dst, v, &wire.Disconnect{Code: wire.SessionTakenOver})
			},
			``, `e0 [ 8e ]`,
		},
		{
			"DISCONNECT with properties",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendDisconnect(dst, v, &wire.Disconnect{Code: wire.NotAuthorized, HasSessionExpiry: true, ReasonString: "r"})
			},
			``, `e0 [ 87 [ 1f s"r" ] ]`,
		},
		{
			"AUTH",
			func(dst []byte, v wire.Version) []byte {
				return wire.AppendAuth(dst, v, &wire.Auth{Code: wire.ContinueAuthentication, Method: "m", Data: []byte{1}})
			},
			``, `f0 [ 18 [ 15 s"m" 16 0001 01 ] ]`,
		},
	}
	for _, tt := range tests {
		for v, want := range map[wire.Version]string{wire.V311: tt.v3, wire.V31: tt.v3, wire.V5: tt.v5} {
			want := append([]byte("before"), wiretest.MustBytes(want)...)
			if got := tt.append([]byte("before"), v); !bytes.Equal(got, want) {
				t.Errorf("%s, MQTT %s:\n got % x\nwant % x", tt.name, v, got, want)
			}
		}
	}
}

// The session flag exists from 3.1.1 on, and only where the connection is accepted [MQTT-3.2.2-6].
func TestSessionPresent(t *testing.T) {
	t.Parallel()
	for v, want := range map[wire.Version]string{
		wire.V31:  `20 [ 00 00 ]`,
		wire.V311: `20 [ 01 00 ]`,
		wire.V5:   `20 [ 01 00 [] ]`,
		0:         ``,
	} {
		got := wire.AppendConnack(nil, v, &wire.Connack{SessionPresent: true})
		if !bytes.Equal(got, wiretest.MustBytes(want)) {
			t.Errorf("%s: % x, want %s", v, got, want)
		}
	}
}

// Each reason code of a CONNACK has a return code in MQTT 3.x, and none but Success is 0.
func TestReturnCodes(t *testing.T) {
	t.Parallel()
	named := map[wire.Code]byte{
		wire.Success: 0, wire.UnsupportedProtocolVersion: 1, wire.ClientIdentifierNotValid: 2,
		wire.ServerUnavailable: 3, wire.ServerBusy: 3, wire.QuotaExceeded: 3,
		wire.BadUserNameOrPassword: 4, wire.NotAuthorized: 5, wire.Banned: 5, wire.BadAuthenticationMethod: 5,
	}
	for code := wire.Code(0); code < 0xFF; code++ {
		ack := wire.AppendConnack(nil, wire.V311, &wire.Connack{Code: code})
		want, ok := named[code]
		if got := ack[3]; ok && got != want || got > 5 || (got == 0) != (code == wire.Success) {
			t.Errorf("%s: return code %d", code, got)
		}
	}
}

// Reason string and user properties give way to the client's Maximum Packet
// Size, in this order: all, without user properties, without both, nothing [MQTT-3.1.2-24].
func TestMaxSize(t *testing.T) {
	t.Parallel()
	user := []wire.UserProperty{{Key: "key", Value: "value"}}
	appenders := map[string]func(maxSize uint32) []byte{
		"CONNACK": func(n uint32) []byte {
			return wire.AppendConnack(nil, wire.V5, &wire.Connack{Code: wire.NotAuthorized, ReasonString: "reason", User: user, MaxSize: n})
		},
		"PUBACK": func(n uint32) []byte {
			return wire.AppendAck(nil, wire.V5, wire.Ack{Kind: wire.TypePuback, PacketID: 1, Code: wire.NotAuthorized, ReasonString: "reason", User: user, MaxSize: n})
		},
		"SUBACK": func(n uint32) []byte {
			return wire.AppendSuback(nil, wire.V5, &wire.Suback{PacketID: 1, Codes: []wire.Code{0}, ReasonString: "reason", User: user, MaxSize: n})
		},
		"UNSUBACK": func(n uint32) []byte {
			return wire.AppendUnsuback(nil, wire.V5, &wire.Unsuback{PacketID: 1, Codes: []wire.Code{0}, ReasonString: "reason", User: user, MaxSize: n})
		},
		"DISCONNECT": func(n uint32) []byte {
			return wire.AppendDisconnect(nil, wire.V5, &wire.Disconnect{Code: wire.NotAuthorized, ReasonString: "reason", User: user, MaxSize: n})
		},
		"AUTH": func(n uint32) []byte {
			return wire.AppendAuth(nil, wire.V5, &wire.Auth{Code: wire.ContinueAuthentication, Method: "m", ReasonString: "reason", User: user, MaxSize: n})
		},
	}
	for name, appendTo := range appenders {
		full := appendTo(0)
		seen := map[string]int{}
		for n := uint32(len(full)); n > 0; n-- {
			got := appendTo(n)
			if len(got) > int(n) {
				t.Errorf("%s of %d bytes for a client of %d", name, len(got), n)
			}
			form := fmt.Sprintf("reason=%t user=%t", bytes.Contains(got, []byte("reason")), bytes.Contains(got, []byte("value")))
			if len(got) == 0 {
				form = "nothing"
			}
			seen[form]++
		}
		for _, form := range []string{"reason=true user=true", "reason=true user=false", "reason=false user=false", "nothing"} {
			if seen[form] == 0 {
				t.Errorf("%s: never %q", name, form)
			}
		}
		if len(seen) != 4 {
			t.Errorf("%s: forms %v", name, seen)
		}
	}
}

func TestReasonStringsAreMadeFit(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"line one\nline two\x00\xff": "line oneline two",
		"grüße":                      "grüße",
		strings.Repeat("x", 5000):    strings.Repeat("x", 1024),
		strings.Repeat("x", 1023) + strings.Repeat("ü", 9): strings.Repeat("x", 1023),
	} {
		b := wire.AppendDisconnect(nil, wire.V5, &wire.Disconnect{Code: wire.NotAuthorized, ReasonString: given})
		p, err := wiretest.Read(bufio.NewReader(bytes.NewReader(b)), wire.V5)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.(*wire.Disconnect).ReasonString; got != want {
			t.Errorf("%q became %q", given, got)
		}
	}
}

// What cannot be encoded is left out or not sent; it never breaks the stream.
func TestTooLongToEncode(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65536)
	p := &wire.Publish{Topic: []byte(long)}
	if got := wire.AppendPublish(nil, wire.V311, p); len(got) != 0 || wire.SizePublish(wire.V311, p) != 0 {
		t.Errorf("topic of 65536 bytes: %d bytes", len(got))
	}
	p = &wire.Publish{Topic: []byte("a"), Payload: []byte("x"), Properties: &wire.PublishProperties{
		HasContentType: true, ContentType: long, ResponseTopic: long, CorrelationData: []byte(long),
		User: []wire.UserProperty{{Key: "k", Value: long}, {Key: "k", Value: "v"}},
	}}
	want := wiretest.MustBytes(`30 [ s"a" [ 26 s"k" s"v" ] "x" ]`)
	if got := wire.AppendPublish(nil, wire.V5, p); !bytes.Equal(got, want) || wire.SizePublish(wire.V5, p) != len(want) {
		t.Errorf("properties of 65536 bytes: %d bytes", len(got))
	}
	connack := wire.AppendConnack(nil, wire.V5, &wire.Connack{AssignedClientID: long, ServerReference: long, AuthData: []byte(long)})
	if want := wiretest.MustBytes(`20 [ 00 00 [] ]`); !bytes.Equal(connack, want) {
		t.Errorf("CONNACK: %d bytes", len(connack))
	}
}

// Everything a server says is understood by a second implementation as it was meant.
func TestAppendedPacketsAreUnderstood(t *testing.T) {
	t.Parallel()
	user := []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}
	connack := &wire.Connack{
		SessionPresent: true, HasSessionExpiry: true, SessionExpiry: 7, ReceiveMaximum: 20, HasMaximumQoS: true, MaximumQoS: 1,
		HasRetainAvailable: true, RetainAvailable: true, MaximumPacketSize: 1 << 18, AssignedClientID: "assigned",
		TopicAliasMaximum: 10, ReasonString: "reason", User: user, HasWildcardAvailable: true, WildcardAvailable: true,
		HasSubscriptionIDAvailable: true, HasSharedAvailable: true, SharedAvailable: true, HasServerKeepAlive: true,
		ServerKeepAlive: 30, ResponseInformation: "info", ServerReference: "server", AuthMethod: "m", AuthData: []byte{1, 2},
	}
	publish := &wire.Publish{
		Topic: []byte("a/b"), Payload: []byte("payload"), PacketID: 9, QoS: 1, Retain: true, Dup: true, TopicAlias: 4,
		SubscriptionIDs: []uint32{1, 200, 70000, 268435455}, Properties: everything(),
	}
	ack := &wire.Ack{Kind: wire.TypePubrec, PacketID: 3, Code: wire.QuotaExceeded, ReasonString: "reason", User: user}
	suback := &wire.Suback{PacketID: 4, Codes: []wire.Code{0, 2, 0x97}, ReasonString: "reason", User: user}
	unsuback := &wire.Unsuback{PacketID: 5, Codes: []wire.Code{0, 0x11}, ReasonString: "reason", User: user}
	disconnect := &wire.Disconnect{Code: wire.ServerMoved, ReasonString: "reason", ServerReference: "server", User: user}
	auth := &wire.Auth{Code: wire.ContinueAuthentication, Method: "m", Data: []byte{1}, ReasonString: "reason", User: user}

	var stream []byte
	stream = wire.AppendConnack(stream, wire.V5, connack)
	stream = wire.AppendPublish(stream, wire.V5, publish)
	stream = wire.AppendAck(stream, wire.V5, *ack)
	stream = wire.AppendSuback(stream, wire.V5, suback)
	stream = wire.AppendUnsuback(stream, wire.V5, unsuback)
	stream = wire.AppendPingresp(stream)
	stream = wire.AppendAuth(stream, wire.V5, auth)
	stream = wire.AppendDisconnect(stream, wire.V5, disconnect)
	stream = wire.AppendDisconnect(stream, wire.V5, &wire.Disconnect{Code: wire.KeepAliveTimeout})

	r := bufio.NewReader(bytes.NewReader(stream))
	for _, want := range []wire.Packet{
		connack, publish, ack, suback, unsuback, &wiretest.Pingresp{}, auth, disconnect, &wire.Disconnect{Code: wire.KeepAliveTimeout},
	} {
		got, err := wiretest.Read(r, wire.V5)
		if err != nil {
			t.Fatalf("%s: %v", want.Type(), err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", want.Type(), got, want)
		}
	}
	if r.Buffered() != 0 {
		t.Errorf("%d bytes left", r.Buffered())
	}
}

func TestSizePublish(t *testing.T) {
	t.Parallel()
	for _, payload := range []int{0, 1, 100, 120, 127, 128, 16370, 16384, 2097150} {
		for _, v := range []wire.Version{wire.V311, wire.V5} {
			for _, p := range []wire.Publish{
				{Topic: []byte("topic")},
				{Topic: []byte("topic"), QoS: 1, PacketID: 1, Properties: everything(), SubscriptionIDs: []uint32{127, 128, 16384, 2097152}},
				{TopicAlias: 1, Properties: &wire.PublishProperties{User: make([]wire.UserProperty, 30)}},
			} {
				p.Payload = make([]byte, payload)
				if got, want := wire.SizePublish(v, &p), len(wire.AppendPublish(nil, v, &p)); got != want {
					t.Errorf("MQTT %s, %d bytes of payload: size %d, encoded %d", v, payload, got, want)
				}
			}
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1024)
	plain := &wire.Publish{Topic: []byte("a/b"), Payload: make([]byte, 64), QoS: 1, PacketID: 1}
	rich := &wire.Publish{Topic: []byte("a/b"), SubscriptionIDs: []uint32{1}, Properties: everything()}
	for name, appendTo := range map[string]func(){
		"PUBLISH":                 func() { wire.AppendPublish(dst, wire.V5, plain) },
		"PUBLISH with properties": func() { wire.AppendPublish(dst, wire.V5, rich) },
		"SizePublish":             func() { wire.SizePublish(wire.V5, rich) },
		"PUBACK":                  func() { wire.AppendAck(dst, wire.V5, wire.Ack{Kind: wire.TypePuback, PacketID: 1}) },
		"PUBREC with a code": func() {
			wire.AppendAck(dst, wire.V5, wire.Ack{Kind: wire.TypePubrec, PacketID: 1, Code: wire.NoMatchingSubscribers})
		},
		"PINGRESP": func() { wire.AppendPingresp(dst) },
	} {
		if allocs := testing.AllocsPerRun(100, appendTo); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// The last words to a peer: in MQTT 5 alone, CONNACK before and DISCONNECT after the connection was accepted.
func TestAppendRefusal(t *testing.T) {
	t.Parallel()
	bad := &wire.Error{Code: wire.MalformedPacket, Packet: wire.TypePublish, Reason: "reason"}
	for _, tt := range []struct {
		v         wire.Version
		connected bool
		want      string
	}{
		{wire.V5, false, `20 [ 00 81 [] ]`},
		{wire.V5, true, `e0 [ 81 ]`},
		{wire.V311, false, ``},
		{wire.V311, true, ``},
		{wire.V31, false, ``},
		{0, false, ``},
	} {
		if got := wire.AppendRefusal(nil, tt.v, tt.connected, bad); !bytes.Equal(got, wiretest.MustBytes(tt.want)) {
			t.Errorf("MQTT %s, connected %t: % x, want %s", tt.v, tt.connected, got, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	err := error(&wire.Error{Code: wire.TopicAliasInvalid, Packet: wire.TypePublish, Reason: "reason"})
	if got, want := err.Error(), "PUBLISH: reason (0x94 Topic Alias invalid)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var bad *wire.Error
	if !errors.As(fmt.Errorf("read: %w", err), &bad) || bad.Code != wire.TopicAliasInvalid {
		t.Errorf("errors.As finds %v", bad)
	}
	names := map[string]wire.Code{}
	for code := wire.Code(0x80); code <= wire.WildcardSubscriptionsNotSupported; code++ {
		name := code.String()
		if other, twice := names[name]; twice || strings.HasPrefix(name, "reason code") || !code.Failed() {
			t.Errorf("0x%02X is called %q, as is 0x%02X", byte(code), name, byte(other))
		}
		names[name] = code
	}
	for v, want := range map[wire.Version]string{wire.V31: "3.1", wire.V311: "3.1.1", wire.V5: "5", 9: "protocol level 9"} {
		if got := v.String(); got != want {
			t.Errorf("version is called %q, want %q", got, want)
		}
	}
	for ty := wire.TypeConnect; ty <= wire.TypeAuth; ty++ {
		if strings.HasPrefix(ty.String(), "packet type") {
			t.Errorf("type %d has no name", ty)
		}
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	dst := make([]byte, 0, 1024)
	p := &wire.Publish{Topic: []byte("iot-2/type/T/id/D/evt/status/fmt/json"), Payload: make([]byte, 64), QoS: 1, PacketID: 1}
	b.ReportAllocs()
	for b.Loop() {
		wire.AppendPublish(dst, wire.V5, p)
	}
}
