package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Config says how to listen.
type Config struct {
	Name    string      // goes into Conn.Listener and the log: "mqtts", "mqtt"
	Address string      // host:port; port 0 chooses one. Not used by New
	TLS     *tls.Config // nil: plain. Not changed, and not to be changed

	// SetupTimeout bounds accept → PROXY header → TLS done. It is one absolute deadline on the
	// connection and stays set when the connection is handed over. Default 10 s,
	// the time a device on a slow radio link needs, and an idler may waste.
	SetupTimeout time.Duration

	// RequestClientCert says at each handshake whether the client is asked for a
	// certificate. Any is taken, and none: which authority may vouch for a device is
	// known once CONNECT has named its organisation, so nothing is verified here,
	// VerifiedChains stays empty, and no authority is named to anybody. What a client
	// may send is bounded by crypto/tls, at 256 KiB. Default nil, never, because a
	// browser would ask its user.
	RequestClientCert func() bool

	// Proxies are the networks whose connections start with a PROXY protocol
	// header, version 1 or 2, before TLS. It is required there and never looked
	// for elsewhere. Default none.
	Proxies []netip.Prefix

	// Admission counts the connections of all listeners that share it. Default:
	// one of its own with default limits.
	Admission *Admission

	// MaxConns bounds the connections of this listener held at one time, set up
	// or not. Default 100 000; the limit on open files must allow it.
	MaxConns int

	// MaxHandshakes bounds the TLS handshakes computing at one time. Default
	// twice the processors in use: enough to keep them busy, and the live
	// connections still get their turn in a reconnect storm.
	MaxHandshakes int

	Log *slog.Logger // default: discard
}

const (
	defaultSetupTimeout = 10 * time.Second
	defaultMaxConns     = 100_000

	firstRetry = 5 * time.Millisecond // pause after a failed accept, doubled …
	lastRetry  = time.Second          // … up to this

	fullLogPeriod = time.Minute // the connection limit is logged no more often

	// proofProtocol is what an authority negotiates that wants to see a proof of a name,
	// where the configuration offers one. It says nothing after the handshake [RFC8737-4].
	proofProtocol = "acme-tls/1"
)

var errProved = errors.New("only a proof of a name was asked for")

func (c Config) withDefaults() Config {
	if c.SetupTimeout <= 0 {
		c.SetupTimeout = defaultSetupTimeout
	}
	if c.MaxConns <= 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.MaxHandshakes <= 0 {
		c.MaxHandshakes = 2 * runtime.GOMAXPROCS(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Admission == nil {
		c.Admission = NewAdmission(AdmissionConfig{Log: c.Log})
	}
	c.Log = c.Log.With("listener", c.Name)
	if c.TLS != nil && c.RequestClientCert != nil {
		c.TLS = requesting(c.TLS, c.RequestClientCert)
	}
	return c
}

// requesting is config that asks for a client certificate while wanted says so. Both
// ways share the keys of session tickets, so a resumption may change between them. What
// config itself says of a client goes first.
func requesting(config *tls.Config, wanted func() bool) *tls.Config {
	config = config.Clone()
	asking := config.Clone()
	asking.ClientAuth = tls.RequestClientCert
	special := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if special != nil {
			if own, err := special(hello); own != nil || err != nil {
				return own, err
			}
		}
		if wanted() {
			return asking, nil
		}
		return nil, nil
	}
	return config
}

// Listener accepts connections and hands them over. Make one with Listen or New.
type Listener struct {
	cfg        Config
	inner      net.Listener
	slots      limit // one per connection
	handshakes limit // one per computing handshake
	watchEnd   bool  // connections tell when they are closed; set before Serve

	open      context.Context // done once Close is called
	close     context.CancelFunc
	closeOnce sync.Once
	closeErr  error
}

// Listen opens a TCP socket on cfg.Address. TCP keep-alive and no-delay are on.
func Listen(cfg Config) (*Listener, error) {
	var lc net.ListenConfig
	// Peers are strangers: offer them plain TCP, not the kernel's multipath code.
	lc.SetMultipathTCP(false)
	inner, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Name, err)
	}
	return New(inner, cfg), nil
}

// New makes a Listener of an open one, which it owns from then on. Limits that
// are zero or negative get their default. Once closed, the Accept of inner must
// return net.ErrClosed.
func New(inner net.Listener, cfg Config) *Listener {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	return &Listener{
		cfg:        cfg,
		inner:      inner,
		slots:      make(limit, cfg.MaxConns),
		handshakes: make(limit, cfg.MaxHandshakes),
		open:       ctx,
		close:      cancel,
	}
}

// Addr returns the address listened on, with the real port.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting and drops the connections that are still being set up.
// Those handed over are their handlers' business. Later calls return what the
// first one did.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.close()
		l.closeErr = l.inner.Close()
	})
	return l.closeErr
}

// Serve accepts connections and runs handle for each, in its own goroutine. The
// connection is aborted when handle returns, so a handler that wants to say
// goodbye closes it. Serve returns after Close, when every handler has
// returned: nil, or an error if something else closed the inner listener.
func (l *Listener) Serve(handle func(*Conn)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	var full fullLog
	for {
		if !l.takeSlots(&full) {
			return nil
		}
		raw, err := l.accept()
		if err != nil {
			l.leaveSlots()
			if l.open.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s: %w", l.cfg.Name, err)
		}
		handlers.Go(func() {
			defer l.leaveSlots()
			l.serve(raw, handle)
		})
	}
}

// takeSlots waits for a place among the connections of this listener and of
// all. It fails when the listener is closed.
func (l *Listener) takeSlots(full *fullLog) bool {
	all := l.cfg.Admission.conns
	if !l.slots.tryEnter() {
		full.warn(l.cfg.Log, cap(l.slots))
		if l.slots.enter(l.open) != nil {
			return false
		}
	}
	if !all.tryEnter() {
		full.warn(l.cfg.Log, cap(all))
		if all.enter(l.open) != nil {
			l.slots.leave()
			return false
		}
	}
	return true
}

func (l *Listener) leaveSlots() {
	l.slots.leave()
	l.cfg.Admission.conns.leave()
}

// accept returns the next connection. It retries until the listener is closed.
func (l *Listener) accept() (net.Conn, error) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		raw, err := l.inner.Accept()
		if err == nil {
			return raw, nil
		}
		if l.open.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.cfg.Log.Warn("cannot accept a connection, trying again", "err", err, "pause", pause)
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-l.open.Done():
			retry.Stop()
			return nil, net.ErrClosed
		}
	}
}

// serve is the life of one connection.
func (l *Listener) serve(raw net.Conn, handle func(*Conn)) {
	defer raw.Close()
	defer containPanic(l.cfg.Log)
	conn := &Conn{Conn: raw, Listener: l.cfg.Name, Remote: remoteAddr(raw), raw: raw}
	var err error
	if conn.place, err = l.cfg.Admission.enter(); err == nil {
		defer conn.place.leave()
		err = l.setUp(conn)
	}
	if err == nil {
		handle(conn)
		return
	}
	if !l.cfg.Admission.refused(err, conn.Remote) {
		// Any stranger can cause this, as often as he likes.
		l.cfg.Log.Debug("connection not set up", "remote", conn.Remote, "err", err)
	}
}

// setUp takes conn from an accepted socket to its owner: PROXY header, limits of
// the address that is then known, TLS.
func (l *Listener) setUp(conn *Conn) error {
	raw := conn.raw
	deadline := time.Now().Add(l.cfg.SetupTimeout)
	if err := raw.SetDeadline(deadline); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(l.open, deadline)
	defer cancel()

	if fromProxy(l.cfg.Proxies, conn.Remote.Addr()) {
		stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // Close waits for nobody's header
		behind, peer, err := readProxyHeader(raw)
		stop()
		if err != nil {
			return err
		}
		conn.Conn, conn.Remote = behind, peer
	}
	if err := conn.place.name(conn.Remote.Addr()); err != nil {
		return err
	}
	if l.watchEnd {
		conn.Conn = &socket{Conn: conn.Conn, ended: make(chan struct{})}
	}
	if l.cfg.TLS != nil {
		secure, err := handshake(ctx, conn.Conn, l.cfg.TLS, l.handshakes)
		if err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
		state := secure.ConnectionState()
		if state.NegotiatedProtocol == proofProtocol {
			return errProved
		}
		conn.Conn, conn.TLS = secure, &state
	}
	return ctx.Err()
}

// containPanic ends a panic of the connection's goroutine. It must be deferred
// itself.
func containPanic(log *slog.Logger) {
	cause := recover()
	if cause == nil {
		return
	}
	// The value may quote the peer's bytes. The runtime's own errors hold only
	// numbers and type names; of any other value the type must do.
	what := fmt.Sprintf("%T", cause)
	if err, ok := cause.(runtime.Error); ok {
		what = err.Error()
	}
	log.Error("connection handler panicked", "panic", what, "stack", string(debug.Stack()))
}

// fullLog says now and then that the connection limit is reached.
type fullLog struct{ last time.Time }

func (f *fullLog) warn(log *slog.Logger, maxConns int) {
	if now := time.Now(); f.last.IsZero() || now.Sub(f.last) >= fullLogPeriod {
		f.last = now
		log.Warn("connection limit reached, new connections wait", "max_conns", maxConns)
	}
}
