package load

import "io"

const (
	quietBuffer = 512       // bytes of a connection that says little
	busyBuffer  = 64 << 10  // bytes of one that filled the quiet one
	maxPacket   = 256 << 10 // bytes; no broker has a reason to send more here
)

// scanner cuts what a broker sends into packets. Reading and cutting are apart,
// so that one clock reading serves everything that came in one read.
type scanner struct {
	src      io.Reader
	buf      []byte
	off, end int // buf[off:end] is read and not consumed
}

func newScanner(src io.Reader) *scanner {
	return &scanner{src: src, buf: make([]byte, quietBuffer)}
}

// fill reads once. It must not be called before next has said that no packet is complete.
func (s *scanner) fill() error {
	copy(s.buf, s.buf[s.off:s.end])
	s.off, s.end = 0, s.end-s.off
	if s.end == len(s.buf) { // full of the beginning of one packet, or busy
		if s.end >= maxPacket {
			return errMalformed
		}
		grown := make([]byte, min(max(busyBuffer, 2*len(s.buf)), maxPacket))
		copy(grown, s.buf[:s.end])
		s.buf = grown
	}
	n, err := s.src.Read(s.buf[s.end:])
	if s.end += n; n > 0 {
		if s.end == len(s.buf) && len(s.buf) < busyBuffer {
			s.buf = append(s.buf, make([]byte, busyBuffer-len(s.buf))...)
		}
		return nil // an error comes again
	}
	return err
}

// next returns the next complete packet, or false when there is none. The body
// aliases the buffer: it is valid until the next fill.
func (s *scanner) next() (first byte, body []byte, ok bool, err error) {
	have := s.buf[s.off:s.end]
	length, header := 0, 1
	for shift := 0; ; shift += 7 {
		switch {
		case shift == 28:
			return 0, nil, false, errMalformed
		case header >= len(have):
			return 0, nil, false, nil
		}
		b := have[header]
		header++
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	switch {
	case header+length > maxPacket:
		return 0, nil, false, errMalformed
	case header+length > len(have):
		return 0, nil, false, nil
	}
	s.off += header + length
	return have[0], have[header : header+length], true, nil
}

// wait returns the next packet, reading as often as it takes.
func (s *scanner) wait() (first byte, body []byte, err error) {
	for {
		first, body, ok, err := s.next()
		if ok || err != nil {
			return first, body, err
		}
		if err := s.fill(); err != nil {
			return 0, nil, err
		}
	}
}
