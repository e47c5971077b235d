package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

// decode reads one packet as a Conn does.
func decode(v wire.Version, b []byte) (*Packet, error) {
	var large []byte
	first, body, err := read(bufio.NewReaderSize(bytes.NewReader(b), 64), &large)
	if err != nil {
		return nil, err
	}
	p := &Packet{}
	return p, p.parse(v, first, body)
}

func TestParse(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("x"), 300)
	properties := &wire.PublishProperties{ContentType: "text/plain", User: []wire.UserProperty{{Key: "k", Value: "v"}}}
	for _, test := range []struct {
		name    string
		version wire.Version
		bytes   []byte
		want    Packet
	}{
		{
			"connack", wire.V311, wire.AppendConnack(nil, wire.V311, &wire.Connack{SessionPresent: true}),
			Packet{Type: wire.TypeConnack, Present: true},
		},
		{
			"connack of MQTT 5 that refuses", wire.V5, wire.AppendConnack(nil, wire.V5, &wire.Connack{Code: wire.NotAuthorized, ReasonString: "no"}),
			Packet{Type: wire.TypeConnack, Code: wire.NotAuthorized},
		},
		{
			"publish", wire.V311, wire.AppendPublish(nil, wire.V311, &wire.Publish{Topic: []byte("a/b"), Payload: []byte("p"), QoS: 2, PacketID: 513, Dup: true, Retain: true}),
			Packet{Type: wire.TypePublish, QoS: 2, Dup: true, Retain: true, ID: 513, Topic: []byte("a/b"), Payload: []byte("p")},
		},
		{
			"publish without identifier, larger than the buffer", wire.V311, wire.AppendPublish(nil, wire.V311, &wire.Publish{Topic: []byte("a"), Payload: long}),
			Packet{Type: wire.TypePublish, Topic: []byte("a"), Payload: long},
		},
		{
			"publish with properties", wire.V5, wire.AppendPublish(nil, wire.V5, &wire.Publish{Topic: []byte("a"), Payload: []byte("p"), QoS: 1, PacketID: 7, Properties: properties}),
			Packet{Type: wire.TypePublish, QoS: 1, ID: 7, Topic: []byte("a"), Payload: []byte("p")},
		},
		{
			"puback", wire.V311, wire.AppendAck(nil, wire.V311, wire.Ack{Kind: wire.TypePuback, PacketID: 9}),
			Packet{Type: wire.TypePuback, ID: 9},
		},
		{
			"pubrec that refuses", wire.V5, wire.AppendAck(nil, wire.V5, wire.Ack{Kind: wire.TypePubrec, PacketID: 9, Code: wire.QuotaExceeded, ReasonString: "full"}),
			Packet{Type: wire.TypePubrec, ID: 9, Code: wire.QuotaExceeded},
		},
		{
			"suback", wire.V5, wire.AppendSuback(nil, wire.V5, &wire.Suback{PacketID: 3, Codes: []wire.Code{1, wire.NotAuthorized}}),
			Packet{Type: wire.TypeSuback, ID: 3, Codes: []byte{1, 0x87}},
		},
		{
			"disconnect", wire.V5, wire.AppendDisconnect(nil, wire.V5, &wire.Disconnect{Code: wire.SessionTakenOver}),
			Packet{Type: wire.TypeDisconnect, Code: wire.SessionTakenOver},
		},
	} {
		got, err := decode(test.version, test.bytes)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if !reflect.DeepEqual(got, &test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, &test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"a client's packet":            {0xc0, 0},
		"a length without end":         {0x30, 0xff, 0xff, 0xff, 0xff, 1},
		"more than anybody sends":      {0x30, 0xff, 0xff, 0xff, 0x7f},
		"QoS 3":                        {0x36, 5, 0, 1, 'a', 0, 1},
		"packet identifier zero":       {0x32, 5, 0, 1, 'a', 0, 0},
		"a topic longer than the rest": {0x30, 3, 0, 9, 'a'},
		"an acknowledgement of none":   {0x40, 1, 0},
		"properties without end":       {0x30, 7, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff},
	} {
		if p, err := decode(wire.V5, b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
	if _, err := decode(wire.V311, []byte{0x40, 2, 0}); !errors.Is(err, io.EOF) {
		t.Errorf("half a packet: %v", err)
	}
}

// Nothing that comes makes the decoder panic, and what it returns was there.
func FuzzParse(f *testing.F) {
	f.Add(byte(4), wire.AppendPublish(nil, wire.V311, &wire.Publish{Topic: []byte("a/b"), Payload: []byte("p"), QoS: 1, PacketID: 1}))
	f.Add(byte(5), wire.AppendPublish(nil, wire.V5, &wire.Publish{Topic: []byte("a/b"), Payload: []byte("p")}))
	f.Add(byte(5), wire.AppendConnack(nil, wire.V5, &wire.Connack{SessionPresent: true, ReceiveMaximum: 9}))
	f.Add(byte(5), wire.AppendSuback(nil, wire.V5, &wire.Suback{PacketID: 3, Codes: []wire.Code{1}}))
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		p, err := decode(wire.Version(version), b)
		if err == nil && len(p.Topic)+len(p.Payload)+len(p.Codes) > len(b) {
			t.Errorf("%d bytes became %+v", len(b), p)
		}
		if err == nil && p.Type == wire.TypePublish && (p.QoS > 0) != (p.ID != 0) {
			t.Errorf("QoS %d with packet identifier %d", p.QoS, p.ID)
		}
	})
}
