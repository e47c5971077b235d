package listentest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// BufferSize is how many bytes one direction of a connection holds. A write
// that does not fit blocks until the other side reads.
const BufferSize = 64 << 10

// pipe returns the two ends of a connection.
func pipe(a, b net.Addr) (net.Conn, net.Conn) {
	ab, ba := newStream(), newStream()
	return &end{in: ba, out: ab, local: a, remote: b},
		&end{in: ab, out: ba, local: b, remote: a}
}

// end is one end of a connection.
type end struct {
	in, out       *stream
	local, remote net.Addr
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr         { return e.local }
func (e *end) RemoteAddr() net.Addr        { return e.remote }

func (e *end) Close() error {
	e.in.closeReader()
	e.out.closeWriter()
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	return errors.Join(e.SetReadDeadline(t), e.SetWriteDeadline(t))
}

func (e *end) SetReadDeadline(t time.Time) error {
	return e.in.setDeadline(&e.in.state.reader, t)
}

func (e *end) SetWriteDeadline(t time.Time) error {
	return e.out.setDeadline(&e.out.state.writer, t)
}

// stream carries bytes one way.
type stream struct {
	state struct {
		sync.Mutex
		changed        *sync.Cond
		buf            []byte // sent, not read; at most BufferSize
		reader, writer side
	}
}

// side is what one end has done to its half of a stream.
type side struct {
	closed  bool
	late    bool        // the deadline has passed
	pending *time.Timer // makes late true; nil without a deadline to come
}

func newStream() *stream {
	s := new(stream)
	s.state.changed = sync.NewCond(&s.state)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.state.Lock()
	defer s.state.Unlock()
	for {
		switch {
		case s.state.reader.closed:
			return 0, net.ErrClosed
		case s.state.reader.late:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.state.buf) > 0:
			n := copy(p, s.state.buf)
			s.state.buf = append(s.state.buf[:0], s.state.buf[n:]...)
			s.state.changed.Broadcast()
			return n, nil
		case s.state.writer.closed:
			return 0, io.EOF
		}
		s.state.changed.Wait()
	}
}

func (s *stream) write(p []byte) (sent int, err error) {
	s.state.Lock()
	defer s.state.Unlock()
	for {
		switch {
		case s.state.writer.closed:
			return sent, net.ErrClosed
		case s.state.writer.late:
			return sent, os.ErrDeadlineExceeded
		case s.state.reader.closed:
			return sent, syscall.EPIPE
		case sent == len(p):
			return sent, nil
		}
		if n := min(len(p)-sent, BufferSize-len(s.state.buf)); n > 0 {
			s.state.buf = append(s.state.buf, p[sent:sent+n]...)
			sent += n
			s.state.changed.Broadcast()
			continue
		}
		s.state.changed.Wait()
	}
}

func (s *stream) closeReader() { s.closeSide(&s.state.reader) }
func (s *stream) closeWriter() { s.closeSide(&s.state.writer) }

func (s *stream) closeSide(half *side) {
	s.state.Lock()
	defer s.state.Unlock()
	half.closed = true
	half.stop()
	s.state.changed.Broadcast()
}

func (s *stream) setDeadline(half *side, t time.Time) error {
	s.state.Lock()
	defer s.state.Unlock()
	if half.closed {
		return net.ErrClosed
	}
	half.stop()
	half.late = false
	if t.IsZero() {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		half.late = true
		s.state.changed.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.state.Lock()
		defer s.state.Unlock()
		if half.pending != timer { // a newer deadline came first
			return
		}
		half.late = true
		s.state.changed.Broadcast()
	})
	half.pending = timer
	return nil
}

// stop forgets the deadline to come.
func (h *side) stop() {
	if h.pending != nil {
		h.pending.Stop()
		h.pending = nil
	}
}
