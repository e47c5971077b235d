package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

const fuzzLimit = 1 << 16

// counter counts the bytes a Reader has taken.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// FuzzReader feeds a connection anything. No packet may exceed the limit, no
// decoder may panic, and what was decoded says the same after it was encoded again.
func FuzzReader(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(append(v.opening(f), v.packet(f)...))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		src := &counter{Reader: bytes.NewReader(stream)}
		r := wire.NewReader(src, fuzzLimit)
		consumed := 0
		for {
			p, err := r.Next()
			if size := src.n - r.Buffered() - consumed; size > fuzzLimit {
				t.Fatalf("%d bytes consumed for one packet", size)
			}
			consumed = src.n - r.Buffered()
			if err != nil {
				checkFuzzError(t, err)
				return
			}
			checkDecodedAgain(t, r.Version(), p)
		}
	})
}

func checkFuzzError(t *testing.T, err error) {
	t.Helper()
	var bad *wire.Error
	switch {
	case errors.As(err, &bad):
		if !bad.Code.Failed() || bad.Reason == "" || bad.Reason == "decoder failed" {
			t.Fatalf("error %v", err)
		}
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		t.Fatalf("error %v", err)
	}
}

// checkDecodedAgain encodes p where an encoder keeps all of it, and compares what is read then.
func checkDecodedAgain(t *testing.T, v wire.Version, p wire.Packet) {
	t.Helper()
	var again []byte
	switch p := p.(type) {
	case *wire.Publish:
		again = wire.AppendPublish(nil, v, p)
		if size := wire.SizePublish(v, p); size != len(again) {
			t.Fatalf("SizePublish is %d, encoded are %d bytes", size, len(again))
		}
	case *wire.Ack:
		a := *p
		if len(a.ReasonString) > 1024 { // AppendAck cuts it
			return
		}
		again = wire.AppendAck(nil, v, a)
	case *wire.Subscribe:
		again = wiretest.Subscribe(v, p)
	case *wire.Unsubscribe:
		again = wiretest.Unsubscribe(v, p)
	default:
		return
	}
	want := describe(p)
	got, err := connected(t, v, bytes.NewReader(again), 2*fuzzLimit).Next()
	if err != nil {
		t.Fatalf("%s\nencoded % x\nis refused: %v", want, again, err)
	}
	if got := describe(got); got != want {
		t.Fatalf("%s\nencoded % x\nbecame %s", want, again, got)
	}
}

// FuzzPublishRoundTrip encodes any message, by both implementations, and reads it back.
func FuzzPublishRoundTrip(f *testing.F) {
	f.Add("a/b", []byte("payload"), byte(0), uint16(0), uint16(0), uint32(0), "", "", []byte(nil), "", "")
	f.Add("grüße", []byte{0, 255}, byte(0x0D), uint16(1), uint16(0), uint32(60), "json", "reply", []byte{1}, "k", "v")
	f.Add("", []byte("x"), byte(0x23), uint16(65535), uint16(9), uint32(1), "", "r/t", []byte{}, "", "v")
	f.Fuzz(func(t *testing.T, topic string, payload []byte, flags byte, id, alias uint16, expiry uint32,
		contentType, response string, correlation []byte, key, value string,
	) {
		p := &wire.Publish{
			Topic: []byte(topic), Payload: payload, QoS: flags & 3, Retain: flags&4 != 0, TopicAlias: alias,
			Properties: &wire.PublishProperties{
				HasPayloadFormat: flags&0x10 != 0, PayloadFormat: flags >> 5 & 1,
				HasMessageExpiry: expiry != 0, MessageExpiry: expiry,
				HasContentType: contentType != "", ContentType: contentType,
				ResponseTopic: response,
				User:          []wire.UserProperty{{Key: key, Value: value}},
			},
		}
		if len(correlation) > 0 {
			p.Properties.CorrelationData = correlation
		}
		if p.QoS > 0 {
			p.PacketID, p.Dup = id, flags&8 != 0
		}
		valid := p.QoS < 3 && (p.QoS == 0 || id != 0) && (topic != "" || alias != 0) &&
			plain(topic, true) && plain(response, true) && plain(contentType, false) && plain(key, false) && plain(value, false)
		encoded := wire.AppendPublish(nil, wire.V5, p)
		if len(encoded) != wire.SizePublish(wire.V5, p) {
			t.Fatalf("SizePublish is %d, encoded are %d bytes", wire.SizePublish(wire.V5, p), len(encoded))
		}
		got, err := connected(t, wire.V5, bytes.NewReader(encoded), 1<<28).Next()
		if (err == nil) != valid {
			t.Fatalf("valid %t, but read with %v: % x", valid, err, encoded)
		}
		if !valid {
			return
		}
		if !p.Properties.HasPayloadFormat {
			p.Properties.PayloadFormat = 0
		}
		if got, want := describe(got), describe(p); got != want {
			t.Fatalf("became %s, was %s", got, want)
		}
		other, err := connected(t, wire.V5, bytes.NewReader(wiretest.Publish(wire.V5, p)), 1<<28).Next()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describe(other), describe(p); got != want {
			t.Fatalf("encoded by mochi became %s, was %s", got, want)
		}
	})
}

// plain is an oracle for acceptable strings, written from the specification's list.
func plain(s string, topic bool) bool {
	if !utf8.ValidString(s) || len(s) > 65535 {
		return false
	}
	for _, r := range s {
		control := r <= 0x1F || r >= 0x7F && r <= 0x9F
		nonCharacter := r >= 0xFDD0 && r <= 0xFDEF || r%0x10000 == 0xFFFE || r%0x10000 == 0xFFFF
		if control || nonCharacter || topic && (r == '+' || r == '#') {
			return false
		}
	}
	return true
}
