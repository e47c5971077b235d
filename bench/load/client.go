package load

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// answerTime bounds the wait for one answer of the broker.
const answerTime = 30 * time.Second

// Target is where a broker listens.
type Target struct {
	Address string      // HOST:PORT
	TLS     *tls.Config // nil: plain
}

// Identity is what a client connects with. Without a username it has no password.
type Identity struct {
	ClientID, Username string
	Password           string // secret: never printed
}

// String leaves the password out.
func (id Identity) String() string { return id.ClientID }

// GoString leaves it out too.
func (id Identity) GoString() string { return id.ClientID }

// Client is one MQTT 3.1.1 connection that has its CONNACK. It is not safe for
// concurrent use.
type Client struct {
	conn    net.Conn
	in      *scanner
	id      uint16 // the last packet identifier of SUBSCRIBE or UNSUBSCRIBE
	Present bool   // the broker still had a session
}

// Connect dials and waits for the CONNACK. The caller closes the Client.
func Connect(ctx context.Context, t Target, id Identity, clean bool) (*Client, error) {
	packet, err := appendConnect(nil, id, clean)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return nil, err
	}
	if t.TLS != nil {
		conn = tls.Client(conn, t.TLS)
	}
	c := &Client{conn: conn, in: newScanner(conn)}
	if err := c.hello(packet); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", id, err), conn.Close())
	}
	return c, nil
}

func (c *Client) hello(packet []byte) error {
	body, err := c.ask(packet, typeConnack)
	if err != nil {
		return err
	}
	if len(body) != 2 || body[1] != 0 {
		return fmt.Errorf("refused: CONNACK % x", body)
	}
	c.Present = body[0]&1 != 0
	return nil
}

// ask writes a request and returns the body of its answer. A resumed session
// may bring messages first; they are acknowledged and forgotten.
func (c *Client) ask(packet []byte, want byte) ([]byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(packet); err != nil {
		return nil, err
	}
	for {
		first, body, err := c.in.wait()
		switch {
		case err != nil:
			return nil, err
		case first>>4 == want:
			return body, c.conn.SetDeadline(time.Time{})
		case first>>4 != typePublish || want == typeConnack:
			return nil, fmt.Errorf("packet type %d, want %d", first>>4, want)
		}
		if err := c.forget(first, body); err != nil {
			return nil, err
		}
	}
}

// forget acknowledges a message that nobody counts.
func (c *Client) forget(first byte, body []byte) error {
	m, err := parseMessage(first, body)
	if err != nil {
		return err
	}
	if receipt := appendReceipt(nil, m); len(receipt) > 0 {
		_, err = c.conn.Write(receipt)
	}
	return err
}

// Subscribe subscribes to all filters in one packet.
func (c *Client) Subscribe(qos byte, filters ...string) error {
	packet, err := appendSubscribe(nil, c.nextID(), qos, filters...)
	if err != nil {
		return err
	}
	body, err := c.ask(packet, typeSuback)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if len(body) != 2+len(filters) || binary.BigEndian.Uint16(body) != c.id {
		return fmt.Errorf("subscribe: SUBACK % x", body)
	}
	for i, filter := range filters {
		if code := body[2+i]; code != qos {
			return fmt.Errorf("subscribe to %s: code %#x", filter, code)
		}
	}
	return nil
}

// Unsubscribe ends the subscriptions to all filters in one packet.
func (c *Client) Unsubscribe(filters ...string) error {
	packet, err := appendUnsubscribe(nil, c.nextID(), filters...)
	if err != nil {
		return err
	}
	if _, err := c.ask(packet, typeUnsuback); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}

func (c *Client) nextID() uint16 {
	c.id = c.id%60_000 + 1
	return c.id
}

// Disconnect says goodbye and waits until the broker has closed the connection,
// so that what the connection cost it is over.
func (c *Client) Disconnect() error {
	err := c.conn.SetDeadline(time.Now().Add(answerTime))
	if err == nil {
		_, err = c.conn.Write([]byte{firstDisconnect, 0})
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c.conn)
	}
	return errors.Join(err, c.conn.Close())
}

// Close cuts the connection.
func (c *Client) Close() error { return c.conn.Close() }

// together calls f for 0 to n-1 in a few goroutines and returns the first
// error; after one it starts no more.
func together(ctx context.Context, n, workers int, f func(i int) error) error {
	var work sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	for range min(n, workers) {
		work.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	work.Wait()
	return context.Cause(ctx)
}

// warmTime bounds how long a warm-up may take beyond its time.
const warmTime = 15 * time.Second

var errCold = errors.New("the broker did not get through the warm-up")

// warmUp waits for d, and then until warm says so.
func warmUp(ctx context.Context, d time.Duration, warm func() bool) error {
	if err := pause(ctx, d); err != nil {
		return err
	}
	for end := time.Now().Add(warmTime); !warm(); {
		if time.Now().After(end) {
			return errCold
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
