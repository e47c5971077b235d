package wire

import "encoding/binary"

// maxVarint is the largest variable byte integer: four bytes (MQTT 5 §1.5.5).
const maxVarint = 268_435_455

// cursor reads the fields of one packet body in order. The first failure
// sticks and moves it to the end, so a decoder reads straight on and asks once.
// What its methods return as slices aliases the body.
type cursor struct {
	body []byte
	off  int
	err  *Error
}

func (c *cursor) fail(code Code, reason string) {
	if c.err == nil {
		c.err = &Error{Code: code, Reason: reason}
	}
	c.off = len(c.body)
}

func (c *cursor) left() int { return len(c.body) - c.off }

// take returns the next n bytes.
func (c *cursor) take(n int) []byte {
	if n > c.left() {
		c.fail(MalformedPacket, "packet ends within a field")
		return nil
	}
	c.off += n
	return c.body[c.off-n : c.off : c.off]
}

func (c *cursor) uint8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer of at most four bytes in its shortest form [MQTT-1.5.5-1].
func (c *cursor) varint() uint32 {
	var value uint32
	for i := 0; i < 4; i++ {
		b := c.uint8()
		value |= uint32(b&0x7F) << (7 * i)
		if b&0x80 == 0 {
			if i > 0 && b == 0 {
				c.fail(MalformedPacket, "integer is longer than it need be [MQTT-1.5.5-1]")
			}
			return value
		}
	}
	c.fail(MalformedPacket, "integer is longer than four bytes [MQTT-1.5.5-1]")
	return 0
}

// binary reads binary data: a length of two bytes, then that many bytes. Never nil unless it failed.
func (c *cursor) binary() []byte {
	return c.take(int(c.uint16()))
}

// text reads a UTF-8 Encoded String.
func (c *cursor) text() []byte {
	b := c.binary()
	if !validText(b) {
		c.fail(MalformedPacket, "string is not acceptable UTF-8 [MQTT-1.5.4-1]")
		return nil
	}
	return b
}

// end fails when anything is left.
func (c *cursor) end() {
	if c.left() > 0 {
		c.fail(MalformedPacket, "packet is longer than its fields")
	}
}

// packetID reads a packet identifier, which is never zero [MQTT-2.2.1-3].
func (c *cursor) packetID(otherwise Code) uint16 {
	id := c.uint16()
	if id == 0 {
		c.fail(otherwise, "packet identifier is zero [MQTT-2.2.1-3]")
	}
	return id
}
