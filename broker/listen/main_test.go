package listen_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/listen"
)

func TestMain(m *testing.M) {
	if os.Getenv(fileLimitChild) != "" {
		serveWithFewFiles()
		return
	}
	goleak.VerifyTestMain(m)
}

// logBuffer collects a log as text.
type logBuffer struct {
	state struct {
		sync.Mutex
		text bytes.Buffer
	}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.text.Write(p)
}

func (b *logBuffer) String() string {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.text.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve runs l until the returned function is called, which closes l and
// reports what Serve returned.
func serve(l *listen.Listener, handle func(*listen.Conn)) (stop func() error) {
	done := make(chan error, 1)
	go func() { done <- l.Serve(handle) }()
	return func() error {
		_ = l.Close()
		return <-done
	}
}

// echo sends everything back until the peer is done.
func echo(c *listen.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

// mustEcho sends a byte and waits for it to come back.
func mustEcho(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{42}); err != nil {
		t.Fatalf("write: %v", err)
	}
	var got [1]byte
	if _, err := io.ReadFull(c, got[:]); err != nil || got[0] != 42 {
		t.Fatalf("echoed % x, %v; want 2a", got, err)
	}
}

// closed reports whether the other side has ended c, without waiting for more.
func closed(c net.Conn) bool {
	_, err := io.Copy(io.Discard, c)
	return err == nil
}

// newTLS returns the configuration of a server and of a client that trusts it.
func newTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"broker.test"},
		// Wide enough for real time and for the year 2000 of synctest.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:  time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	server = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}
	client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "broker.test"}
	return server, client
}
