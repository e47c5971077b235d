package listen

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// WebSocketConfig says how MQTT over WebSocket is served. Values that are zero
// or negative get their default.
type WebSocketConfig struct {
	Name string // goes into Conn.Listener and the log. Default "wss"

	// Origins are the web origins whose pages may connect, beside those of the
	// host that is asked: "https://console.example.org", "*.example.org" for
	// hosts whatever the scheme, "*" for any. Programs, which name no origin, are
	// never refused for it.
	Origins []string

	// SetupTimeout bounds upgrade → first packet, as Config.SetupTimeout does.
	SetupTimeout time.Duration

	// MaxConns bounds the WebSocket connections held at one time. Default
	// 50 000. More are answered 503.
	MaxConns int

	// MaxMessage is the largest message accepted, in bytes; the largest packet is
	// a good value. Packets may span messages, and messages packets. Default 1 MiB.
	MaxMessage int64

	// Handle owns each connection, in its own goroutine, as the handler given to
	// Listener.Serve does. Required.
	Handle func(*Conn)

	Log *slog.Logger // default: discard
}

const (
	defaultMaxWebSockets = 50_000
	defaultMaxMessage    = 1 << 20
)

// WebSocket is an http.Handler that upgrades requests to MQTT connections. Make
// one with NewWebSocket.
type WebSocket struct {
	cfg     WebSocketConfig
	options websocket.AcceptOptions
	state   struct {
		sync.Mutex
		conns  int
		closed bool
		empty  chan struct{} // closed when closed and without connections
	}
}

// NewWebSocket returns a WebSocket that takes upgrades.
func NewWebSocket(cfg WebSocketConfig) *WebSocket {
	cfg.Name = cmp.Or(cfg.Name, "wss")
	if cfg.SetupTimeout <= 0 {
		cfg.SetupTimeout = defaultSetupTimeout
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = defaultMaxWebSockets
	}
	if cfg.MaxMessage <= 0 {
		cfg.MaxMessage = defaultMaxMessage
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("listener", cfg.Name)
	ws := &WebSocket{cfg: cfg, options: websocket.AcceptOptions{
		// "mqttv3.1" is what clients of MQTT 3.1 ask for.
		Subprotocols:       []string{"mqtt", "mqttv3.1"}, // [MQTT-6.0.0-4]
		OriginPatterns:     cfg.Origins,
		InsecureSkipVerify: slices.Contains(cfg.Origins, "*"),
		CompressionMode:    websocket.CompressionDisabled, // payloads of strangers may not share a dictionary with secrets
	}}
	ws.state.empty = make(chan struct{})
	return ws
}

// Before returns a handler that takes the upgrades to MQTT, on the paths /mqtt
// and /, and leaves every other request to next.
func (ws *WebSocket) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mqtt" || r.URL.Path == "/" && hasToken(r.Header, "Upgrade", "websocket") {
			ws.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP upgrades a request and serves the connection until it ends. It needs
// HTTP/1.1, which is what WebSocket clients ask TLS for.
func (ws *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if hasToken(r.Header, "Upgrade", "websocket") && !ws.speaksMQTT(r.Header) {
		http.Error(w, "the WebSocket sub-protocol mqtt is missing", http.StatusBadRequest) // [MQTT-6.0.0-3]
		return
	}
	if err := ws.enter(); err != nil {
		if below := connOf(r.Context()); below != nil && below.place != nil {
			below.place.admission.refused(err, below.Remote)
		}
		http.Error(w, "no more connections", http.StatusServiceUnavailable)
		return
	}
	defer ws.leave()
	conn, err := ws.accept(w, r)
	if err != nil { // the library has answered
		ws.cfg.Log.Debug("connection not upgraded", "remote", r.RemoteAddr, "err", err)
		return
	}
	// Whatever the handler left, nothing outlives it, and nobody is waited for.
	defer conn.Close()
	defer conn.Abort()
	defer containPanic(ws.cfg.Log)
	ws.cfg.Handle(conn)
}

// Close refuses upgrades from now on. Connections are their owner's business.
func (ws *WebSocket) Close() error {
	ws.state.Lock()
	defer ws.state.Unlock()
	if !ws.state.closed {
		ws.state.closed = true
		ws.endIfEmptyLocked()
	}
	return nil
}

// Wait returns after Close, when every connection has ended.
func (ws *WebSocket) Wait() { <-ws.state.empty }

func (ws *WebSocket) enter() error {
	ws.state.Lock()
	defer ws.state.Unlock()
	if ws.state.closed {
		return net.ErrClosed
	}
	if ws.state.conns >= ws.cfg.MaxConns {
		return tooManyWebSockets
	}
	ws.state.conns++
	return nil
}

func (ws *WebSocket) leave() {
	ws.state.Lock()
	defer ws.state.Unlock()
	ws.state.conns--
	if ws.state.closed {
		ws.endIfEmptyLocked()
	}
}

func (ws *WebSocket) endIfEmptyLocked() {
	if ws.state.conns == 0 {
		close(ws.state.empty)
	}
}

// speaksMQTT reports whether the client offers one of our sub-protocols.
func (ws *WebSocket) speaksMQTT(h http.Header) bool {
	return slices.ContainsFunc(ws.options.Subprotocols, func(name string) bool {
		return hasToken(h, "Sec-WebSocket-Protocol", name)
	})
}

// accept answers the upgrade and makes a Conn of it.
func (ws *WebSocket) accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	conn := &Conn{Listener: ws.cfg.Name}
	if r.TLS != nil {
		state := *r.TLS
		conn.TLS = &state
	}
	options := ws.options // the flood is each connection's own
	controls := controlFrames(conn.Abort)
	options.OnPingReceived = controls
	options.OnPongReceived = func(ctx context.Context, p []byte) { controls(ctx, p) }

	upgrade := &hijacker{ResponseWriter: w}
	stream, err := websocket.Accept(upgrade, r, &options)
	if err != nil {
		return nil, err
	}
	socket := upgrade.socket
	conn.raw, conn.Remote = socket, remoteAddr(socket)
	if secure, ok := socket.(*tls.Conn); ok {
		conn.raw = secure.NetConn()
	}
	if below := connOf(r.Context()); below != nil {
		conn.raw, conn.Remote, conn.place = below.raw, below.Remote, below.place
	}
	over := newWSConn(stream, socket, ws.cfg.MaxMessage, ws.cfg.Log)
	conn.Conn = over
	// A socket that the peer's first frames have ended already says so at the
	// owner's first read.
	_ = over.SetDeadline(time.Now().Add(ws.cfg.SetupTimeout))
	return conn, nil
}

// hijacker remembers the socket that the library takes over.
type hijacker struct {
	http.ResponseWriter
	socket net.Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	socket, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.socket = socket
	return socket, buffered, err
}

// hasToken reports whether a header that is a list has the token, in any case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}
