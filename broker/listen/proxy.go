package listen

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"
)

// proxyBuffer holds a version 1 header, which is at most 107 bytes, or the fixed
// part of version 2 and its addresses. It is also as much of what follows the
// header as is read ahead.
const proxyBuffer = 256

// errProxyTransport refuses a header about something other than TCP.
var errProxyTransport = errors.New("PROXY header names no TCP connection")

// fromProxy reports whether addr is one of the proxies whose word counts.
func fromProxy(proxies []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// readProxyHeader reads the header that raw has to start with, and returns what
// comes after it and the peer that it names: the real one if the proxy speaks
// for itself or knows nobody. The deadline of raw bounds it. The library takes
// no header above 4 KiB and checks that before it allocates.
func readProxyHeader(raw net.Conn) (*socket, netip.AddrPort, error) {
	reader := bufio.NewReaderSize(raw, proxyBuffer)
	header, err := proxyproto.Read(reader)
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
	}
	ahead, err := reader.Peek(reader.Buffered())
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
	}
	after := &socket{Conn: raw, remote: raw.RemoteAddr(), ahead: slices.Clone(ahead)}
	if header.Command.IsLocal() {
		return after, remoteAddr(raw), nil
	}
	source, _, ok := header.TCPAddrs()
	if !ok {
		return nil, netip.AddrPort{}, errProxyTransport
	}
	after.remote = source
	return after, remoteAddr(after), nil
}
