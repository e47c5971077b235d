package wiretest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
)

// Patience is how long a Client waits for a packet, and for its own writes,
// before the test fails. It is far above what any answer takes.
const Patience = 10 * time.Second

// Client is the client's end of a connection in a test. What goes wrong fails
// the test with tb.Fatal, so its methods belong in the test's own goroutine. The
// connection is closed when the test ends.
type Client struct {
	Conn    net.Conn
	Version wire.Version

	tb testing.TB
	r  *bufio.Reader
}

// NewClient returns a Client of conn that speaks v. Nothing is sent.
func NewClient(tb testing.TB, conn net.Conn, v wire.Version) *Client {
	tb.Helper()
	c := &Client{Conn: conn, Version: v, tb: tb, r: bufio.NewReader(conn)}
	tb.Cleanup(c.Close)
	return c
}

// Send writes b as it is.
func (c *Client) Send(b []byte) {
	c.tb.Helper()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		c.tb.Fatalf("set write deadline: %v", err)
	}
	if _, err := c.Conn.Write(b); err != nil {
		c.tb.Fatalf("send % x: %v", b, err)
	}
}

// Receive returns the next packet, or the error of the connection.
func (c *Client) Receive() (wire.Packet, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	return Read(c.r, c.Version)
}

// Expect returns the next packet, which must be of type t.
func (c *Client) Expect(t wire.Type) wire.Packet {
	c.tb.Helper()
	p, err := c.Receive()
	if err != nil {
		c.tb.Fatalf("expect %s: %v", t, err)
	}
	if p.Type() != t {
		c.tb.Fatalf("expect %s, got %+v", t, p)
	}
	return p
}

// ExpectBytes reads len(want) bytes, which must be want.
func (c *Client) ExpectBytes(want []byte) {
	c.tb.Helper()
	if err := c.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		c.tb.Fatalf("set read deadline: %v", err)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != string(want) {
		c.tb.Fatalf("expect % x, got % x (%v)", want, got[:n], err)
	}
}

// ExpectClosed waits until the server closes the connection, and returns the packets it sent before.
func (c *Client) ExpectClosed() (last []wire.Packet) {
	c.tb.Helper()
	for {
		p, err := c.Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.tb.Fatalf("still open, after %+v", last)
		case err != nil:
			return last
		}
		last = append(last, p)
	}
}

// Close closes the connection; more than once does no harm.
func (c *Client) Close() { _ = c.Conn.Close() }
