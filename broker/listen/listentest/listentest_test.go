package listentest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// connect returns both ends of a fresh connection.
func connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := NewListener()
	client = l.Dial()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestWriteDoesNotWaitForTheReader(t *testing.T) {
	t.Parallel()
	client, server := connect(t)
	sent := bytes.Repeat([]byte("cordon"), BufferSize/6)
	if n, err := client.Write(sent); n != len(sent) || err != nil {
		t.Fatalf("Write = %d, %v; want %d, nil", n, err, len(sent))
	}
	_ = client.Close()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("read %d bytes, %v; want the %d sent, then io.EOF", len(got), err, len(sent))
	}
}

func TestFullBufferBlocksTheWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := connect(t)
		var wrote int
		go func() { wrote, _ = client.Write(make([]byte, BufferSize+1)) }()
		synctest.Wait()
		if wrote != 0 {
			t.Fatalf("a write larger than the buffer returned %d without a reader", wrote)
		}
		_, _ = io.ReadFull(server, make([]byte, 1))
		synctest.Wait()
		if wrote != BufferSize+1 {
			t.Errorf("after one byte was read, Write returned %d, want %d", wrote, BufferSize+1)
		}
	})
}

func TestBlockedCallsEnd(t *testing.T) {
	t.Parallel()
	read := func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	write := func(c net.Conn) error { _, err := c.Write(make([]byte, 2*BufferSize)); return err }
	shut := func(own, _ net.Conn) { _ = own.Close() }
	shutPeer := func(_, peer net.Conn) { _ = peer.Close() }
	expire := func(own, _ net.Conn) { _ = own.SetDeadline(time.Now()) }
	tests := map[string]struct {
		block func(net.Conn) error
		end   func(own, peer net.Conn)
		want  error
	}{
		"read, own close":          {read, shut, net.ErrClosed},
		"read, peer closes":        {read, shutPeer, io.EOF},
		"read, deadline in past":   {read, expire, os.ErrDeadlineExceeded},
		"write, own close":         {write, shut, net.ErrClosed},
		"write, peer closes":       {write, shutPeer, syscall.EPIPE},
		"write, deadline in past":  {write, expire, os.ErrDeadlineExceeded},
		"read, deadline to come":   {read, func(own, _ net.Conn) { _ = own.SetReadDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded},
		"write, deadline to come":  {write, func(own, _ net.Conn) { _ = own.SetWriteDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded},
		"read, deadline shortened": {read, func(own, _ net.Conn) { _ = own.SetDeadline(time.Now().Add(time.Hour)); expire(own, nil) }, os.ErrDeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				own, peer := connect(t)
				done := make(chan error, 1)
				go func() { done <- tt.block(own) }()
				synctest.Wait()
				tt.end(own, peer)
				if err := <-done; !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}

func TestDeadlineCanBeTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := connect(t)
		_ = server.SetDeadline(time.Now().Add(time.Minute))
		_ = server.SetDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { _, _ = client.Write([]byte("x")) })
		if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("Read = %d, %v after the deadline was cleared; want 1, nil", n, err)
		}
	})
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	l := NewListener()
	from := netip.MustParseAddrPort("198.51.100.7:4711")
	clients := []net.Conn{l.DialFrom(from), l.Dial(), l.Dial()}
	seen := map[string]bool{}
	for _, client := range clients {
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := server.RemoteAddr().String(), client.LocalAddr().String(); got != want {
			t.Errorf("accepted from %s, dialled from %s", got, want)
		}
		if got := server.LocalAddr().String(); got != l.Addr().String() {
			t.Errorf("local address %s, want %s", got, l.Addr())
		}
		seen[server.RemoteAddr().String()] = true
	}
	if !seen[from.String()] || len(seen) != len(clients) {
		t.Errorf("remote addresses %v: want %s and one of its own for every Dial", seen, from)
	}
}

func TestClosedListener(t *testing.T) {
	t.Parallel()
	l := NewListener()
	before := l.Dial()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	after := l.Dial()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v, want net.ErrClosed", err)
	}
	for name, conn := range map[string]net.Conn{"dialled before": before, "dialled after": after} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: Read = %v, want io.EOF", name, err)
		}
	}
}
