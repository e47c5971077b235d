package listen_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

// TestHTTPSOnLoopback has real clients of every kind on one port: HTTP/2,
// HTTP/1.1 and WebSocket.
func TestHTTPSOnLoopback(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := newTLS(t)
	serverTLS.NextProtos = []string{"h2", "http/1.1"}
	l, err := listen.Listen(listen.Config{Name: "https", Address: "127.0.0.1:0", TLS: serverTLS})
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan listen.Conn, 1)
	ws := listen.NewWebSocket(listen.WebSocketConfig{Handle: func(c *listen.Conn) {
		conns <- *c
		echo(c)
	}})
	server := &http.Server{Handler: ws.Before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.ServerName)
	}))}
	done := make(chan error, 1)
	go func() { done <- listen.ServeHTTP(l, server) }()

	for proto, http2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		transport := &http.Transport{TLSClientConfig: clientTLS.Clone(), ForceAttemptHTTP2: http2}
		response, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		body, err := io.ReadAll(response.Body)
		if want := proto + " broker.test"; string(body) != want || err != nil {
			t.Errorf("got %q, %v; want %q", body, err, want)
		}
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	}

	transport := &http.Transport{TLSClientConfig: clientTLS.Clone()}
	client, _, err := websocket.Dial(t.Context(), "wss://"+l.Addr().String()+"/mqtt", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	stream := websocket.NetConn(t.Context(), client, websocket.MessageBinary)
	mustEcho(t, stream)
	if c := <-conns; c.Listener != "wss" || c.TLS == nil || c.TLS.ServerName != "broker.test" || !c.Remote.Addr().IsLoopback() {
		t.Errorf("Conn{Listener: %q, TLS: %v, Remote: %v}", c.Listener, c.TLS, c.Remote)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	_ = ws.Close()
	mustEcho(t, stream) // what was upgraded goes on
	_ = stream.Close()
	ws.Wait()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("ServeHTTP = %v", err)
	}
}

// A connection to the HTTPS port is pending until its first request is answered,
// and one that was upgraded until its owner says so.
func TestHTTPConnectionsArePending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *listen.Conn, 1)
		w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{MaxPendingPerAddress: 1}, func(c *listen.Conn) {
			conns <- c
			echo(c)
		})
		const address = "198.51.100.7:4711"
		silent := w.dialled(address)
		synctest.Wait()
		if !refusedNow(t, w.dialled(address)) {
			t.Error("two connections without a request")
		}
		_, response := upgrade(t, silent, "GET /x HTTP/1.1\r\nHost: broker.test\r\n\r\n")
		_, _ = io.Copy(io.Discard, response.Body)
		synctest.Wait()

		client, _ := upgrade(t, w.dialled(address), request("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
		if !refusedNow(t, w.dialled(address)) {
			t.Error("an upgrade is taken for an authentication")
		}
		(<-conns).Authenticated()
		other := w.dialled(address)
		if refusedNow(t, other) {
			t.Error("an authenticated connection is still pending")
		}
		for _, c := range []net.Conn{silent, client, other} {
			_ = c.Close()
		}
	})
}

// PROXY header, TLS, HTTP: the address the proxy names is the one that handlers
// of requests see, and the owners of upgraded connections.
func TestHTTPSBehindAProxy(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := newTLS(t)
	inner := listentest.NewListener()
	conns := make(chan listen.Conn, 1)
	ws := listen.NewWebSocket(listen.WebSocketConfig{Handle: func(c *listen.Conn) {
		conns <- *c
		c.Abort()
	}})
	server := &http.Server{Handler: ws.Before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))}
	done := make(chan error, 1)
	l := listen.New(inner, proxied(listen.Config{TLS: serverTLS}))
	go func() { done <- listen.ServeHTTP(l, server) }()
	dial := func() net.Conn {
		c := inner.DialFrom(theProxy())
		_, _ = io.WriteString(c, v2(0x21, 0x11, v2Addresses()))
		return tls.Client(c, clientTLS)
	}

	_, response := upgrade(t, dial(), "GET /x HTTP/1.1\r\nHost: broker.test\r\nConnection: close\r\n\r\n")
	if body, _ := io.ReadAll(response.Body); string(body) != "203.0.113.9:4711" {
		t.Errorf("the request came from %s", body)
	}
	client, _ := upgrade(t, dial(), request("/", "Sec-WebSocket-Protocol: mqtt"))
	if c := <-conns; c.Remote.String() != "203.0.113.9:4711" || c.TLS == nil {
		t.Errorf("Conn{Remote: %v, TLS: %v}", c.Remote, c.TLS)
	}
	if !closed(client.Conn) {
		t.Error("the aborted connection stays open")
	}
	_ = server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	_ = ws.Close()
	ws.Wait()
}

// TLS that stalls, headers that trickle: each ends in its own time.
func TestHTTPSClientsThatStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		serverTLS, clientTLS := newTLS(t)
		hello := clientHello(t, clientTLS)
		inner := listentest.NewListener()
		l := listen.New(inner, listen.Config{TLS: serverTLS, SetupTimeout: 10 * time.Second})
		server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.NotFoundHandler()}
		done := make(chan error, 1)
		go func() { done <- listen.ServeHTTP(l, server) }()

		start := time.Now()
		inHello, inHeader := inner.Dial(), inner.Dial()
		_, _ = inHello.Write(hello[:len(hello)/2])
		_, _ = io.WriteString(tls.Client(inHeader, clientTLS), request("/mqtt", "Sec-WebSocket-Protocol: mqtt")[:60])
		_, _ = io.Copy(io.Discard, inHeader)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("half a request ended after %v, want 5 s", took)
		}
		_, _ = io.Copy(io.Discard, inHello)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("half a hello ended after %v, want 10 s", took)
		}
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestServeHTTPReportsABrokenListener(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	l := listen.New(inner, listen.Config{Name: "https"})
	_ = inner.Close() // by somebody else
	err := listen.ServeHTTP(l, &http.Server{Handler: http.NotFoundHandler()})
	if err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("ServeHTTP = %v, want an error that names the listener", err)
	}
}

// A client is asked for its certificate only where the listener says so, and
// whatever it shows is taken: nobody has verified it.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ asked, shown, want bool }{
		"asked and shown":   {true, true, true},
		"asked, none shown": {true, false, false},
		"not asked":         {false, true, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serverTLS, clientTLS := newTLS(t)
			stranger, _ := newTLS(t) // of no authority the server knows
			if test.shown {
				clientTLS.Certificates = stranger.Certificates
			}
			inner := listentest.NewListener()
			got := make(chan *tls.ConnectionState, 1)
			stop := serve(listen.New(inner, listen.Config{TLS: serverTLS, RequestClientCert: func() bool { return test.asked }}), func(c *listen.Conn) { got <- c.TLS })
			client := tls.Client(inner.Dial(), clientTLS)
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			state := <-got
			if has := len(state.PeerCertificates) == 1; has != test.want || state.VerifiedChains != nil {
				t.Errorf("%d certificates, chains %v; want one: %t, never verified", len(state.PeerCertificates), state.VerifiedChains, test.want)
			}
			if serverTLS.ClientAuth != tls.NoClientCert {
				t.Error("the caller's configuration was changed")
			}
			_ = stop()
		})
	}
}
