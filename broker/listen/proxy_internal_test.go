package listen

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
)

// sent is a connection on which the peer has sent some bytes and closed.
type sent struct {
	net.Conn
	*bytes.Reader
}

func (s sent) Read(p []byte) (int, error) { return s.Reader.Read(p) }
func (s sent) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.7:9999"))
}

// Whatever a proxy sends, it is refused, or exactly a header is taken from it
// and the peer is an address.
func FuzzProxyHeader(f *testing.F) {
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	for _, header := range []string{
		"PROXY TCP4 203.0.113.9 192.0.2.1 4711 8883\r\n", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n", "PROXY",
		signature + "\x21\x11\x00\x0c\xcb\x00\x71\x09\xc0\x00\x02\x01\x12\x67\x22\xb3", signature + "\x20\x00\x00\x00", signature + "\x21\x11\xff\xff", "",
	} {
		f.Add([]byte(header + "\x10\x1a\x00\x04MQTT"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		after, peer, err := readProxyHeader(sent{Reader: bytes.NewReader(data)})
		if err != nil {
			if after != nil || peer.IsValid() {
				t.Errorf("%v, %v beside an error", after, peer)
			}
			return
		}
		rest, err := io.ReadAll(after)
		if err != nil || !bytes.HasSuffix(data, rest) || len(data)-len(rest) < len("PROXY \r\n") {
			t.Errorf("%q is left of %q, %v", rest, data, err)
		}
		if !peer.Addr().IsValid() || peer.Addr().Is4In6() || after.RemoteAddr() == nil {
			t.Errorf("the peer is %v", peer)
		}
	})
}
