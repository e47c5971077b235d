// Package acmetest runs an ACME server for tests: pebble, by those who run Let's Encrypt.
// The environment of the process is changed, so its tests are not parallel.
package acmetest

import (
	"crypto/x509"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority is pebble, the ACME server that Let's Encrypt tests clients with. It looks
// at every name on the loopback interface, on the ports it is given.
type Authority struct {
	*httptest.Server
	Roots *x509.CertPool // of the server itself
	Trust *x509.CertPool // of what it issues
}

// Open starts an authority that proves names on these ports and issues certificates that
// last for validity; 0: as long as pebble likes.
func Open(tb testing.TB, httpPort, tlsPort int, validity time.Duration) *Authority {
	tb.Helper()
	tb.Setenv("PEBBLE_VA_NOSLEEP", "1")
	tb.Setenv("PEBBLE_AUTHZREUSE", "0")
	discard := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	store := db.NewMemoryStore()
	issuer := ca.New(discard, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: uint64(validity / time.Second)}})
	front := wfe.New(discard, store, va.New(discard, httpPort, tlsPort, false, resolver(tb), store), issuer, []string{"localhost"}, false, false, 1, 1)
	a := &Authority{Server: httptest.NewTLSServer(front.Handler()), Trust: x509.NewCertPool()}
	tb.Cleanup(a.Close)
	a.Roots = x509.NewCertPool()
	a.Roots.AddCert(a.Certificate())
	a.Trust.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// resolver is a DNS server that has every name here.
func resolver(tb testing.TB) string {
	tb.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0") // as pebble asks
	if err != nil {
		tb.Fatal(err)
	}
	server := &dns.Server{Listener: socket, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(answer)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	tb.Cleanup(func() { _ = socket.Close(); <-done })
	return socket.Addr().String()
}
