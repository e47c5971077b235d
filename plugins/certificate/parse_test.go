package certificate_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

func TestParseAuthority(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := certificatetest.New(t, "Root")
	der := func(edit func(*x509.Certificate)) []byte { return certificatetest.New(t, "Root", edit).Certificate.Raw }
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	text := certificatetest.PEM(good.Certificate)
	forged := append([]byte(nil), good.Certificate.Raw...)
	forged[len(forged)-1] ^= 1
	for what, tt := range map[string]struct {
		data []byte
		want string // of the error; empty: accepted
	}{
		"DER":                {good.Certificate.Raw, ""},
		"PEM":                {[]byte(text), ""},
		"PEM in blanks":      {[]byte("\n  " + text + "\n"), ""},
		"below another":      {good.Below("B").Certificate.Raw, ""},
		"valid tomorrow":     {der(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), ""},
		"nothing":            {nil, "one X.509"},
		"two":                {[]byte(text + text), "single PEM"},
		"a key":              {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "single PEM"},
		"PEM cut short":      {[]byte(text[:len(text)/2]), "single PEM"},
		"DER and more":       {append(append([]byte(nil), good.Certificate.Raw...), 0), "one X.509"},
		"too large":          {make([]byte, certificate.MaxAuthority+1), "at most"},
		"a device's":         {good.Issue("d:sensor:d1").Certificate.Raw, "basic constraints"},
		"not a CA":           {der(func(c *x509.Certificate) { c.IsCA = false }), "basic constraints"},
		"no constraints":     {der(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }), "basic constraints"},
		"may not sign":       {der(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "keyCertSign"},
		"without a usage":    {der(func(c *x509.Certificate) { c.KeyUsage = 0 }), "keyCertSign"},
		"expired":            {der(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), "expired"},
		"a small key":        {good.Below("B", func(c *x509.Certificate) { c.PublicKey = small.Public() }).Certificate.Raw, "2048"},
		"a forged signature": {forged, "signed with the key"},
		"an unknown critical": {der(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), "critical"},
	} {
		_, err := certificate.ParseAuthority(tt.data, now)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
}

// point is the extension that names a distribution point of a list.
func point(tb testing.TB, url string, flags ...asn1.RawValue) pkix.Extension {
	tb.Helper()
	var fields []asn1.RawValue
	wrap := func(tag int, compound bool, b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b}
	}
	encode := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	if url != "" {
		fields = append(fields, wrap(0, true, encode(wrap(0, true, encode(wrap(6, false, []byte(url)))))))
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: encode(append(fields, flags...))}
}

func flag(tag int) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte{0xff}}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root, other := certificatetest.New(t, "Root"), certificatetest.New(t, "Root")
	mute := certificatetest.New(t, "Mute", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign })
	list := func(edit ...func(*x509.RevocationList)) []byte { return root.List(1, nil, edit...) }
	with := func(e ...pkix.Extension) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) { l.ExtraExtensions = e }
	}
	silent := *mute.Certificate
	silent.KeyUsage = x509.KeyUsageCertSign
	good := list()
	for what, tt := range map[string]struct {
		data   []byte
		issuer *x509.Certificate
		want   string
	}{
		"DER":                   {good, root.Certificate, ""},
		"PEM":                   {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good}), root.Certificate, ""},
		"PEM of something else": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), root.Certificate, "single PEM"},
		"nothing":               {nil, root.Certificate, "one X.509 CRL"},
		"a certificate":         {root.Certificate.Raw, root.Certificate, "one X.509 CRL"},
		"cut short":             {good[:len(good)-1], root.Certificate, "one X.509 CRL"},
		"too large":             {make([]byte, certificate.MaxList+1), root.Certificate, "at most"},
		"of another key":        {other.List(1, nil), root.Certificate, "cRLSign"},
		"of another name":       {mute.List(1, nil), root.Certificate, "another issuer"},
		"of one who may not":    {mute.List(1, nil), &silent, "cRLSign"},
		"about one point":       {list(with(point(t, "http://crl.example/1"))), root.Certificate, ""},
		"about users":           {list(with(point(t, "", flag(1)))), root.Certificate, ""},
		"indirect":              {list(with(point(t, "", flag(4)))), root.Certificate, "own issuer"},
		"about attributes":      {list(with(point(t, "", flag(5)))), root.Certificate, "own issuer"},
		"of changes":            {list(with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}})), root.Certificate, "changes"},
		"an unknown critical":   {list(with(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})), root.Certificate, "critical"},
		"a point that is none":  {list(with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 2, 0xa0, 0}})), root.Certificate, "distribution point"},
		"an entry of another": {list(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{
				SerialNumber: big.NewInt(5), RevocationTime: now,
				ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{5, 0}}},
			}}
		}), root.Certificate, "critical"},
	} {
		_, err := certificate.ParseList(tt.data, tt.issuer)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
}

// A list answers for the certificates it is about, while it is in date.
func TestAsk(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := certificatetest.New(t, "Root")
	at := func(url string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} }
	}
	quiet, first := root.Issue("d:sensor:d1"), root.Issue("d:sensor:d1", at("http://crl.example/1"))
	second, dead := root.Issue("d:sensor:d1", at("http://crl.example/2")), root.Issue("d:sensor:d1", at("http://crl.example/2"))
	below := root.Below("B")
	whole := func(l *x509.RevocationList) {}
	shard := func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{point(t, "http://crl.example/1")}
	}
	users := func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{point(t, "", flag(1))} }
	for what, tt := range map[string]struct {
		list  func(*x509.RevocationList) // nil: none
		clock time.Duration
		c     *x509.Certificate
		want  certificate.Answer
	}{
		"nobody to ask":             {nil, 0, quiet.Certificate, certificate.Unlisted},
		"somebody to ask":           {nil, 0, first.Certificate, certificate.Silent},
		"not on it":                 {whole, 0, first.Certificate, certificate.Good},
		"not on it, not named":      {whole, 0, quiet.Certificate, certificate.Good},
		"on it":                     {whole, 0, dead.Certificate, certificate.Revoked},
		"on it, out of date":        {whole, 2 * time.Hour, dead.Certificate, certificate.Revoked},
		"out of date":               {whole, 2 * time.Hour, first.Certificate, certificate.Silent},
		"out of date, not named":    {whole, 2 * time.Hour, quiet.Certificate, certificate.Silent},
		"a little early":            {whole, -5 * time.Minute, first.Certificate, certificate.Good},
		"too early":                 {whole, -7 * time.Minute, first.Certificate, certificate.Silent},
		"of its point":              {shard, 0, first.Certificate, certificate.Good},
		"of another point":          {shard, 0, second.Certificate, certificate.Silent},
		"of a point, it has none":   {shard, 0, quiet.Certificate, certificate.Silent},
		"on it, of another point":   {shard, 0, dead.Certificate, certificate.Revoked},
		"about users":               {users, 0, first.Certificate, certificate.Good},
		"about users, an authority": {users, 0, below.Certificate, certificate.Silent},
	} {
		var kept []*certificate.Kept
		if tt.list != nil {
			l, err := certificate.ParseList(root.List(1, []*x509.Certificate{dead.Certificate}, tt.list), root.Certificate)
			if err != nil {
				t.Fatal(what, err)
			}
			kept = append(kept, &certificate.Kept{List: l})
		}
		trust := certificate.NewTrust(policy.OrgID{}, 1, false, []certificate.Anchor{{Certificate: root.Certificate}}, kept)
		if got := trust.Ask(tt.c, root.Certificate, now.Add(tt.clock)); got != tt.want {
			t.Errorf("%s: %v, want %v", what, got, tt.want)
		}
	}
}
