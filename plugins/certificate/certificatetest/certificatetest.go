// Package certificatetest makes authorities, certificates and lists for tests of
// other packages. All keys are fresh.
package certificatetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority signs certificates and lists.
type Authority struct {
	tb          testing.TB
	Certificate *x509.Certificate
	Key         crypto.Signer
	above       []*x509.Certificate // below the root, nearest first
}

// New makes an authority that signs itself.
func New(tb testing.TB, name string, edit ...func(*x509.Certificate)) *Authority {
	tb.Helper()
	key := Key(tb)
	return &Authority{tb: tb, Certificate: sign(tb, authority(name, edit), nil, key, key), Key: key}
}

// Again is a certificate of a with the same name and key.
func (a *Authority) Again(edit ...func(*x509.Certificate)) *Authority {
	a.tb.Helper()
	return &Authority{tb: a.tb, Certificate: sign(a.tb, authority(a.Certificate.Subject.CommonName, edit), nil, a.Key, a.Key), Key: a.Key}
}

// Below makes an authority that a signs.
func (a *Authority) Below(name string, edit ...func(*x509.Certificate)) *Authority {
	a.tb.Helper()
	key := Key(a.tb)
	c := sign(a.tb, authority(name, edit), a.Certificate, key, a.Key)
	return &Authority{tb: a.tb, Certificate: c, Key: key, above: append([]*x509.Certificate{c}, a.above...)}
}

// Leaf is a client's certificate with its key, and what it shows beside it.
type Leaf struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Chain       []*x509.Certificate // the certificate first
}

// Issue makes a client's certificate with a common name.
func (a *Authority) Issue(name string, edit ...func(*x509.Certificate)) *Leaf {
	a.tb.Helper()
	key := Key(a.tb)
	c := sign(a.tb, template(name, edit, func(c *x509.Certificate) {
		c.KeyUsage = x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}), a.Certificate, key, a.Key)
	return &Leaf{c, key, append([]*x509.Certificate{c}, a.above...)}
}

// TLS is the leaf as a TLS client shows it.
func (l *Leaf) TLS() tls.Certificate {
	shown := tls.Certificate{PrivateKey: l.Key, Leaf: l.Certificate}
	for _, c := range l.Chain {
		shown.Certificate = append(shown.Certificate, c.Raw)
	}
	return shown
}

// List is a list of revoked certificates that a signs, in DER.
func (a *Authority) List(number int64, revoked []*x509.Certificate, edit ...func(*x509.RevocationList)) []byte {
	a.tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	for _, f := range edit {
		f(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.Key)
	if err != nil {
		a.tb.Fatal(err)
	}
	return der
}

// PEM is a certificate as text.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// Key makes a key.
func Key(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func authority(name string, edit []func(*x509.Certificate)) *x509.Certificate {
	return template(name, edit, func(c *x509.Certificate) {
		c.BasicConstraintsValid, c.IsCA = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	})
}

func template(name string, edit []func(*x509.Certificate), first func(*x509.Certificate)) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		serial = big.NewInt(1)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	first(c)
	for _, f := range edit {
		f(c)
	}
	return c
}

// sign signs template with signer's key; a nil parent is template itself. A key in
// template wins over key.
func sign(tb testing.TB, template, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	tb.Helper()
	if parent == nil {
		parent = template
	}
	public := key.Public()
	if template.PublicKey != nil {
		public = template.PublicKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
