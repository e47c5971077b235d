package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cordon-mq/cordon/broker/pki/acme/acmetest"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// certificateAt is what a server name shows to a client that trusts roots alone.
func certificateAt(ctx context.Context, address, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// While a certificate is replaced again and again no handshake fails, and each shows
// one that was uploaded. The trial "certificates" does it at a rate, and for long.
func TestCertificatesReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	const name = "demo01.messaging.localhost"
	root := certificatetest.New(t, "Root")
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate)
	upload := func() string {
		leaf := root.Issue("", func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})
		if status := w.call(t, http.MethodPut, "/authentication/servercertificate", uploadOf(t, leaf)); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		return leaf.Certificate.SerialNumber.String()
	}
	uploaded := map[string]bool{upload(): true}

	var done atomic.Bool
	var clients sync.WaitGroup
	var results struct {
		sync.Mutex
		seen   map[string]bool
		count  int
		failed []error
	}
	results.seen = map[string]bool{}
	for i := range 8 {
		address := []string{w.address, w.https}[i%2]
		clients.Go(func() {
			for last := false; !last; {
				last = done.Load() // one more after the end
				c, err := certificateAt(t.Context(), address, name, roots)
				results.Lock()
				results.count++
				if err != nil {
					results.failed = append(results.failed, err)
				} else {
					results.seen[c.SerialNumber.String()] = true
				}
				results.Unlock()
			}
		})
	}
	last := ""
	for range 25 {
		last = upload()
		uploaded[last] = true
	}
	done.Store(true)
	clients.Wait()
	for _, err := range results.failed {
		t.Error(err)
	}
	for serial := range results.seen {
		if !uploaded[serial] {
			t.Errorf("%s was shown and never uploaded", serial)
		}
	}
	if !results.seen[last] || results.count < 8 {
		t.Errorf("the last one was not seen in %d handshakes", results.count)
	}
}

// The whole program gets a certificate from an ACME server, which looks for the proof at
// its HTTPS port, and shows it on both TLS ports.
func TestACME(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	authority := acmetest.Open(t, 1, port, 0)
	rootFile := filepath.Join(t.TempDir(), "acme.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw})
	if err := os.WriteFile(rootFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w := startWeb(t, "CORDON_HTTPS=127.0.0.1:"+strconv.Itoa(port), "CORDON_DOMAIN=example.com",
		"CORDON_ACME_DIRECTORY="+authority.URL+"/dir", "CORDON_ACME_EMAIL=operator@example.com", "CORDON_ACME_CA="+rootFile,
		"CORDON_ACME_DOMAIN=mqtt.example.com,{org}.messaging.example.com")
	for _, name := range []string{"mqtt.example.com", "demo01.messaging.example.com"} {
		if _, err := w.await(regexp.MustCompile(`msg="certificate over ACME is shown" name=` + regexp.QuoteMeta(name))); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{w.address, w.https} {
			if _, err := certificateAt(t.Context(), address, name, authority.Trust); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// Whoever trusts the platform's own authority is not concerned.
	own := w.tls(t)
	if _, err := certificateAt(t.Context(), w.address, "localhost", own.RootCAs); err != nil {
		t.Error(err)
	}
	// What an organisation uploads goes before it.
	root := certificatetest.New(t, "Root")
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate)
	leaf := root.Issue("", func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"demo01.messaging.example.com"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	if status := w.call(t, http.MethodPut, "/authentication/servercertificate", uploadOf(t, leaf)); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if _, err := certificateAt(t.Context(), w.address, "demo01.messaging.example.com", roots); err != nil {
		t.Error(err)
	}
}
