package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer collects a log as text and says when a line came.
type logBuffer struct {
	state struct {
		sync.Mutex
		changed *sync.Cond
		text    bytes.Buffer
	}
}

func newLog() *logBuffer {
	b := new(logBuffer)
	b.state.changed = sync.NewCond(&b.state)
	return b
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.state.Lock()
	defer b.state.Unlock()
	b.state.changed.Broadcast()
	return b.state.text.Write(p)
}

func (b *logBuffer) String() string {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.text.String()
}

// await returns when want is in the log n times.
func (b *logBuffer) await(t *testing.T, n int, want string) {
	t.Helper()
	late := false
	alarm := time.AfterFunc(time.Minute, func() {
		b.state.Lock()
		defer b.state.Unlock()
		late = true
		b.state.changed.Broadcast()
	})
	defer alarm.Stop()
	b.state.Lock()
	defer b.state.Unlock()
	for strings.Count(b.state.text.String(), want) < n {
		if late {
			t.Fatalf("%q was not logged %d times:\n%s", want, n, &b.state.text)
		}
		b.state.changed.Wait()
	}
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// clock is a settable time.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time { return c.at }

func mustOpen(t *testing.T, dir string, names Names, now func() time.Time) *Authority {
	t.Helper()
	a, err := Open(dir, names, now)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return a
}

// serial names the certificate in use.
func serial(a *Authority) string { return a.current.Load().Leaf.SerialNumber.String() }

// tlsServer completes handshakes on loopback until the test ends and returns
// its address.
func tlsServer(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(io.Discard, c) // handshakes, then waits for the client to go
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// shown does a handshake and returns the certificate the server showed.
func shown(address string, config *tls.Config) (*x509.Certificate, error) {
	dialer := &net.Dialer{Timeout: time.Minute}
	c, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyFiles copies files from one folder to another.
func copyFiles(t *testing.T, from, to string, names ...string) {
	t.Helper()
	for _, name := range names {
		mustWrite(t, filepath.Join(to, name), mustRead(t, filepath.Join(from, name)))
	}
}
