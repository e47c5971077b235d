package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

const (
	wsReadBuffer = 4 << 10  // two of them for each connection
	wsMessage    = 16 << 10 // the largest message sent; a pong waits for at most one
	wsGoodbye    = time.Second

	// Control frames cost an answer and carry nothing. Browsers send none, a
	// proxy one every few seconds.
	wsControlRate  = 10 // a second
	wsControlBurst = 100
)

// wsConn is a WebSocket as a stream of bytes: packets may begin and end anywhere
// in a message [MQTT-6.0.0-2].
//
// The library gives a connection up when a read is interrupted, but the broker
// interrupts its reader to have the last word. So a goroutine of the wsConn
// reads all the time, one buffer ahead, and a deadline ends the waiting for that
// buffer only. It starts with newWSConn and ends before Close returns.
type wsConn struct {
	ws      *websocket.Conn
	socket  net.Conn // below WebSocket: TLS or plain
	reading sync.WaitGroup

	in struct {
		sync.Mutex
		changed  *sync.Cond
		unread   []byte // what Read returns next; belongs to Read until it is empty
		err      error  // what Read returns after that
		dropping bool   // nobody reads any more: throw away what comes
		closed   bool
		late     bool        // the read deadline has passed
		pending  *time.Timer // makes late true; nil without a deadline to come
	}
	writing sync.Mutex // held by the one Write
	out     struct {
		sync.Mutex // comes after writing
		deadline   time.Time
		busy       bool // a Write is under way, so the deadline is the socket's
		closing    bool // the socket has its last deadline
	}
}

// newWSConn starts to read from ws, which it owns from then on. A message may
// have maxMessage bytes.
func newWSConn(ws *websocket.Conn, socket net.Conn, maxMessage int64, log *slog.Logger) *wsConn {
	ws.SetReadLimit(maxMessage)
	c := &wsConn{ws: ws, socket: socket}
	c.in.changed = sync.NewCond(&c.in)
	c.reading.Go(func() {
		err := errPanic // unless receive returns
		defer func() {
			c.in.Lock()
			defer c.in.Unlock()
			c.in.err = err
			c.in.changed.Broadcast()
		}()
		defer containPanic(log)
		err = c.receive()
	})
	return c
}

// controlFrames counts pings and pongs as they are read. A peer that sends
// nothing else is cut off.
func controlFrames(abort func()) func(context.Context, []byte) bool {
	allowed := rate.NewLimiter(wsControlRate, wsControlBurst)
	return func(context.Context, []byte) bool {
		if allowed.Allow() {
			return true
		}
		abort()
		return false
	}
}

// errPanic is what a panic on the peer's bytes looks like to the owner.
var errPanic = errors.New("WebSocket reader failed")

// errText refuses what MQTT never sends [MQTT-6.0.0-1].
var errText = errors.New("WebSocket message is not binary")

// receive reads messages until the connection ends, and says how it did.
func (c *wsConn) receive() error {
	free, other := make([]byte, wsReadBuffer), make([]byte, wsReadBuffer)
	for {
		kind, message, err := c.ws.Reader(context.Background())
		if err != nil {
			return endOf(err)
		}
		if kind != websocket.MessageBinary {
			_ = c.goodbye(websocket.StatusUnsupportedData)
			return errText
		}
		for err == nil {
			var n int
			n, err = message.Read(free)
			if n > 0 {
				c.hand(free[:n])
				free, other = other, free
			}
		}
		if !errors.Is(err, io.EOF) {
			return endOf(err)
		}
	}
}

// endOf says how the peer ended the connection, without quoting it.
func endOf(err error) error {
	switch status := websocket.CloseStatus(err); {
	case status == websocket.StatusNormalClosure, status == websocket.StatusGoingAway, status == websocket.StatusNoStatusRcvd:
		return io.EOF
	case status >= 0:
		return fmt.Errorf("WebSocket closed by the peer with status %d", status)
	case errors.Is(err, websocket.ErrMessageTooBig):
		return websocket.ErrMessageTooBig
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return io.ErrUnexpectedEOF
	default:
		return errors.New("WebSocket frame refused")
	}
}

// hand waits until Read has taken what it was handed before, and hands it p.
func (c *wsConn) hand(p []byte) {
	c.in.Lock()
	defer c.in.Unlock()
	for len(c.in.unread) > 0 && !c.in.dropping {
		c.in.changed.Wait()
	}
	if !c.in.dropping {
		c.in.unread = p
		c.in.changed.Broadcast()
	}
}

func (c *wsConn) Read(p []byte) (int, error) {
	c.in.Lock()
	defer c.in.Unlock()
	for {
		switch {
		case c.in.closed:
			return 0, net.ErrClosed
		case c.in.late:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(c.in.unread) > 0:
			n := copy(p, c.in.unread)
			if c.in.unread = c.in.unread[n:]; len(c.in.unread) == 0 {
				c.in.changed.Broadcast()
			}
			return n, nil
		case c.in.err != nil:
			return 0, c.in.err
		}
		c.in.changed.Wait()
	}
}

// Write sends p in one message, or in several if it is long.
func (c *wsConn) Write(p []byte) (sent int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.startWrite(); err != nil {
		return 0, err
	}
	defer c.endWrite()
	for sent < len(p) {
		part := p[sent:min(len(p), sent+wsMessage)]
		if err := c.ws.Write(context.Background(), websocket.MessageBinary, part); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}

// startWrite gives the socket the write deadline, and endWrite takes it away:
// between writes a pong must not find one that has passed.
func (c *wsConn) startWrite() error {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.closing {
		return net.ErrClosed
	}
	if !c.out.deadline.IsZero() && !time.Now().Before(c.out.deadline) {
		return os.ErrDeadlineExceeded
	}
	c.out.busy = true
	return c.socket.SetWriteDeadline(c.out.deadline)
}

func (c *wsConn) endWrite() {
	c.out.Lock()
	defer c.out.Unlock()
	c.out.busy = false
	if !c.out.closing {
		_ = c.socket.SetWriteDeadline(time.Time{}) // the next write reports what is wrong
	}
}

// CloseWrite says goodbye and waits for the peer to do the same, for at most a
// second. What the peer still sends is thrown away.
func (c *wsConn) CloseWrite() error {
	c.drop(false)
	return c.goodbye(websocket.StatusNormalClosure)
}

// Close is CloseWrite, and ends the connection whatever the peer does.
func (c *wsConn) Close() error {
	c.drop(true)
	_ = c.goodbye(websocket.StatusNormalClosure)
	err := c.socket.Close()
	c.reading.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// drop throws away what was not read and what comes.
func (c *wsConn) drop(closed bool) {
	c.in.Lock()
	defer c.in.Unlock()
	c.in.dropping, c.in.unread = true, nil
	if closed {
		c.in.closed = true
		c.stopTimerLocked()
	}
	c.in.changed.Broadcast()
}

// goodbye is the closing handshake, which ends the connection. Only the first
// one counts; others wait for it.
func (c *wsConn) goodbye(status websocket.StatusCode) error {
	c.out.Lock()
	if !c.out.closing {
		c.out.closing = true
		_ = c.socket.SetDeadline(time.Now().Add(wsGoodbye)) // fails if it has ended already
	}
	c.out.Unlock()
	if err := c.ws.Close(status, ""); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close WebSocket: %w", err)
	}
	return nil
}

func (c *wsConn) LocalAddr() net.Addr  { return c.socket.LocalAddr() }
func (c *wsConn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *wsConn) SetWriteDeadline(t time.Time) error {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.closing {
		return net.ErrClosed
	}
	c.out.deadline = t
	if c.out.busy {
		return c.socket.SetWriteDeadline(t)
	}
	return nil
}

func (c *wsConn) SetReadDeadline(t time.Time) error {
	c.in.Lock()
	defer c.in.Unlock()
	if c.in.closed {
		return net.ErrClosed
	}
	c.stopTimerLocked()
	c.in.late = false
	if t.IsZero() {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		c.in.late = true
		c.in.changed.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		c.in.Lock()
		defer c.in.Unlock()
		if c.in.pending == timer { // and no newer deadline came first
			c.in.late = true
			c.in.changed.Broadcast()
		}
	})
	c.in.pending = timer
	return nil
}

// stopTimerLocked forgets the deadline to come.
func (c *wsConn) stopTimerLocked() {
	if c.in.pending != nil {
		c.in.pending.Stop()
		c.in.pending = nil
	}
}
