package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
)

// Conn is one accepted connection, TLS done. Its handler owns it: the read and
// write deadline set at accept is still running, and the owner replaces it.
type Conn struct {
	net.Conn                      // TLS, plain or WebSocket
	Listener string               // name of the listener: "mqtts", "mqtt", "wss"
	Remote   netip.AddrPort       // the peer, behind a proxy the one it names; IPv4 never in its IPv6 form; zero if it has none
	TLS      *tls.ConnectionState // nil on a plain connection; not to be changed

	raw   net.Conn // the socket below TLS; nil in a Conn made elsewhere
	place *place   // among the pending connections; nil in a Conn made elsewhere
}

// Authenticated says that the peer is who he claims to be: the connection counts
// no longer among the pending ones that [Admission] keeps few. Later calls do
// nothing.
func (c *Conn) Authenticated() {
	if c.place != nil {
		c.place.leave()
	}
}

// Abort closes the socket at once: it waits for no writer and sends no TLS
// alert. Reads and writes in progress return with an error. What the kernel has
// already taken is still sent. Abort may be called at any time, from any
// goroutine, more than once.
func (c *Conn) Abort() {
	if c.raw == nil {
		_ = c.Close()
		return
	}
	_ = c.raw.Close() // the peer is gone either way
}

// remoteAddr returns the address of the peer, or the zero AddrPort if it is not
// an IP address and port.
func remoteAddr(c net.Conn) netip.AddrPort {
	var remote netip.AddrPort
	switch addr := c.RemoteAddr().(type) {
	case nil:
		return netip.AddrPort{}
	case *net.TCPAddr:
		remote = addr.AddrPort()
	default:
		remote, _ = netip.ParseAddrPort(addr.String()) // zero on error
	}
	// A socket for both families reports IPv4 peers as ::ffff:a.b.c.d. Address
	// lists are written as a.b.c.d and must match.
	return netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
}

// limit lets at most cap(limit) holders in.
type limit chan struct{}

// enter waits for a place. It fails when ctx is done.
func (l limit) enter(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tryEnter takes a place if there is one.
func (l limit) tryEnter() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l limit) leave() { <-l }

// handshakeConn is the socket as a TLS handshake sees it. The handshake holds a
// place in handshakes while it computes and gives it back while it waits for
// the peer. A place held over the whole handshake would let MaxHandshakes
// silent peers keep everybody else out.
type handshakeConn struct {
	net.Conn
	ctx        context.Context // of the handshake; bounds the wait for a place
	handshakes limit
	holds      bool // of a place; used by the handshake's goroutine alone
	done       bool // set before the connection is handed over
}

func (c *handshakeConn) Read(p []byte) (int, error) {
	if c.done {
		return c.Conn.Read(p)
	}
	return c.waitFor(c.Conn.Read, p)
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	if c.done {
		return c.Conn.Write(p)
	}
	return c.waitFor(c.Conn.Write, p)
}

// waitFor does one transfer without a place and takes a place again.
func (c *handshakeConn) waitFor(transfer func([]byte) (int, error), p []byte) (int, error) {
	c.leave()
	n, err := transfer(p)
	if err != nil {
		return n, err
	}
	return n, c.enter()
}

func (c *handshakeConn) enter() error {
	if err := c.handshakes.enter(c.ctx); err != nil {
		return err
	}
	c.holds = true
	return nil
}

func (c *handshakeConn) leave() {
	if c.holds {
		c.holds = false
		c.handshakes.leave()
	}
}

// handshake runs the TLS handshake on raw and gives up when ctx is done.
func handshake(ctx context.Context, raw net.Conn, config *tls.Config, handshakes limit) (*tls.Conn, error) {
	gated := &handshakeConn{Conn: raw, ctx: ctx, handshakes: handshakes}
	defer gated.leave()
	conn := tls.Server(gated, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	gated.done = true
	return conn, nil
}
