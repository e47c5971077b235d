package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// ServeHTTP serves the connections of l with server until the server is shut
// down or l is closed, and returns when every connection has ended: the error of
// the one that ended first, http.ErrServerClosed after a shutdown. l has no
// other Serve. The server's Handler and ConnContext are wrapped.
//
// HTTP authenticates requests, not connections, so a connection is pending until
// its first request is answered or calls [Authenticated], and one upgraded to
// WebSocket until its owner calls Conn.Authenticated.
func ServeHTTP(l *Listener, server *http.Server) error {
	accepted := &httpListener{Listener: l, conns: make(chan net.Conn)}
	l.watchEnd = true
	next, connContext := server.Handler, server.ConnContext
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if conn := connOf(r.Context()); conn != nil {
			conn.Authenticated()
		}
	})
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return context.WithValue(ctx, connKey{}, socketOf(c).conn)
	}
	ended := make(chan error, 1)
	go func() {
		err := l.Serve(accepted.hand)
		_ = l.Close()
		ended <- err
	}()
	err := server.Serve(accepted)
	_ = l.Close()
	if listenErr := <-ended; listenErr != nil {
		return listenErr
	}
	return err
}

// httpListener gives the connections that l has set up to an http.Server.
type httpListener struct {
	*Listener
	conns chan net.Conn
}

// hand waits until the server took the connection and ended it.
func (h *httpListener) hand(c *Conn) {
	below := socketOf(c.Conn)
	below.conn = c
	select {
	case h.conns <- c.Conn:
		<-below.ended
	case <-h.open.Done():
	}
}

// Accept returns the connection that was ready first, and net.ErrClosed after
// Close.
func (h *httpListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.open.Done():
		return nil, net.ErrClosed
	}
}

// socketOf finds the socket of a connection that a Listener with watchEnd made.
func socketOf(c net.Conn) *socket {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn().(*handshakeConn).Conn
	}
	return c.(*socket)
}

// Authenticated says that the request whose context ctx is has shown who sends it.
// Without it the connection is pending until the request is answered, which may
// take long for one that waits for something.
func Authenticated(ctx context.Context) {
	if conn := connOf(ctx); conn != nil {
		conn.Authenticated()
	}
}

// connKey finds in a request's context the *Conn it came over.
type connKey struct{}

// connOf is nil for a request that came through no Listener.
func connOf(ctx context.Context) *Conn {
	conn, _ := ctx.Value(connKey{}).(*Conn)
	return conn
}
