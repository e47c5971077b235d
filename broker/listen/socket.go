package listen

import (
	"net"
	"sync"
)

// socket is an accepted connection below TLS, where that is more than the plain
// one: it may lie behind a proxy, and somebody may wait for its end.
type socket struct {
	net.Conn
	remote net.Addr // of the peer; nil: what Conn says
	ahead  []byte   // read already, comes before the rest; the reader's own

	conn   *Conn         // made of it; nil unless somebody else serves it
	ended  chan struct{} // closed by Close; nil if nobody waits
	ending sync.Once
}

func (s *socket) Read(p []byte) (int, error) {
	if len(s.ahead) == 0 {
		return s.Conn.Read(p)
	}
	n := copy(p, s.ahead)
	if s.ahead = s.ahead[n:]; len(s.ahead) == 0 {
		s.ahead = nil
	}
	return n, nil
}

func (s *socket) RemoteAddr() net.Addr {
	if s.remote != nil {
		return s.remote
	}
	return s.Conn.RemoteAddr()
}

// CloseWrite says goodbye where the connection can, and else ends it.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.Close()
}

func (s *socket) Close() error {
	err := s.Conn.Close()
	if s.ended != nil {
		s.ending.Do(func() { close(s.ended) })
	}
	return err
}
