package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

func forServer(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

func chainPEM(chain ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, certificatetest.PEM(c)...)
	}
	return out
}

func keyPEM(tb testing.TB, blockType string, der []byte, err error) []byte {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

func TestParseChain(t *testing.T) {
	t.Parallel()
	const name = "acme01.messaging.example.com"
	now := time.Now()
	root := certificatetest.New(t, "Root")
	below := root.Below("Below")
	good := below.Issue("", forServer(name, "ACME01.example.com"))
	chain, err := pki.ParseChain(chainPEM(good.Chain...), now)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(chain.Names, []string{name, "acme01.example.com"}) || len(chain.DER) != 2 {
		t.Errorf("names %q, %d certificates", chain.Names, len(chain.DER))
	}
	if _, err := pki.ParseChain(chainPEM(append(good.Chain, root.Certificate)...), now); err != nil {
		t.Errorf("with the root: %v", err)
	}
	other := root.Below("Other")
	also := func(f func(*x509.Certificate)) *certificatetest.Leaf { return root.Issue("", forServer(name), f) }
	for _, tt := range []struct {
		what, want string
		data       []byte
	}{
		{"nothing", "must be a certificate", nil},
		{"no PEM", "PEM blocks", []byte("x")},
		{"DER", "PEM blocks", good.Certificate.Raw},
		{"something after it", "PEM blocks", append(chainPEM(good.Certificate), 'x')},
		{"a key beside it", "PEM blocks", append(chainPEM(good.Certificate), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...)},
		{"damage", "must be a certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate.Raw[:100]})},
		{"too many", "at most 5", chainPEM(slices.Repeat([]*x509.Certificate{good.Certificate}, 6)...)},
		{"too long", "too long", bytes.Repeat([]byte(" "), 65<<10)},
		{"an authority", "not with an authority's", chainPEM(root.Certificate)},
		{"a wrong order", "an authority's", chainPEM(below.Certificate, good.Certificate)},
		{"another issuer", "must be a chain", chainPEM(good.Certificate, other.Certificate)},
		{"no issuer", "must be a chain", chainPEM(good.Certificate, good.Certificate)},
		{"a client's", "for servers", chainPEM(root.Issue("", func(c *x509.Certificate) { c.DNSNames = []string{name} }).Certificate)},
		{"no names", "1 to 20 DNS names", chainPEM(root.Issue("acme01", forServer()).Certificate)},
		{"a star", "without a star", chainPEM(root.Issue("", forServer(name, "*.messaging.example.com")).Certificate)},
		{"another common name", "common name", chainPEM(root.Issue("rival1.example.com", forServer(name)).Certificate)},
		{"an address", "no addresses", chainPEM(also(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }).Certificate)},
		{"an e-mail address", "no addresses", chainPEM(also(func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }).Certificate)},
		{"a URI", "no addresses", chainPEM(also(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "https", Host: "x"}} }).Certificate)},
		{"the past", "it ended on", chainPEM(also(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }).Certificate)},
		{"the future", "from", chainPEM(also(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }).Certificate)},
		{"a promise to staple", "stapled", chainPEM(also(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		}).Certificate)},
		{"another usage", "digitalSignature", chainPEM(also(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }).Certificate)},
	} {
		if _, err := pki.ParseChain(tt.data, now); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
}

// Keys that are weak, or that would make each stranger's handshake dear, are refused.
func TestChainKeys(t *testing.T) {
	t.Parallel()
	ec := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaOf := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := certificatetest.New(t, "Root")
	for _, tt := range []struct {
		what string
		key  crypto.Signer
		good bool
	}{
		{"P-256", ec(elliptic.P256()), true},
		{"P-384", ec(elliptic.P384()), true},
		{"P-521", ec(elliptic.P521()), false},
		{"P-224", ec(elliptic.P224()), false},
		{"RSA 2048", rsaOf(2048), true},
		{"RSA 1024", rsaOf(1024), false},
		{"Ed25519", edwards, false},
	} {
		template := root.Issue("", forServer("a.example.com")).Certificate
		der, err := x509.CreateCertificate(rand.Reader, template, root.Certificate, tt.key.Public(), root.Key)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseChain(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), time.Now())
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.what, err)
		}
		if !tt.good {
			continue
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(tt.key)
		private, parseErr := pki.ParsePrivate(keyPEM(t, "PRIVATE KEY", pkcs8, err))
		if parseErr != nil || !chain.Belongs(private) {
			t.Errorf("%s: the key is not taken: %v", tt.what, parseErr)
		}
		foreign, err := pki.NewPrivate()
		if err != nil || chain.Belongs(foreign) {
			t.Errorf("%s: another key is taken (%v)", tt.what, err)
		}
	}
}

func TestParsePrivate(t *testing.T) {
	t.Parallel()
	key := certificatetest.Key(t).(*ecdsa.PrivateKey)
	der, err := x509.MarshalECPrivateKey(key)
	sec1 := keyPEM(t, "EC PRIVATE KEY", der, err)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}})
	for what, data := range map[string][]byte{"SEC 1": sec1, "with parameters": append(parameters, sec1...)} {
		if _, err := pki.ParsePrivate(data); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	locked := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: der})
	for what, data := range map[string][]byte{
		"nothing": nil, "text": []byte("x"), "two": append(slices.Clone(sec1), sec1...), "a passphrase": locked,
		"a certificate": chainPEM(certificatetest.New(t, "x").Certificate), "half": keyPEM(t, "PRIVATE KEY", der[:20], nil),
		"much": bytes.Repeat([]byte("\n"), 65<<10),
	} {
		if _, err := pki.ParsePrivate(data); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	root := certificatetest.New(f, "Root")
	leaf := root.Below("Below").Issue("", forServer("a.example.com"))
	f.Add(chainPEM(leaf.Chain...), leaf.Certificate.Raw)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, data, der []byte) {
		for _, data := range [][]byte{data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})} {
			chain, err := pki.ParseChain(data, time.Now())
			if err == nil && (len(chain.Names) == 0 || slices.ContainsFunc(chain.Names, func(n string) bool { return !pki.IsHostName(n) })) {
				t.Errorf("names %q", chain.Names)
			}
		}
		if key, err := pki.ParsePrivate(data); err == nil {
			if _, err := x509.ParsePKCS8PrivateKey(key); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	private, err := pki.NewPrivate()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.Request(private, []string{"a.example.com", "b.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %s", text)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		t.Fatal("not a request", err)
	}
	if request.Subject.CommonName != "a.example.com" || !slices.Equal(request.DNSNames, []string{"a.example.com", "b.example.com"}) {
		t.Errorf("asks for %q, %q", request.Subject, request.DNSNames)
	}
}

// What is sealed opens with the same file, for the same place, and unchanged.
func TestSeal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seal, err := pki.OpenSeal(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "seal.key")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	sealed := seal.Seal([]byte("secret"), "here")
	if bytes.Contains(sealed, []byte("secret")) || bytes.Equal(sealed, seal.Seal([]byte("secret"), "here")) {
		t.Error("not hidden")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := pki.OpenSeal(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode not narrowed: %v, %v", info, err)
	}
	if plain, err := again.Open(sealed, "here"); err != nil || string(plain) != "secret" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := again.Open(sealed, "there"); err == nil {
		t.Error("opens in another place")
	}
	for i := range sealed {
		bad := slices.Clone(sealed)
		bad[i] ^= 1
		if _, err := again.Open(bad, "here"); err == nil {
			t.Fatalf("opens with byte %d changed", i)
		}
	}
	if _, err := again.Open(nil, "here"); err == nil {
		t.Error("nothing opens")
	}
	other, err := pki.OpenSeal(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(sealed, "here"); err == nil {
		t.Error("opens with another key")
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenSeal(dir, nil); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	platform, a, b := &tls.Certificate{}, &tls.Certificate{}, &tls.Certificate{}
	var shown pki.Shown
	config := shown.Before(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return platform, nil }})
	is := func(name string, want *tls.Certificate) {
		t.Helper()
		if got, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); got != want || err != nil {
			t.Errorf("%q shows another one (%v)", name, err)
		}
	}
	is("a.example.com", platform)
	shown.Set("a", map[string]*tls.Certificate{"a.example.com": a, "a2.example.com": a})
	shown.Set("b", map[string]*tls.Certificate{"b.example.com": b})
	is("a.example.com", a)
	is("A2.Example.com", a)
	is("b.example.com", b)
	is("x.a.example.com", platform)
	is("", platform)
	shown.Set("a", map[string]*tls.Certificate{"a2.example.com": a})
	is("a.example.com", platform)
	is("a2.example.com", a)
	shown.Set("a", nil)
	is("a2.example.com", platform)
	is("b.example.com", b)

	var work sync.WaitGroup // under the race detector
	for range 4 {
		work.Go(func() {
			for range 200 {
				shown.Set("a", map[string]*tls.Certificate{"a.example.com": a})
				_ = shown.For("a.example.com")
				shown.Set("a", nil)
			}
		})
	}
	work.Wait()
	is("a.example.com", platform)
}
