package wire_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// source hands out the given chunks, one a Read, then its error, and counts both.
type source struct {
	chunks [][]byte
	err    error
	reads  int
}

func (s *source) Read(p []byte) (int, error) {
	s.reads++
	if len(s.chunks) == 0 {
		return 0, s.err
	}
	n := copy(p, s.chunks[0])
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

// repeat is a source that never ends: a CONNECT, then one packet over and over.
type repeat struct {
	first, again []byte
	off          int
}

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	n := copy(p, r.again[r.off:])
	r.off = (r.off + n) % len(r.again)
	return n, nil
}

func connected(t testing.TB, v wire.Version, rest io.Reader, limit int) *wire.Reader {
	t.Helper()
	r := wire.NewReader(io.MultiReader(bytes.NewReader(wiretest.Hello(v, "c")), rest), limit)
	if p, err := r.Next(); err != nil || p.Type() != wire.TypeConnect {
		t.Fatalf("CONNECT: %v, %v", p, err)
	}
	return r
}

func TestPacketsInOneRead(t *testing.T) {
	t.Parallel()
	stream := bytes.Join([][]byte{
		wiretest.Hello(wire.V5, "c"),
		wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("a"), Payload: []byte("1")}),
		wiretest.Pingreq(),
		wiretest.MustBytes("e0 00"),
	}, nil)
	src := &source{chunks: [][]byte{stream}, err: io.EOF}
	r := wire.NewReader(src, 1000)
	var got []string
	for range 4 {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Type().String())
		if (r.Buffered() == 0) != (len(got) == 4) {
			t.Errorf("after %v: %d bytes buffered", got, r.Buffered())
		}
	}
	if want := "CONNECT PUBLISH PINGREQ DISCONNECT"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if src.reads != 1 {
		t.Errorf("%d reads for one chunk", src.reads)
	}
	if _, err := r.Next(); err != io.EOF { //nolint:errorlint // promised bare
		t.Errorf("after the last packet: %v, want io.EOF", err)
	}
}

func TestSourceErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	publish := wiretest.Publish(wire.V311, &wire.Publish{Topic: []byte("a"), Payload: []byte("payload")})
	tests := []struct {
		name string
		sent []byte
		err  error
		want error
	}{
		{"end between packets", nil, io.EOF, io.EOF},
		{"end within a header", publish[:1], io.EOF, io.ErrUnexpectedEOF},
		{"end within a body", publish[:5], io.EOF, io.ErrUnexpectedEOF},
		{"failure between packets", nil, broken, broken},
		{"failure within a body", publish[:5], broken, broken},
		{"a source that gives nothing", publish[:5], nil, io.ErrNoProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := &source{err: tt.err}
			if tt.sent != nil {
				src.chunks = [][]byte{tt.sent}
			}
			if _, err := connected(t, wire.V311, src, 1000).Next(); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// A source that fails for a moment, as a deadline makes a connection do, loses nothing.
func TestResumeAfterSourceError(t *testing.T) {
	t.Parallel()
	publish := wiretest.Publish(wire.V311, &wire.Publish{Topic: []byte("a"), Payload: []byte("payload")})
	src := &source{chunks: [][]byte{publish[:6]}, err: errors.New("timeout")}
	r := connected(t, wire.V311, src, 1000)
	if _, err := r.Next(); err == nil || err.Error() != "timeout" {
		t.Fatalf("got %v, want the timeout", err)
	}
	src.chunks = [][]byte{publish[6:]}
	p, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(p); got != `PUBLISH "a" "payload" q0` {
		t.Errorf("got %s", got)
	}
}

func TestErrorsStay(t *testing.T) {
	t.Parallel()
	stream := append(wiretest.MustBytes("36 00"), wiretest.Pingreq()...)
	r := connected(t, wire.V5, bytes.NewReader(stream), 1000)
	_, first := r.Next()
	_, second := r.Next()
	var bad *wire.Error
	if !errors.As(first, &bad) || bad.Code != wire.MalformedPacket || bad.Packet != wire.TypePublish {
		t.Errorf("got %v", first)
	}
	if !errors.Is(second, first) {
		t.Errorf("then %v, after %v", second, first)
	}
}

func TestMaxPacket(t *testing.T) {
	t.Parallel()
	publish := wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("a"), Payload: make([]byte, 300)})
	r := connected(t, wire.V5, bytes.NewReader(bytes.Repeat(publish, 3)), 1000)
	r.SetMaxPacket(len(publish))
	if _, err := r.Next(); err != nil {
		t.Errorf("packet of exactly the limit: %v", err)
	}
	r.SetMaxPacket(len(publish) - 1)
	var bad *wire.Error
	if _, err := r.Next(); !errors.As(err, &bad) || bad.Code != wire.PacketTooLarge {
		t.Errorf("packet of one byte more than the limit: %v", err)
	}
}

// A claim of much with nothing behind it must cost next to nothing.
func TestLargeClaimCostsNothing(t *testing.T) {
	const claims = 100
	connect := wiretest.Hello(wire.V311, "c")
	claim := wiretest.MustBytes("30 ffffff7f 00*5000") // 256 MiB, of which 5000 bytes come
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range claims {
		r := wire.NewReader(&source{chunks: [][]byte{connect, claim}, err: io.EOF}, 1<<29)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / claims; each > 40<<10 {
		t.Errorf("%d bytes allocated per claim", each)
	}
}

// Packets of every size around the steps of the buffer come out as they went in.
func TestPacketSizes(t *testing.T) {
	t.Parallel()
	var stream bytes.Buffer
	var sizes []int
	for _, around := range []int{0, 128, 4 << 10, 16 << 10, 20 << 10, 64 << 10, 200 << 10} {
		for size := max(0, around-6); size < around+6; size++ {
			sizes = append(sizes, size)
			payload := bytes.Repeat([]byte{byte(size)}, size)
			stream.Write(wiretest.Publish(wire.V311, &wire.Publish{Topic: []byte("t"), Payload: payload}))
		}
	}
	for _, chunk := range []int{1 << 20, 1000, 16 << 10} {
		src := &source{err: io.EOF}
		for rest := stream.Bytes(); len(rest) > 0; {
			n := min(chunk, len(rest))
			src.chunks = append(src.chunks, rest[:n])
			rest = rest[n:]
		}
		r := connected(t, wire.V311, src, 1<<20)
		for _, size := range sizes {
			p, err := r.Next()
			if err != nil {
				t.Fatalf("payload of %d in chunks of %d: %v", size, chunk, err)
			}
			payload := p.(*wire.Publish).Payload
			if len(payload) != size || bytes.Count(payload, []byte{byte(size)}) != size {
				t.Fatalf("payload of %d in chunks of %d: got %d bytes", size, chunk, len(payload))
			}
		}
	}
}

func TestLimitsWithinAPacket(t *testing.T) {
	t.Parallel()
	filters := func(n int) *wire.Subscribe {
		return &wire.Subscribe{PacketID: 1, Filters: make([]wire.Subscription, n)}
	}
	user := func(n int) []wire.UserProperty { return make([]wire.UserProperty, n) }
	subscribe := func(n int) []byte {
		s := filters(n)
		for i := range s.Filters {
			s.Filters[i].Filter = "a"
		}
		return wiretest.Subscribe(wire.V5, s)
	}
	unsubscribe := func(n int) []byte {
		u := &wire.Unsubscribe{PacketID: 1}
		for range n {
			u.Filters = append(u.Filters, "a")
		}
		return wiretest.Unsubscribe(wire.V5, u)
	}
	publish := func(n int) []byte {
		return wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("a"), Properties: &wire.PublishProperties{User: user(n)}})
	}
	tests := []struct {
		name    string
		encode  func(n int) []byte
		largest int
	}{
		{"filters of a SUBSCRIBE", subscribe, wire.MaxFilters},
		{"filters of an UNSUBSCRIBE", unsubscribe, wire.MaxFilters},
		{"user properties of a PUBLISH", publish, wire.MaxUserProperties},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := connected(t, wire.V5, bytes.NewReader(tt.encode(tt.largest)), 1<<20).Next(); err != nil {
				t.Errorf("%d: %v", tt.largest, err)
			}
			var bad *wire.Error
			_, err := connected(t, wire.V5, bytes.NewReader(tt.encode(tt.largest+1)), 1<<20).Next()
			if !errors.As(err, &bad) || bad.Code != wire.QuotaExceeded {
				t.Errorf("%d: %v, want %s", tt.largest+1, err, wire.QuotaExceeded)
			}
		})
	}
}

// What Next returns besides Publish, Ack and Pingreq does not change when the buffer is used again.
func TestOwnership(t *testing.T) {
	t.Parallel()
	connect := wiretest.Connect(&wire.Connect{
		Version: wire.V5, ClientID: "client", HasUsername: true, Username: "user", HasPassword: true, Password: []byte("secret"),
		Will: &wire.Will{Topic: "will", Payload: []byte("gone"), Properties: wire.PublishProperties{CorrelationData: []byte("cd")}},
	})
	publish := wiretest.Publish(wire.V5, &wire.Publish{
		Topic: []byte("topic"), Payload: []byte("payload"),
		Properties: &wire.PublishProperties{CorrelationData: []byte("data"), HasContentType: true, ContentType: "type"},
	})
	subscribe := wiretest.Subscribe(wire.V5, &wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "filter"}}})
	noise := wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("noise"), Payload: bytes.Repeat([]byte("#"), 4000)})

	src := &source{chunks: [][]byte{connect, publish, subscribe}, err: io.EOF}
	r := wire.NewReader(src, 1<<20)
	var kept []wire.Packet
	var properties *wire.PublishProperties
	var want []string
	for range 3 {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if publish, ok := p.(*wire.Publish); ok {
			properties = publish.Properties
			continue
		}
		kept, want = append(kept, p), append(want, describe(p))
	}
	src.chunks = [][]byte{noise, noise, noise}
	for range 3 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range kept {
		if got := describe(p); got != want[i] {
			t.Errorf("became %s, was %s", got, want[i])
		}
	}
	if string(properties.CorrelationData) != "data" || properties.ContentType != "type" {
		t.Errorf("properties became %+v", properties)
	}
}

func TestHotPacketsDoNotAllocate(t *testing.T) {
	packets := map[string][]byte{
		"PUBLISH QoS 0, 3.1.1": wiretest.Publish(wire.V311, &wire.Publish{Topic: []byte("iot-2/evt/status/fmt/json"), Payload: make([]byte, 64)}),
		"PUBLISH QoS 1, 5":     wiretest.Publish(wire.V5, &wire.Publish{Topic: []byte("grüße/ünï"), Payload: make([]byte, 64), QoS: 1, PacketID: 7}),
		"PUBLISH by alias, 5":  wiretest.Publish(wire.V5, &wire.Publish{TopicAlias: 3, Payload: make([]byte, 64)}),
		"PUBACK, 5":            wiretest.Ack(wire.V5, wire.Ack{Kind: wire.TypePuback, PacketID: 7, Code: wire.NotAuthorized}),
		"PINGREQ, 3.1.1":       wiretest.Pingreq(),
	}
	for name, packet := range packets {
		v := wire.V311
		if strings.HasSuffix(name, " 5") {
			v = wire.V5
		}
		r := connected(t, v, &repeat{again: packet}, 1<<20)
		for range 1000 { // until the buffer has its size
			if _, err := r.Next(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		allocs := testing.AllocsPerRun(2000, func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations per packet", name, allocs)
		}
	}
}

func BenchmarkNextPublish(b *testing.B) {
	packet := wiretest.Publish(wire.V311, &wire.Publish{Topic: []byte("iot-2/type/T/id/D/evt/status/fmt/json"), Payload: make([]byte, 64)})
	r := connected(b, wire.V311, &repeat{again: bytes.Repeat(packet, 100)}, 1<<20)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
