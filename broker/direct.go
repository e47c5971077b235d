package broker

import (
	"io"
	"net"
	"os"
	"syscall"
)

// direct reads and writes a socket of the connection's own goroutine.
//
// Its writes never wait: what does not fit the kernel's buffer stays with the
// caller. So a connection can send what it has just delivered itself, where a
// flusher would cost two changes of goroutine for each packet. Its reads say when
// they are about to wait: as long as there is more to read, what was delivered
// need not be sent yet, and leaves together.
type direct struct {
	socket syscall.RawConn

	// Made once, so that no call allocates.
	tryWrite, tryRead func(fd uintptr) bool
	out, in           []byte
	wrote, read       int
	writeErr, readErr error
	idle              func() // called before a read waits
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
	d.tryWrite = func(fd uintptr) bool {
		d.wrote, d.writeErr = syscall.Write(int(fd), d.out)
		return true // whatever came of it: not to wait is the point
	}
	d.tryRead = func(fd uintptr) bool {
		for {
			d.read, d.readErr = syscall.Read(int(fd), d.in)
			if d.readErr != syscall.EINTR { //nolint:errorlint // the system call's own
				break
			}
		}
		if d.readErr == syscall.EAGAIN { //nolint:errorlint // as above
			d.idle()
			return false
		}
		return true
	}
	return d
}

// write writes what the socket takes at once, which may be nothing. What went
// wrong the flusher will meet again.
func (d *direct) write(buf []byte) int {
	d.out, d.wrote, d.writeErr = buf, 0, nil
	err := d.socket.Write(d.tryWrite)
	d.out = nil
	if err != nil || d.writeErr != nil || d.wrote < 0 {
		return 0
	}
	return d.wrote
}

// readInto reads like net.Conn, and calls idle each time before it waits.
func (d *direct) readInto(buf []byte, idle func()) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	d.in, d.idle, d.read, d.readErr = buf, idle, 0, nil
	err := d.socket.Read(d.tryRead)
	d.in, d.idle = nil, nil
	switch {
	case err != nil:
		return 0, err
	case d.readErr != nil:
		return 0, os.NewSyscallError("read", d.readErr)
	case d.read <= 0:
		return 0, io.EOF
	}
	return d.read, nil
}
