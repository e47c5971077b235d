package broker

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// conn is one network connection. Its reader goroutine owns every field that is
// not guarded, atomic or set before it starts.
type conn struct {
	b       *Broker
	nc      *listen.Conn
	reader  *wire.Reader
	out     *outbox
	lane    *lane                 // where it counts
	visit   atomic.Pointer[Visit] // what the monitor was told of it; nil: nothing
	version wire.Version
	maxOut  uint32        // the client's Maximum Packet Size; 0: none
	problem bool          // the client wants reason strings [MQTT-3.1.2-29]
	notices *rate.Limiter // of what it is told of; nil: nothing yet
	// handover is what the client is to be given and was not yet; nil: nothing.
	handover *Handover

	client    policy.Client
	sessionID policy.ClientID                  // what its session is called: client.ID, unless that names nobody
	principal atomic.Pointer[policy.Principal] // set once verified: a revocation finds the connection from here on
	space     *space                           // counted in; nil before
	usage     *usage                           // of its credential, counted in; nil before
	prepaid   int                              // messages taken from the organisation's rate and not sent yet
	session   *session                         // nil before CONNACK
	changes   uint64                           // Broker.changes before the principal was read

	renewals *renewals // nil: CONNECT had no Authentication Method
	poll     *poll     // who takes its messages; nil: a socket

	// What went over it. Messages in are the reader's own count, those out are
	// guarded by out.
	read, wrote struct {
		bytes    atomic.Uint64
		messages uint64
	}

	unanswered atomic.Int32 // acknowledgements that wait for the store; see answer

	keepAlive time.Duration     // read deadline; 0: none
	whole     bool              // a packet was read since the deadline was set
	unlimited bool              // there is no deadline, nor will there be one
	aliases   map[uint16]string // the client's
	topics    map[string]*inbound
	strangers *[64]uint64  // hashes of topics that topics has no room for; nil: it has
	pub       *publication // reused by every PUBLISH; nil before the first
	touched   []*outbox    // to be flushed before the next read that waits
	unflushed int          // reads since they were
	flush     func()       // flushTouched

	// Guarded by out.
	topicBuf   []byte // scratch of transmit
	aliasMax   uint16 // aliases towards the client
	aliasesOut map[string]uint16

	established atomic.Bool // CONNACK is in the outbox
	closing     atomic.Bool
	done        chan struct{} // closed by end
	flushed     chan struct{} // closed when all that could be written was
	guarded     struct {
		sync.Mutex
		ended  bool
		ending ending
		linger *time.Timer
	}
}

// ending says why and how a connection ends.
type ending struct {
	cause   policy.Cause
	code    wire.Code     // of the DISCONNECT; 0 means codeOf(cause)
	reason  string        // public, for MQTT 5
	action  policy.Action // that was denied, where one was
	will    willFate
	goodbye bool // the client took its leave
	quiet   bool // say nothing: the client ended it, or cannot understand
	linger  time.Duration
}

// revokeLinger is what a connection may take for its last packets when its
// credential has gone or another one took its session over: half of what
// promise 5 allows for the whole closing.
const revokeLinger = 25 * time.Millisecond

func newConn(b *Broker, nc *listen.Conn) *conn {
	c := &conn{b: b, nc: nc, lane: b.stats.next(), problem: true, done: make(chan struct{}), flushed: make(chan struct{})}
	c.flush = c.flushTouched
	c.out = newOutbox(nc.Conn, b.cfg.WriteStall, &b.budget, &c.lane.out.bytes, b.crew.start, c.drain, c.written)
	c.out.own = &c.wrote.bytes
	c.reader = wire.NewReader(&deadlineReader{c}, min(maxConnect, b.cfg.MaxPacket))
	return c
}

// deadlineReader renews the keep-alive deadline when the connection is read
// after a whole packet: once per batch, and never for a part of one, or a client
// could stay for ever by a byte now and then [MQTT-3.1.2-22].
type deadlineReader struct{ c *conn }

func (c *conn) renewDeadline() error {
	if !c.whole {
		return nil
	}
	c.whole = false
	if c.keepAlive == 0 {
		if c.unlimited {
			return nil
		}
		c.unlimited = true
		return c.nc.SetReadDeadline(time.Time{})
	}
	return c.nc.SetReadDeadline(time.Now().Add(c.keepAlive))
}

var errEnding = errors.New("connection is ending")

func (r *deadlineReader) Read(p []byte) (int, error) {
	c := r.c
	direct := c.out.direct
	if direct == nil || c.unflushed == mostUnflushed {
		c.flushTouched()
	}
	if c.session != nil {
		if most := c.session.standing.Load().limits().QueueBytes; c.out.over(most) {
			c.flushTouched()
			c.out.await(most)
		}
		if err := c.renewDeadline(); err != nil {
			return 0, err
		}
	}
	if c.closing.Load() { // end sets the flag before it interrupts the read
		return 0, errEnding
	}
	var n int
	var err error
	if direct == nil {
		n, err = c.nc.Read(p)
	} else {
		c.unflushed++
		n, err = direct.readInto(p, c.flush)
	}
	c.lane.in.bytes.Add(uint64(max(n, 0)))
	c.read.bytes.Add(uint64(max(n, 0)))
	return n, err
}

// mostUnflushed is how often a connection may read on before it sends what its
// packets put into outboxes.
const mostUnflushed = 4

// flushTouched sends what this connection's packets put into outboxes, its own
// among them, as far as that needs no waiting.
func (c *conn) flushTouched() {
	for i, o := range c.touched {
		o.flushDirect()
		c.touched[i] = nil
	}
	c.touched, c.unflushed = c.touched[:0], 0
}

// serve runs the connection. A panic below costs this connection alone: the
// listener recovers it, after the clean-up here.
func (c *conn) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		cancel()
		c.flushTouched()
		c.end(ending{code: wire.UnspecifiedError, will: willFires}) // nothing, unless it panicked
		c.detach()
		<-c.flushed
		c.leave()
		c.discard()
		_ = c.nc.Close()
		c.stopLinger()
	}()
	c.run(ctx)
}

// drain sends what the session owes; a flusher calls it.
func (c *conn) drain() {
	if s := c.session; s != nil {
		s.drain(context.Background(), nil)
	}
}

// written is called when the last packet was, or could not be.
func (c *conn) written(err error) {
	defer close(c.flushed)
	if err != nil {
		c.end(ending{will: willFires, quiet: true})
		c.nc.Abort()
		return
	}
	c.closeWrite()
}

func (c *conn) run(ctx context.Context) {
	pk, err := c.reader.Next()
	if err != nil {
		c.readFailed(err, false)
		return
	}
	connect, ok := pk.(*wire.Connect)
	if !ok { // the reader promises it; a broken promise may not become a session
		c.end(ending{quiet: true})
		return
	}
	c.version = connect.Version
	began := time.Now()
	var r *refusal
	if connect.HasAuthMethod {
		r = c.converse(ctx, connect)
	} else {
		c.b.crew.do(func() { r = c.connect(ctx, connect) })
	}
	if r != nil || c.session != nil { // else it hung up in the middle of an exchange
		c.b.cfg.Observer.Connect(r == nil, time.Since(began))
	}
	if r != nil {
		c.refuseConnect(r)
		c.turnedAway(began, r)
		return
	}
	if c.session != nil {
		c.arrive(began)
	}
	c.reader.SetMaxPacket(c.b.cfg.MaxPacket)
	for !c.closing.Load() {
		c.whole = true
		pk, err := c.reader.Next()
		if err != nil {
			c.readFailed(err, true)
			return
		}
		if c.closing.Load() {
			return
		}
		c.handle(ctx, pk)
	}
}

// handle carries out one packet. What ends the connection calls c.end.
func (c *conn) handle(ctx context.Context, pk wire.Packet) {
	switch pk := pk.(type) {
	case *wire.Publish:
		c.read.messages++
		c.handlePublish(ctx, pk)
	case *wire.Ack:
		c.handleAck(ctx, pk)
	case *wire.Subscribe:
		c.flushTouched()
		c.b.crew.do(func() { c.handleSubscribe(ctx, pk) })
	case *wire.Unsubscribe:
		c.flushTouched()
		c.handleUnsubscribe(ctx, pk)
	case *wire.Pingreq:
		if buf, ok := c.out.begin(0); ok {
			c.out.commit(wire.AppendPingresp(buf), c)
		}
	case *wire.Disconnect:
		c.handleDisconnect(pk)
	case *wire.Auth:
		c.flushTouched()
		c.b.crew.do(func() { c.handleAuth(ctx, pk) })
	default: // a second CONNECT [MQTT-3.1.0-2]
		c.end(ending{cause: policy.CauseProtocol, code: wire.ProtocolError, will: willFires})
	}
}

func (c *conn) handleDisconnect(pk *wire.Disconnect) {
	if pk.HasSessionExpiry && !c.session.changeExpiry(time.Duration(pk.SessionExpiry)*time.Second) {
		// A session that was to end with its connection cannot be kept after all (MQTT 5 §3.14.2.2.2).
		c.end(ending{cause: policy.CauseProtocol, code: wire.ProtocolError, will: willFires})
		return
	}
	fate := willNever // [MQTT-3.14.4-3]
	if pk.Code != wire.NormalDisconnection {
		fate = willFires
	}
	c.end(ending{will: fate, quiet: true, goodbye: pk.Code == wire.NormalDisconnection})
}

// readFailed ends the connection for what Next returned.
func (c *conn) readFailed(err error, connected bool) {
	var bad *wire.Error
	switch {
	case errors.As(err, &bad):
		if c.version == 0 {
			c.version = c.reader.Version()
		}
		c.b.logRefusal(c.org(), c.client.ID, &refusal{action: policy.ActionNone, cause: policy.CauseProtocol, code: bad.Code, detail: bad.Error()})
		if buf, ok := c.out.begin(0); ok {
			c.out.commit(wire.AppendRefusal(buf, c.version, connected, bad), nil)
		}
		c.end(ending{cause: policy.CauseProtocol, code: bad.Code, will: willFires, quiet: true})
	case errors.Is(err, os.ErrDeadlineExceeded) && connected:
		c.end(ending{code: wire.KeepAliveTimeout, will: willFires}) // [MQTT-3.1.2-22]
	default: // closed by the peer, or by end
		c.end(ending{will: willFires, quiet: true})
	}
}

// end ends the connection, once: MQTT 5 clients hear why, what is queued to be
// written is written while linger lasts, and the reader is interrupted. It does
// not wait, so anybody may call it, holding any lock but c.guarded and c.out.
func (c *conn) end(e ending) {
	c.guarded.Lock()
	if c.guarded.ended {
		c.guarded.Unlock()
		return
	}
	if e.linger == 0 {
		e.linger = c.b.cfg.Linger
	}
	c.guarded.ended, c.guarded.ending = true, e
	c.guarded.linger = time.AfterFunc(e.linger, c.nc.Abort)
	c.guarded.Unlock()

	c.closing.Store(true)
	close(c.done)
	// Before CONNACK there is nothing a server may send but CONNACK itself.
	if !e.quiet && c.established.Load() {
		if buf, ok := c.out.begin(0); ok {
			code := e.code
			if code == 0 {
				code = codeOf(e.cause)
			}
			d := wire.Disconnect{Code: code, MaxSize: c.maxOut, ReasonString: e.reason}
			if d.ReasonString == "" && e.cause != policy.CauseNone {
				d.ReasonString = e.cause.Public()
			}
			c.out.commit(wire.AppendDisconnect(buf, c.version, &d), nil)
		}
	}
	c.out.end()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) fate() willFate {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	return c.guarded.ending.will
}

func (c *conn) stopLinger() {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	c.guarded.linger.Stop()
}

// closeWrite says that nothing more comes, and lets the client say the same.
func (c *conn) closeWrite() {
	if half, ok := c.nc.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.nc.Close()
}

// discard reads what the client still sends until it closes too. Closing with
// unread input makes the kernel reset the connection, and the reset can
// overtake the DISCONNECT that said why. The linger timer ends the wait.
func (c *conn) discard() {
	_ = c.nc.SetReadDeadline(time.Now().Add(c.b.cfg.Linger))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.nc, 1<<20))
}

// detach gives up what the connection holds.
func (c *conn) detach() {
	if c.session != nil {
		c.session.detach(c, c.fate())
	}
	if c.usage != nil {
		c.space.usages.release(credentialOf(c.principal.Load(), c.client.ID), c.usage)
	}
	if c.space != nil {
		c.space.leave()
	}
}

// org is the organisation for a log line; empty while it is unknown.
func (c *conn) org() string {
	if p := c.principal.Load(); p != nil {
		return p.Org.String()
	}
	return ""
}
