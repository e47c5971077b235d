package listentest

import (
	"net"
	"net/netip"
	"sync"
)

// Listener accepts what its own Dial connects. Make one with NewListener.
type Listener struct {
	queue struct {
		sync.Mutex
		changed  *sync.Cond
		waiting  []net.Conn // dialled, not accepted
		closed   bool
		lastPort uint16 // of the clients made by Dial
	}
}

// NewListener returns an open listener.
func NewListener() *Listener {
	l := new(Listener)
	l.queue.changed = sync.NewCond(&l.queue)
	return l
}

// Addr returns 127.0.0.1:1883, whatever is listening elsewhere.
func (l *Listener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:1883"))
}

// Dial connects from 127.0.0.1 and a port of its own. It never blocks. On a
// closed listener the result is a connection that the other side has closed.
func (l *Listener) Dial() net.Conn {
	l.queue.Lock()
	l.queue.lastPort++
	port := l.queue.lastPort
	l.queue.Unlock()
	return l.DialFrom(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
}

// DialFrom is Dial from a given address, which the accepted connection reports
// as its remote address.
func (l *Listener) DialFrom(from netip.AddrPort) net.Conn {
	client, server := pipe(net.TCPAddrFromAddrPort(from), l.Addr())
	l.queue.Lock()
	defer l.queue.Unlock()
	if l.queue.closed {
		_ = server.Close()
		return client
	}
	l.queue.waiting = append(l.queue.waiting, server)
	l.queue.changed.Signal()
	return client
}

// Accept returns the connection dialled first, and net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	l.queue.Lock()
	defer l.queue.Unlock()
	for len(l.queue.waiting) == 0 && !l.queue.closed {
		l.queue.changed.Wait()
	}
	if l.queue.closed {
		return nil, net.ErrClosed
	}
	conn := l.queue.waiting[0]
	l.queue.waiting = l.queue.waiting[1:]
	return conn, nil
}

// Close ends Accept and closes the connections nobody accepted.
func (l *Listener) Close() error {
	l.queue.Lock()
	defer l.queue.Unlock()
	for _, conn := range l.queue.waiting {
		_ = conn.Close()
	}
	l.queue.waiting = nil
	l.queue.closed = true
	l.queue.changed.Broadcast()
	return nil
}
