package load

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cordon-mq/cordon/broker/wire"
)

// What the generator writes is what Cordon's own decoder reads.
func TestPacketsAreRead(t *testing.T) {
	t.Parallel()
	out, err := appendConnect(nil, Identity{ClientID: "c", Username: "u", Password: "p"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if out, err = appendSubscribe(out, 7, 1, "a/+", "b"); err != nil {
		t.Fatal(err)
	}
	if out, err = appendUnsubscribe(out, 8, "b"); err != nil {
		t.Fatal(err)
	}
	out = appendAck(out, firstPubrel, 9)
	template, err := newTemplate("a/b", 1, 200)
	if err != nil {
		t.Fatal(err)
	}
	sent := stamp{run: 1, publisher: 2, number: 70_000, due: 4}
	out = template.append(out, sent)
	out = append(out, firstDisconnect, 0)

	in := wire.NewReader(bytes.NewReader(out), 1<<20)
	next := func() wire.Packet {
		t.Helper()
		p, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if c := next().(*wire.Connect); c.Version != wire.V311 || c.ClientID != "c" || c.Username != "u" || string(c.Password) != "p" || c.CleanStart {
		t.Errorf("CONNECT of %q, clean %t", c.ClientID, c.CleanStart)
	}
	if s := next().(*wire.Subscribe); s.PacketID != 7 || len(s.Filters) != 2 || s.Filters[0] != (wire.Subscription{Filter: "a/+", QoS: 1}) {
		t.Errorf("%+v", s)
	}
	if u := next().(*wire.Unsubscribe); u.PacketID != 8 || !slices.Equal(u.Filters, []string{"b"}) {
		t.Errorf("%+v", u)
	}
	if a := next().(*wire.Ack); a.Kind != wire.TypePubrel || a.PacketID != 9 {
		t.Errorf("%+v", a)
	}
	p := next().(*wire.Publish)
	if string(p.Topic) != "a/b" || p.QoS != 1 || p.PacketID != uint16(70_000%65_535+1) || len(p.Payload) != 200 {
		t.Errorf("PUBLISH to %s, id %d, %d bytes", p.Topic, p.PacketID, len(p.Payload))
	}
	again := wire.AppendPublish(nil, wire.V311, p)
	first, body, ok, err := scannerOf(again).next()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if m, err := parseMessage(first, body); err != nil || m.stamp != sent || m.packetID != p.PacketID || m.qos != 1 {
		t.Errorf("%+v, %v; want %+v", m, err, sent)
	}
	next() // DISCONNECT
}

func TestPacketsOfLongTexts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<16)
	_, err1 := appendConnect(nil, Identity{ClientID: long}, true)
	_, err2 := appendSubscribe(nil, 1, 0, long)
	_, err3 := appendUnsubscribe(nil, 1, long)
	_, err4 := newTemplate(long, 0, 64)
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, errTooLong) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// scannerOf has everything in its buffer.
func scannerOf(data []byte) *scanner { return &scanner{buf: slices.Clone(data), end: len(data)} }

// However the bytes come, the same packets do.
func TestScannerCuts(t *testing.T) {
	t.Parallel()
	var stream []byte
	var want []int
	for _, size := range []int{0, 1, 127, 128, 5000, 70_000, 3} {
		stream = appendPacket(stream, 0x30, bytes.Repeat([]byte{byte(size)}, size))
		want = append(want, size)
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole":  func(r io.Reader) io.Reader { return r },
		"halves": iotest.HalfReader,
		"bytes":  iotest.OneByteReader,
		"error with the last bytes": func(r io.Reader) io.Reader {
			return iotest.DataErrReader(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScanner(wrap(bytes.NewReader(stream)))
			var got []int
			for {
				first, body, err := s.wait()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					break
				}
				if first != 0x30 || len(body) > 0 && body[0] != byte(len(body)) {
					t.Errorf("packet %#x of %d bytes", first, len(body))
				}
				got = append(got, len(body))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestScannerRefuses(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"a length of five bytes":   {0x30, 0x80, 0x80, 0x80, 0x80, 0x01},
		"a packet of 256 MiB":      {0x30, 0xff, 0xff, 0xff, 0x7f},
		"one byte over the bounds": appendPacket(nil, 0x30, make([]byte, maxPacket))[:8],
	} {
		if _, _, _, err := scannerOf(stream).next(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMessageRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first byte
		body  []byte
	}{
		"nothing":          {0x30, nil},
		"half a length":    {0x30, []byte{0}},
		"a topic too long": {0x30, append([]byte{0xff, 0xff}, make([]byte, 100)...)},
		"QoS 3":            {0x36, make([]byte, 100)},
		"no stamp":         {0x30, make([]byte, 2+stampSize-1)},
		"no identifier":    {0x32, []byte{0, 0, 1}},
		"an identifier and no stamp": {
			0x32, make([]byte, 2+2+stampSize-1),
		},
	} {
		if _, err := parseMessage(test.first, test.body); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a broker sends, the scanner stays within its bounds and ends.
func FuzzScanner(f *testing.F) {
	f.Add(appendPacket(nil, 0x32, make([]byte, 40)))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := newScanner(iotest.HalfReader(bytes.NewReader(stream)))
		left := len(stream)
		for {
			first, body, err := s.wait()
			if err != nil {
				return
			}
			if left -= 2 + len(body); left < 0 {
				t.Fatal("more came out than went in")
			}
			if len(s.buf) > maxPacket {
				t.Fatalf("a buffer of %d bytes", len(s.buf))
			}
			if m, err := parseMessage(first, body); err == nil && m.qos == 3 {
				t.Fatal("QoS 3 was accepted")
			}
		}
	})
}

func TestNumberInATopic(t *testing.T) {
	t.Parallel()
	for _, qos := range []byte{0, 1} {
		p, err := newTemplate("a/"+Number+"/b", qos, 64)
		if err != nil {
			t.Fatal(err)
		}
		for number, want := range map[uint64]string{0: "a/000000000000/b", 7: "a/000000000007/b", 123456789012: "a/123456789012/b"} {
			packet := p.append([]byte("before"), stamp{number: number})[len("before"):]
			if !bytes.Contains(packet, []byte(want)) {
				t.Errorf("QoS %d, message %d: % x", qos, number, packet)
			}
			body := packet[2:] // its length takes one byte
			if m, err := parseMessage(packet[0], body); err != nil || m.number != number {
				t.Errorf("QoS %d, message %d: %+v, %v", qos, number, m, err)
			}
		}
	}
}
