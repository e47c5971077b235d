package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// vector is one line of testdata: bytes sent on a connection, and what comes of them.
type vector struct {
	where, connection, bytes, want string
}

func readVectors(tb testing.TB) (all []vector) {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			where := fmt.Sprintf("%s:%d", filepath.Base(file), n+1)
			columns := strings.Split(line, " | ")
			if len(columns) != 3 {
				tb.Fatalf("%s: %d columns", where, len(columns))
			}
			for i := range columns {
				columns[i] = strings.TrimSpace(columns[i])
			}
			all = append(all, vector{where, columns[0], columns[1], columns[2]})
		}
	}
	return all
}

// opening returns the CONNECT that precedes the bytes of a vector, if any.
func (v vector) opening(tb testing.TB) []byte {
	tb.Helper()
	switch v.connection {
	case "-":
		return nil
	case "3.1":
		return wiretest.Hello(wire.V31, "c")
	case "3.1.1":
		return wiretest.Hello(wire.V311, "c")
	case "5":
		return wiretest.Hello(wire.V5, "c")
	case "5+auth":
		return wiretest.Connect(&wire.Connect{Version: wire.V5, ClientID: "c", AuthMethod: "m"})
	}
	tb.Fatalf("%s: connection %q", v.where, v.connection)
	return nil
}

func (v vector) packet(tb testing.TB) []byte {
	tb.Helper()
	b, err := wiretest.Bytes(v.bytes)
	if err != nil {
		tb.Fatalf("%s: %v", v.where, err)
	}
	return b
}

const vectorLimit = 1 << 20

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		t.Run(v.where, func(t *testing.T) {
			t.Parallel()
			packet := v.packet(t)
			stream := append(v.opening(t), packet...)
			whole := wire.NewReader(bytes.NewReader(stream), vectorLimit)
			if got := v.outcome(t, whole); got != v.want {
				t.Errorf("%s\n got %s\nwant %s", v.bytes, got, v.want)
			}
			// The same comes of the same bytes, one at a time.
			slow := wire.NewReader(iotest.OneByteReader(bytes.NewReader(stream)), vectorLimit)
			if got := v.outcome(t, slow); got != v.want {
				t.Errorf("%s, byte by byte\n got %s\nwant %s", v.bytes, got, v.want)
			}
		})
	}
}

// outcome reads past the opening and describes what Next returns then.
func (v vector) outcome(t *testing.T, r *wire.Reader) string {
	t.Helper()
	if v.connection != "-" {
		if _, err := r.Next(); err != nil {
			t.Fatalf("opening CONNECT: %v", err)
		}
	}
	p, err := r.Next()
	var bad *wire.Error
	switch {
	case err == nil:
		if r.Buffered() != 0 {
			t.Errorf("%d bytes left over", r.Buffered())
		}
		return describe(p)
	case !errors.As(err, &bad):
		return err.Error()
	case v.connection == "-":
		version := "0"
		if r.Version() != 0 {
			version = r.Version().String()
		}
		return fmt.Sprintf("0x%02X @%s", byte(bad.Code), version)
	}
	return fmt.Sprintf("0x%02X", byte(bad.Code))
}

// Every prefix of an acceptable packet is a packet not yet there, never an error of the peer.
func TestCutVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		if strings.HasPrefix(v.want, "0x") {
			continue
		}
		opening, packet := v.opening(t), v.packet(t)
		for cut := range packet {
			r := wire.NewReader(bytes.NewReader(append(opening[:len(opening):len(opening)], packet[:cut]...)), vectorLimit)
			want := "unexpected EOF"
			if cut == 0 {
				want = "EOF"
			}
			if got := v.outcome(t, r); got != want {
				t.Errorf("%s: first %d bytes of %s: %s", v.where, cut, v.bytes, got)
			}
		}
	}
}

// With its length made to fit, no shortened packet panics, and the errors name the packet.
func TestShortenedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		opening, packet := v.opening(t), v.packet(t)
		if len(packet) < 3 || packet[1] >= 0x80 || int(packet[1]) != len(packet)-2 {
			continue
		}
		for n := 2; n < len(packet); n++ {
			short := bytes.Clone(packet[:n])
			short[1] = byte(n - 2)
			r := wire.NewReader(bytes.NewReader(append(opening[:len(opening):len(opening)], short...)), vectorLimit)
			if opening != nil {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			}
			_, err := r.Next()
			var bad *wire.Error
			if errors.As(err, &bad) && (bad.Packet != wire.Type(short[0]>>4) || bad.Reason == "decoder failed") {
				t.Errorf("%s: % x: %v", v.where, short, err)
			}
		}
	}
}
