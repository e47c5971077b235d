package wiretest_test

import (
	"bytes"
	"fmt"
	"net"
	"reflect"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

func ExampleBytes() {
	subscribe, err := wiretest.Bytes(`82 [ 0001 [] s"a/b" 00*2 ]`)
	fmt.Printf("% x %v\n", subscribe, err)
	// Output: 82 0a 00 01 00 00 03 61 2f 62 00 00 <nil>
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for notation, want := range map[string]string{
		``:                    "",
		`30`:                  "\x30",
		`30 0aFF`:             "\x30\x0a\xff",
		`"a b"`:               "a b",
		`s"a]b"`:              "\x00\x03a]b",
		`"\x00\u00fc"`:        "\x00ü",
		`[]`:                  "\x00",
		`[01]`:                "\x01\x01",
		`[ 01 [ 02 03 ] ] 04`: "\x04\x01\x02\x02\x03\x04",
		`00*3 "a"`:            "\x00\x00\x00a",
		`[ 00*200 ]`:          "\xc8\x01" + string(make([]byte, 200)),
		`[ 00*16384 ]`:        "\x80\x80\x01" + string(make([]byte, 16384)),
	} {
		if got, err := wiretest.Bytes(notation); err != nil || string(got) != want {
			t.Errorf("%s: % x, %v", notation, got, err)
		}
	}
	for _, notation := range []string{`0`, `xy`, `]`, `[`, `[ ]]`, `"open`, `s`, `00*x`, `00**2`, `*`} {
		if got, err := wiretest.Bytes(notation); err == nil {
			t.Errorf("%s: % x, want an error", notation, got)
		}
	}
}

// What a test sends is read by package wire as the test meant it.
func TestEncodersAreRead(t *testing.T) {
	t.Parallel()
	user := []wire.UserProperty{{Key: "k", Value: "v"}}
	message := wire.PublishProperties{
		HasPayloadFormat: true, PayloadFormat: 1, HasMessageExpiry: true, MessageExpiry: 60,
		HasContentType: true, ContentType: "json", ResponseTopic: "reply", CorrelationData: []byte("cd"), User: user,
	}
	connect := &wire.Connect{
		Version: wire.V5, ClientID: "c", CleanStart: true, KeepAlive: 30,
		HasUsername: true, Username: "u", HasPassword: true, Password: []byte("p"),
		Will:             &wire.Will{Topic: "w", Payload: []byte("bye"), QoS: 2, Retain: true, DelayInterval: 5, Properties: message},
		HasSessionExpiry: true, SessionExpiry: 9, ReceiveMaximum: 3, MaximumPacketSize: 4096, TopicAliasMaximum: 8,
		RequestResponseInfo: true, RequestProblemInfo: true, HasAuthMethod: true, AuthMethod: "m", AuthData: []byte{1}, User: user,
	}
	publish := &wire.Publish{
		Topic: []byte("a"), Payload: []byte("x"), QoS: 1, PacketID: 7, Retain: true, Dup: true, TopicAlias: 2, Properties: &message,
	}
	ack := &wire.Ack{Kind: wire.TypePubrel, PacketID: 7, Code: wire.PacketIdentifierNotFound, ReasonString: "r", User: user}
	subscribe := &wire.Subscribe{
		PacketID: 1, SubscriptionID: 5, User: user,
		Filters: []wire.Subscription{{Filter: "a/+", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, {Filter: "#"}},
	}
	unsubscribe := &wire.Unsubscribe{PacketID: 2, Filters: []string{"a/+", "#"}, User: user}
	auth := &wire.Auth{Code: wire.ReAuthenticate, Method: "m", Data: []byte{2}, ReasonString: "r", User: user}
	disconnect := &wire.Disconnect{Code: wire.DisconnectWithWill, HasSessionExpiry: true, SessionExpiry: 1, ReasonString: "r", User: user}

	stream := bytes.Join([][]byte{
		wiretest.Connect(connect),
		wiretest.Publish(wire.V5, publish),
		wiretest.Ack(wire.V5, *ack),
		wiretest.Subscribe(wire.V5, subscribe),
		wiretest.Unsubscribe(wire.V5, unsubscribe),
		wiretest.Pingreq(),
		wiretest.Auth(auth),
		wiretest.Disconnect(wire.V5, disconnect),
	}, nil)
	r := wire.NewReader(bytes.NewReader(stream), 1<<16)
	for _, want := range []wire.Packet{connect, publish, ack, subscribe, unsubscribe, &wire.Pingreq{}, auth, disconnect} {
		got, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", want.Type(), err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", want.Type(), got, want)
		}
	}
}

func TestHello(t *testing.T) {
	t.Parallel()
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		r := wire.NewReader(bytes.NewReader(wiretest.Hello(v, "id")), 1<<16)
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		want := &wire.Connect{Version: v, ClientID: "id", CleanStart: true, KeepAlive: 60, ReceiveMaximum: 65535, RequestProblemInfo: true}
		if !reflect.DeepEqual(p, want) {
			t.Errorf("MQTT %s: %+v", v, p)
		}
	}
}

// A whole conversation, with a server that is only as much of one as the test needs.
func TestClient(t *testing.T) {
	t.Parallel()
	end, serverEnd := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(serverEnd) }()

	c := wiretest.NewClient(t, end, wire.V5)
	c.Send(wiretest.Hello(wire.V5, "c"))
	if ack := c.Expect(wire.TypeConnack).(*wire.Connack); ack.Code != wire.Success || ack.ReceiveMaximum != 20 {
		t.Errorf("CONNACK %+v", ack)
	}
	c.Send(wiretest.Pingreq())
	c.ExpectBytes([]byte{0xD0, 0})
	c.Send(wiretest.MustBytes(`30 [ s"a" ]`)) // no property list
	last := c.ExpectClosed()
	if want := []wire.Packet{&wire.Disconnect{Code: wire.MalformedPacket}}; !reflect.DeepEqual(last, want) {
		t.Errorf("last words %+v", last)
	}
	if err := <-served; err == nil {
		t.Error("the server saw no error")
	}
}

func serve(conn net.Conn) error {
	defer conn.Close()
	r := wire.NewReader(conn, 1<<16)
	for {
		p, err := r.Next()
		var answer []byte
		if bad, ok := err.(*wire.Error); ok { //nolint:errorlint // Next returns it bare
			answer = wire.AppendRefusal(nil, r.Version(), true, bad)
		} else if err != nil {
			return err
		} else if p.Type() == wire.TypeConnect {
			answer = wire.AppendConnack(nil, r.Version(), &wire.Connack{ReceiveMaximum: 20})
		} else {
			answer = wire.AppendPingresp(nil)
		}
		if _, writeErr := conn.Write(answer); writeErr != nil {
			return writeErr
		}
		if err != nil {
			return err
		}
	}
}
