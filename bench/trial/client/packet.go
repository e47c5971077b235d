package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cordon-mq/cordon/broker/wire"
)

// maxPacket is the most bytes that a broker has a reason to send here in one.
const maxPacket = 1 << 20

// ErrMalformed is a packet that breaks the protocol.
var ErrMalformed = errors.New("the broker sent a malformed packet")

// Packet is one packet of the broker. Fields that its type does not have are
// zero; of the properties none is kept.
type Packet struct {
	Type    wire.Type
	QoS     byte
	Dup     bool
	Retain  bool
	Present bool      // CONNACK: the broker has the session
	ID      uint16    // packet identifier
	Code    wire.Code // of CONNACK, DISCONNECT and acknowledgements; in MQTT 3.1.1 a CONNACK's return code
	Codes   []byte    // of SUBACK
	Topic   []byte
	Payload []byte
}

// read returns the next frame; the body is valid until the next call.
func read(in *bufio.Reader, buf *[]byte) (first byte, body []byte, err error) {
	if first, err = in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 21 {
			return 0, nil, fmt.Errorf("%w: length", ErrMalformed)
		}
	}
	if length > maxPacket {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, length)
	}
	if length <= in.Size() { // no copy
		body, err := in.Peek(length)
		if err == nil {
			_, err = in.Discard(length)
		}
		return first, body, err
	}
	if cap(*buf) < length {
		*buf = make([]byte, length)
	}
	body = (*buf)[:length]
	for got := 0; got < length; {
		n, err := in.Read(body[got:])
		if err != nil {
			return 0, nil, err
		}
		got += n
	}
	return first, body, nil
}

// parse decodes one frame into p. What it keeps of the body aliases it.
func (p *Packet) parse(v wire.Version, first byte, body []byte) error {
	*p = Packet{Type: wire.Type(first >> 4)}
	c := cursor{rest: body}
	switch p.Type {
	case wire.TypeConnack:
		p.Present = c.byte()&1 != 0
		p.Code = wire.Code(c.byte())
	case wire.TypePublish:
		p.QoS, p.Dup, p.Retain = first>>1&3, first&8 != 0, first&1 != 0
		p.Topic = c.bytes(int(c.uint16()))
		if p.QoS > 0 {
			p.ID = c.uint16()
			c.failed = c.failed || p.ID == 0
		}
		c.properties(v)
		c.failed = c.failed || p.QoS == 3
		p.Payload = c.rest
	case wire.TypePuback, wire.TypePubrec, wire.TypePubrel, wire.TypePubcomp:
		p.ID = c.uint16()
		if v == wire.V5 && len(c.rest) > 0 {
			p.Code = wire.Code(c.byte())
		}
	case wire.TypeSuback, wire.TypeUnsuback:
		p.ID = c.uint16()
		c.properties(v)
		p.Codes = c.rest
	case wire.TypeDisconnect:
		if len(c.rest) > 0 {
			p.Code = wire.Code(c.byte())
		}
	case wire.TypePingresp:
	default:
		return fmt.Errorf("%w: type %d", ErrMalformed, first>>4)
	}
	if c.failed {
		return fmt.Errorf("%w: %s", ErrMalformed, p.Type)
	}
	return nil
}

// cursor reads a body from front to back. After a failure it yields zeros.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) bytes(n int) []byte {
	if c.failed || len(c.rest) < n {
		c.failed, c.rest = true, nil
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cursor) byte() byte {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// properties skips them; MQTT 3.1.1 has none.
func (c *cursor) properties(v wire.Version) {
	if v != wire.V5 {
		return
	}
	length := 0
	for shift := 0; shift <= 21; shift += 7 {
		b := c.byte()
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			c.bytes(length)
			return
		}
	}
	c.failed = true
}
