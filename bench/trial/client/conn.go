package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// Config is what a connection is made with.
type Config struct {
	Address string      // HOST:PORT of the broker
	Local   net.IP      // to connect from; nil: the system chooses
	TLS     *tls.Config // nil: plain
	Version wire.Version

	ClientID, Username string
	Password           string // secret: never printed

	// Clean begins a session anew that ends with the connection. Otherwise it is
	// kept: in MQTT 5 for an hour.
	Clean bool

	// ReadBuffer is the size of the system's buffer for what comes in, and of the
	// reader's, in bytes; 0 leaves the former to the system and makes the latter 4 096.
	ReadBuffer int

	// AnswerTime bounds the wait for the answer to CONNECT, SUBSCRIBE and
	// DISCONNECT; 0: 60 s.
	AnswerTime time.Duration
}

// keptTime is the Session Expiry Interval of a kept session, in seconds.
const keptTime = 3600

// RefusedError is a CONNACK that is no success.
type RefusedError struct{ Code wire.Code }

// Error names the code.
func (e *RefusedError) Error() string { return fmt.Sprintf("refused: CONNACK %#02x", byte(e.Code)) }

// Conn is one connection. It is not safe for concurrent use, except that Close
// ends whatever another goroutine does with it.
type Conn struct {
	Version wire.Version
	Present bool // the broker had the session

	conn   net.Conn
	in     *bufio.Reader
	large  []byte
	packet Packet
	answer time.Duration
	lastID uint16
}

// Dial connects and waits for CONNACK. The caller closes the Conn.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	dialer := net.Dialer{Timeout: c.answerTime()}
	if c.Local != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: c.Local}
	}
	conn, err := dialer.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && c.ReadBuffer > 0 {
		if err := tcp.SetReadBuffer(c.ReadBuffer); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if c.TLS != nil {
		conn = tls.Client(conn, c.TLS)
	}
	size := c.ReadBuffer
	if size == 0 {
		size = 4096
	}
	out := &Conn{Version: c.Version, conn: conn, in: bufio.NewReaderSize(conn, size), answer: c.answerTime()}
	// A caller that gives up need not wait for the answer.
	unbind := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unbind()
	if err := out.hello(c); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return out, nil
}

func (c Config) answerTime() time.Duration {
	if c.AnswerTime > 0 {
		return c.AnswerTime
	}
	return time.Minute
}

func (c *Conn) hello(config Config) error {
	connect := wire.Connect{
		Version: config.Version, ClientID: config.ClientID, CleanStart: config.Clean,
		HasUsername: config.Username != "", Username: config.Username,
		HasPassword: config.Password != "", Password: []byte(config.Password),
	}
	if config.Version == wire.V5 && !config.Clean {
		connect.HasSessionExpiry, connect.SessionExpiry = true, keptTime
	}
	p, err := c.ask(wiretest.Connect(&connect), wire.TypeConnack, nil)
	if err != nil {
		return err
	}
	if p.Code != wire.Success {
		return &RefusedError{p.Code}
	}
	c.Present = p.Present
	return nil
}

// ask writes a request and waits for its answer. What comes before it is given
// to other, which may be nil where nothing else may come.
func (c *Conn) ask(request []byte, want wire.Type, other func(*Packet) error) (*Packet, error) {
	if err := c.conn.SetDeadline(time.Now().Add(c.answer)); err != nil {
		return nil, err
	}
	if err := c.Write(request); err != nil {
		return nil, err
	}
	for {
		p, err := c.Next()
		switch {
		case err != nil:
			return nil, err
		case p.Type == want:
			return p, c.conn.SetDeadline(time.Time{})
		case other == nil:
			return nil, fmt.Errorf("%s came, want %s", p.Type, want)
		}
		if err := other(p); err != nil {
			return nil, err
		}
	}
}

// Next waits for a packet. It is valid until the next call.
func (c *Conn) Next() (*Packet, error) {
	first, body, err := read(c.in, &c.large)
	if err != nil {
		return nil, err
	}
	return &c.packet, c.packet.parse(c.Version, first, body)
}

// Buffered reports whether more has been read already: answers can wait for it.
func (c *Conn) Buffered() bool { return c.in.Buffered() > 0 }

// Write sends b as it is; nothing is buffered.
func (c *Conn) Write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.conn.Write(b)
	return err
}

// Subscribe subscribes to the filters in one packet and waits for the SUBACK,
// which has to grant qos to each. What comes before it is given to other.
func (c *Conn) Subscribe(qos byte, other func(*Packet) error, filters ...string) error {
	c.lastID = c.lastID%1000 + 1
	request := wire.Subscribe{PacketID: c.lastID}
	for _, filter := range filters {
		request.Filters = append(request.Filters, wire.Subscription{Filter: filter, QoS: qos})
	}
	p, err := c.ask(wiretest.Subscribe(c.Version, &request), wire.TypeSuback, other)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if len(p.Codes) != len(filters) {
		return fmt.Errorf("subscribe: %d codes for %d filters", len(p.Codes), len(filters))
	}
	for i, code := range p.Codes {
		if code != qos {
			return fmt.Errorf("subscribe to %s: code %#02x", filters[i], code)
		}
	}
	return nil
}

// Unsubscribe ends the subscriptions and waits for the UNSUBACK.
func (c *Conn) Unsubscribe(other func(*Packet) error, filters ...string) error {
	c.lastID = c.lastID%1000 + 1
	request := wire.Unsubscribe{PacketID: c.lastID, Filters: filters}
	_, err := c.ask(wiretest.Unsubscribe(c.Version, &request), wire.TypeUnsuback, other)
	return err
}

// Disconnect says goodbye and waits until the broker has closed the connection.
func (c *Conn) Disconnect() error {
	err := c.conn.SetDeadline(time.Now().Add(c.answer))
	if err == nil {
		err = c.Write(wiretest.Disconnect(c.Version, &wire.Disconnect{}))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c.in)
	}
	return errors.Join(err, c.conn.Close())
}

// Close cuts the connection.
func (c *Conn) Close() error { return c.conn.Close() }
