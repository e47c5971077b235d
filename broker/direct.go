package broker

import (
	"net"
	"syscall"
)

// direct writes to a socket without ever waiting: what does not fit the kernel's
// buffer stays with the caller. It is how a connection's own goroutine sends what
// it has just delivered, before it reads on, where a flusher would cost two
// changes of goroutine for each packet.
type direct struct {
	socket syscall.RawConn
	try    func(fd uintptr) bool // made once, so that a write allocates nothing
	buf    []byte
	n      int
	err    error
}

// newDirect returns nil for a connection that is no plain socket: over TLS and
// WebSocket a flusher writes.
func newDirect(c net.Conn) *direct {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	socket, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{socket: socket}
	d.try = func(fd uintptr) bool {
		d.n, d.err = syscall.Write(int(fd), d.buf)
		return true // whatever came of it: not to wait is the point
	}
	return d
}

// write writes what the socket takes at once, which may be nothing. What went
// wrong the flusher will meet again.
func (d *direct) write(buf []byte) int {
	d.buf, d.n, d.err = buf, 0, nil
	err := d.socket.Write(d.try)
	d.buf = nil
	if err != nil || d.err != nil || d.n < 0 {
		return 0
	}
	return d.n
}
