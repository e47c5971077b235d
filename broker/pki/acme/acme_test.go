package acme_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/pki/acme"
	"github.com/cordon-mq/cordon/broker/pki/acme/acmetest"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"), // the test's authority
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
	)
}

const patience = 20 * time.Second

// lines is a log whose growth can be waited for.
type lines struct {
	guarded struct {
		sync.Mutex
		text bytes.Buffer
	}
	grown chan struct{}
}

func newLines() *lines { return &lines{grown: make(chan struct{}, 1)} }

func (l *lines) Write(b []byte) (int, error) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return l.guarded.text.Write(b)
}

func (l *lines) String() string {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return l.guarded.text.String()
}

// await waits for count lines with what in them.
func (l *lines) await(t *testing.T, what string, count int) {
	t.Helper()
	end := time.After(patience)
	for strings.Count(l.String(), what) < count {
		select {
		case <-l.grown:
		case <-end:
			t.Fatalf("no %q ×%d in the log:\n%s", what, count, l)
		}
	}
}

// server is a listener as a node has it: a platform's own certificate, and a Keeper's
// before it.
type server struct {
	*acme.Keeper
	t       *testing.T
	port    int
	address net.Addr
	own     *x509.Certificate
	log     *lines
	serve   func() // from then on connections are accepted
	stop    func()
}

func openServer(t *testing.T, dir string, a func(port int) *acmetest.Authority, change ...func(*acme.Config)) (*server, *acmetest.Authority) {
	t.Helper()
	s := &server{t: t, log: newLines()}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address, s.port = inner.Addr(), inner.Addr().(*net.TCPAddr).Port
	ca := a(s.port)
	cfg := acme.Config{Directory: ca.URL + "/dir", Email: "operator@example.com", Roots: ca.Roots, Dir: dir, Log: slog.New(slog.NewTextHandler(s.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	if s.Keeper, err = acme.New(cfg); err != nil {
		t.Fatal(err)
	}
	own := certificatetest.New(t, "Platform").Issue("platform").TLS()
	s.own = own.Leaf
	config := s.Before(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }})
	l := listen.New(inner, listen.Config{Name: "mqtts", TLS: config, RequestClientCert: func() bool { return true }})
	ended := make(chan error, 1)
	s.serve = func() {
		go func() { ended <- l.Serve(func(c *listen.Conn) { _, _ = io.Copy(c, c) }) }()
	}
	s.stop = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s, ca
}

func (s *server) start(names ...string) {
	s.t.Helper()
	if err := s.Start(s.address, names); err != nil {
		s.t.Fatal(err)
	}
	s.serve()
}

// dial is a handshake for a server name.
func (s *server) dial(config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.address.String())
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// shown is what a client sees that trusts the authority, or anybody where trust is nil.
func (s *server) shown(name string, trust *x509.CertPool) *x509.Certificate {
	s.t.Helper()
	conn, err := s.dial(&tls.Config{ServerName: name, RootCAs: trust, InsecureSkipVerify: trust == nil, NextProtos: []string{"mqtt"}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestCertificateOverTLSALPN(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	s, ca := openServer(t, dir, func(port int) *acmetest.Authority { return acmetest.Open(t, 1, port, 0) })
	const name, org = "mqtt.example.com", "acme01.messaging.example.com"
	s.start(name, org, "*.example.com", "192.0.2.1.")
	s.log.await(t, "certificate over ACME is shown", 2)
	for _, n := range []string{name, org} {
		if c := s.shown(n, ca.Trust); c.VerifyHostname(n) != nil {
			t.Errorf("%s shows %q", n, c.DNSNames)
		}
	}
	if c := s.shown("other.example.com", nil); !c.Equal(s.own) {
		t.Errorf("another name shows %q", c.DNSNames)
	}
	// Nobody is shown a proof when none is under way, and none of the protocol gets through.
	if conn, err := s.dial(&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{acme.Protocol}}); err == nil {
		_ = conn.Close()
		t.Error("a proof is shown")
	}
	first := s.shown(name, ca.Trust)
	s.SetNames([]string{name})
	if c := s.shown(org, nil); !c.Equal(s.own) {
		t.Errorf("a name that is gone shows %q", c.DNSNames)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.log.String(), "PRIVATE") || strings.Contains(s.log.String(), "no certificate over ACME") {
		t.Errorf("log:\n%s", s.log)
	}
	s.stop()

	// After a restart it is shown from the first handshake on, without the authority.
	again, _ := openServer(t, dir, func(int) *acmetest.Authority { return ca })
	ca.Close()
	again.start(name)
	if c := again.shown(name, ca.Trust); !c.Equal(first) {
		t.Errorf("after a restart %x, before %x", c.SerialNumber, first.SerialNumber)
	}
}

// A certificate is renewed before it ends; what is shown meanwhile is always one.
func TestRenewal(t *testing.T) {
	s, ca := openServer(t, t.TempDir(), func(port int) *acmetest.Authority { return acmetest.Open(t, 1, port, 3*time.Second) })
	const name = "mqtt.example.com"
	s.start(name)
	s.log.await(t, "certificate over ACME is shown", 1)
	first := s.shown(name, nil)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); s.shown(name, nil).Equal(first); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("not renewed; log:\n%s", s.log)
		}
		s.SetNames([]string{name}) // looks again
	}
	if c := s.shown(name, nil); c.Equal(s.own) || !c.NotAfter.After(first.NotAfter) {
		t.Errorf("renewed to %v, from %v", c.NotAfter, first.NotAfter)
	}

	// Without the authority the last one stays, and the log says what to do, once for
	// each attempt: the next is minutes away.
	ca.Close()
	for end := time.Now().Add(patience); !strings.Contains(s.log.String(), "no certificate over ACME"); <-ticker.C {
		if time.Now().After(end) {
			t.Fatal("no failure in the log")
		}
		s.SetNames([]string{name})
	}
	if c := s.shown(name, nil); c.Equal(s.own) {
		t.Error("the last one is not shown any more")
	}
	s.SetNames([]string{name})
	_ = s.shown(name, nil)
	if said := s.log.String(); strings.Count(said, "no certificate over ACME") != 1 || !strings.Contains(said, "valid until") || !strings.Contains(said, "again_in=5m0s") || !strings.Contains(said, "port 443") {
		t.Errorf("log:\n%s", said)
	}
}

// A name that does not lead here cannot be had, and clients are shown what they were.
func TestNameThatLeadsElsewhere(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	defer elsewhere.Close()
	s, _ := openServer(t, t.TempDir(), func(int) *acmetest.Authority {
		return acmetest.Open(t, 1, elsewhere.Listener.Addr().(*net.TCPAddr).Port, 0)
	})
	s.start("mqtt.example.com")
	s.log.await(t, "no certificate over ACME", 1)
	if c := s.shown("mqtt.example.com", nil); !c.Equal(s.own) {
		t.Errorf("shows %q", c.DNSNames)
	}
	if !strings.Contains(s.log.String(), "the platform's own certificate") {
		t.Errorf("log:\n%s", s.log)
	}
}

// An authority that the roots do not vouch for is told nothing.
func TestAuthorityThatIsNotTrusted(t *testing.T) {
	s, _ := openServer(t, t.TempDir(), func(port int) *acmetest.Authority { return acmetest.Open(t, 1, port, 0) },
		func(c *acme.Config) { c.Roots = x509.NewCertPool() })
	s.start("mqtt.example.com")
	s.log.await(t, "no certificate over ACME", 1)
	if !strings.Contains(s.log.String(), "unknown authority") {
		t.Errorf("log:\n%s", s.log)
	}
}

func TestCertificateOverHTTP(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port, address := free.Addr().(*net.TCPAddr).Port, free.Addr().String()
	_ = free.Close()
	s, ca := openServer(t, t.TempDir(), func(int) *acmetest.Authority { return acmetest.Open(t, port, 1, 0) }, func(c *acme.Config) { c.HTTP = address })
	s.start("mqtt.example.com")
	s.log.await(t, "certificate over ACME is shown", 1)
	_ = s.shown("mqtt.example.com", ca.Trust)
	if l, err := net.Listen("tcp", address); err != nil {
		t.Errorf("the plain listener is still open: %v", err)
	} else {
		_ = l.Close()
	}
}

// Close ends an attempt that is under way.
func TestCloseWhileAsking(t *testing.T) {
	asked, let := make(chan struct{}, 1), make(chan struct{})
	silent := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-r.Context().Done():
		case <-let:
		}
	}))
	defer silent.Close()
	defer close(let)
	a := &acmetest.Authority{Server: silent, Roots: x509.NewCertPool()}
	a.Roots.AddCert(silent.Certificate())
	s, _ := openServer(t, t.TempDir(), func(int) *acmetest.Authority { return a })
	s.start("mqtt.example.com")
	<-asked
	s.stop()
	if strings.Contains(s.log.String(), "no certificate over ACME") {
		t.Errorf("log:\n%s", s.log)
	}
}
