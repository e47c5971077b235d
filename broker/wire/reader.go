package wire

import "io"

const (
	firstBuffer = 512      // bytes a quiet connection costs
	fullBuffer  = 16 << 10 // bytes a busy one reads at a time; also the least step of growth
	emptyReads  = 100      // reads in a row without a byte or an error before a source is given up
)

// Reader reads the packets of one client's connection. It is not safe for
// concurrent use.
//
// The Reader buffers. Its buffer grows only as bytes arrive: never to more
// than twice what the peer has sent of the packet plus 16 KiB, whatever length the
// packet claims. When everything read is consumed, a grown buffer is given back.
type Reader struct {
	src       io.Reader
	maxPacket int

	buf      []byte
	off, end int   // buf[off:end] is read and not consumed
	readErr  error // came with the last bytes; reported once they are consumed
	err      *Error

	version       Version
	connected     bool // a CONNECT was decoded
	hasAuthMethod bool // and it named an Authentication Method

	publish Publish
	ack     Ack
	pingreq Pingreq
}

// NewReader returns a Reader of r that refuses packets of more than maxPacket
// bytes, counted with their fixed header.
func NewReader(r io.Reader, maxPacket int) *Reader {
	return &Reader{src: r, maxPacket: maxPacket}
}

// SetMaxPacket changes the limit, from the next packet on.
func (r *Reader) SetMaxPacket(n int) { r.maxPacket = n }

// Version returns the version of the CONNECT, as soon as that much of it was
// understood. Zero means that the peer speaks nothing this package knows:
// answer nothing. After an unsupported protocol level it is V5, the version to refuse it in.
func (r *Reader) Version() Version { return r.version }

// Buffered returns the number of bytes already read and not consumed. Packets
// may be complete in them: as long as it is not zero, Next may return without reading.
func (r *Reader) Buffered() int { return r.end - r.off }

// Next returns the next packet. The first is a *Connect, and no other is.
//
// A *Publish, *Ack or *Pingreq is reused and a Publish aliases the buffer, so
// both are valid until the next call; everything else is the caller's.
//
// The error is an *Error when the peer broke the protocol, which then repeats
// for ever; io.EOF when the source ended between two packets and
// io.ErrUnexpectedEOF when within one; else the error of the source, after
// which Next may be called again.
func (r *Reader) Next() (Packet, error) {
	if r.err != nil {
		return nil, r.err
	}
	first, header, remaining, err := r.header()
	if err != nil {
		return nil, err
	}
	if err := r.fill(header + remaining); err != nil {
		return nil, err
	}
	body := r.buf[r.off+header : r.off+header+remaining]
	r.off += header + remaining
	p, bad := r.decode(first, body)
	if bad != nil {
		return nil, r.refuse(bad)
	}
	r.connected = true
	return p, nil
}

func (r *Reader) refuse(e *Error) error {
	r.err = e
	return e
}

// header reads the fixed header without consuming it: the first byte, the
// size of the header and the remaining length. All it says is judged before any of the body is read.
func (r *Reader) header() (first byte, header, remaining int, err error) {
	r.recycle()
	if err := r.fill(1); err != nil {
		return 0, 0, 0, err
	}
	first = r.buf[r.off]
	if e := r.checkFirst(first); e != nil {
		return 0, 0, 0, r.refuse(e)
	}
	t := Type(first >> 4)
	for shift := 0; ; shift += 7 {
		if shift == 28 {
			return 0, 0, 0, r.refuse(&Error{MalformedPacket, t, "remaining length is longer than four bytes (MQTT 5 §2.1.4)"})
		}
		header = 2 + shift/7
		if err := r.fill(header); err != nil {
			return 0, 0, 0, err
		}
		b := r.buf[r.off+header-1]
		remaining |= int(b&0x7F) << shift
		if b&0x80 == 0 {
			if b == 0 && shift > 0 && r.version == V5 {
				return 0, 0, 0, r.refuse(&Error{MalformedPacket, t, "remaining length is longer than it need be [MQTT-1.5.5-1]"})
			}
			break
		}
	}
	if header+remaining > r.maxPacket {
		return 0, 0, 0, r.refuse(&Error{PacketTooLarge, t, "packet is larger than the server accepts [MQTT-3.2.2-15]"})
	}
	if r.emptyBody(t) && remaining != 0 || r.bareAck(t) && remaining != 2 {
		return 0, 0, 0, r.refuse(&Error{MalformedPacket, t, "remaining length does not fit the packet"})
	}
	return first, header, remaining, nil
}

func (r *Reader) emptyBody(t Type) bool {
	return t == TypePingreq || t == TypeDisconnect && r.version != V5
}

func (r *Reader) bareAck(t Type) bool {
	return t >= TypePuback && t <= TypePubcomp && r.version != V5
}

// checkFirst judges packet type and flags. Outside PUBLISH, MQTT 3.1 calls the
// flags unused or fixed by convention, so there they are not judged.
func (r *Reader) checkFirst(first byte) *Error {
	t, flags := Type(first>>4), first&0x0F
	if !r.connected {
		if t != TypeConnect {
			return &Error{ProtocolError, t, "first packet is not CONNECT [MQTT-3.1.0-1]"}
		}
		return nil // its flags depend on the version
	}
	reserved := byte(0)
	switch t {
	case TypeConnect:
		return &Error{ProtocolError, t, "second CONNECT [MQTT-3.1.0-2]"}
	case 0, TypeConnack:
		return &Error{ProtocolError, t, "not a packet a client may send (MQTT 5 §2.1.2)"}
	case TypeAuth:
		if !r.hasAuthMethod {
			return &Error{ProtocolError, t, "AUTH without Authentication Method in CONNECT [MQTT-4.12.0-7]"}
		}
	case TypePublish:
		switch {
		case flags&6 == 6:
			return &Error{MalformedPacket, t, "QoS is 3 [MQTT-3.3.1-4]"}
		case flags&6 == 0 && flags&8 != 0:
			return &Error{MalformedPacket, t, "DUP with QoS 0 [MQTT-3.3.1-2]"}
		}
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		reserved = 2
	}
	switch {
	case flags != reserved && r.version != V31:
		return &Error{MalformedPacket, t, "reserved header flags are wrong [MQTT-2.1.3-1]"}
	case t == TypeSuback, t == TypeUnsuback, t == TypePingresp:
		return &Error{ProtocolError, t, "not a packet a client may send (MQTT 5 §2.1.2)"}
	}
	return nil
}

// recycle starts over in an empty buffer and lets go of a grown one.
func (r *Reader) recycle() {
	if r.off < r.end {
		return
	}
	if len(r.buf) > fullBuffer {
		r.buf = nil
	} else if r.end == len(r.buf) && r.end == firstBuffer {
		r.buf = make([]byte, fullBuffer) // one read filled it: this peer is busy
	}
	r.off, r.end = 0, 0
}

// fill reads until n bytes are buffered.
func (r *Reader) fill(n int) error {
	empty := 0
	for r.end-r.off < n {
		if r.readErr != nil {
			return r.sourceError()
		}
		if r.end == len(r.buf) {
			r.makeRoom(n)
		}
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		r.readErr = err
		switch {
		case got > 0:
			empty = 0
		case err == nil:
			if empty++; empty == emptyReads {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

func (r *Reader) sourceError() error {
	err := r.readErr
	r.readErr = nil
	if err == io.EOF && r.off < r.end { //nolint:errorlint // an io.Reader returns io.EOF itself
		return io.ErrUnexpectedEOF
	}
	return err
}

// makeRoom moves what is buffered to the front, or grows a buffer that is full of one packet of n bytes.
func (r *Reader) makeRoom(n int) {
	have := r.end - r.off
	if r.off > 0 {
		copy(r.buf, r.buf[r.off:r.end])
	} else {
		size := firstBuffer
		if have > 0 {
			size = min(max(n, fullBuffer), have+max(have, fullBuffer))
		}
		grown := make([]byte, size)
		copy(grown, r.buf[:have])
		r.buf = grown
	}
	r.off, r.end = 0, have
}
