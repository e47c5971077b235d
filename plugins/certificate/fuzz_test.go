package certificate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// What passes is what it has to be, however it was made.
func FuzzParseAuthority(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseAuthority(data, time.Time{})
		if err != nil {
			return
		}
		again, err := ParseAuthority(c.Raw, time.Time{})
		if err != nil || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || AuthorityID(again) != AuthorityID(c) {
			t.Fatalf("accepted %x: %v", data, err)
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"), []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, data, extension []byte) {
		if _, err := ParseList(data, &x509.Certificate{}); err == nil {
			t.Fatal("a list that nobody signed")
		}
		var l List
		if l.distribution(extension) == nil && len(l.points) > len(extension) {
			t.Fatalf("%d points in %d bytes", len(l.points), len(extension))
		}
	})
}

// A name stands for one organisation's one subject, or a type of them.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"d:acme01:sensor:d1", "A:acme01:app:i", "d:sensor:", "certificate/a/b/c:1,d:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, mine, err := parseClientID(s); mine && err == nil {
			if c.org.IsZero() || c.kind == policy.KindNobody || c.kind != policy.KindApplication && (c.typ == "" || c.id == "") || c.kind == policy.KindApplication && c.app == "" {
				t.Fatalf("%q is %+v", s, c)
			}
		}
		if n, ok := parseName(s); ok && n.kind != policy.KindApplication && n.typ == "" {
			t.Fatalf("%q stands for everybody", s)
		}
		if p, ok := ParseProof(s); ok && p.String() != s {
			t.Fatalf("%q became %q", s, p)
		}
	})
}

// Nothing that a stranger makes of a good certificate is anybody's: what is accepted
// has the bytes that were signed.
func FuzzPresented(f *testing.F) {
	root, leaf := good(f)
	f.Add(leaf)
	f.Add(root)
	anchor, err := x509.ParseCertificate(root)
	if err != nil {
		f.Fatal(err)
	}
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		f.Fatal(err)
	}
	trust := NewTrust(org, 1, false, []Anchor{{Certificate: anchor, Version: 1}}, nil)
	v := New(Config{Authorities: only{trust}, Revocation: nobody{}, Domain: "localhost", Now: func() time.Time { return anchor.NotBefore.Add(time.Hour) }})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := x509.ParseCertificate(data)
		if err != nil {
			return
		}
		p, err := v.Verify(t.Context(), &plugins.Credential{
			Client: policy.Client{ID: "d:acme01:sensor:d1", TLS: &policy.TLS{SNI: "acme01.localhost"}}, Chain: []*x509.Certificate{c, anchor},
		})
		if err == nil && (!bytes.Equal(data, leaf) || p.ID != "d1") {
			t.Fatalf("%x is %+v", data, p)
		}
	})
}

type only struct{ trust *Trust }

func (o only) CertificateTrust(context.Context, policy.OrgID) (*Trust, error) { return o.trust, nil }

type nobody struct{}

func (nobody) Check(context.Context, *Trust, []*x509.Certificate) error { return nil }

// good is an authority and a certificate of it.
func good(tb testing.TB) (root, leaf []byte) {
	tb.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			tb.Fatal(err)
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	return read("root.pem"), read("leaf.pem")
}
