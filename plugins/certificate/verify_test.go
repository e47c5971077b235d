package certificate_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

// trusting is what organisations trust, by name.
type trusting map[string]*certificate.Trust

func (a trusting) CertificateTrust(_ context.Context, org policy.OrgID) (*certificate.Trust, error) {
	return a[org.String()], nil
}

// lists answers from what trust has alone.
type lists struct{ now func() time.Time }

func (r lists) Check(_ context.Context, trust *certificate.Trust, chain []*x509.Certificate) error {
	for i, c := range chain[:len(chain)-1] {
		switch trust.Ask(c, chain[i+1], r.now()) {
		case certificate.Revoked:
			return &plugins.Refusal{Cause: policy.CauseRevoked}
		case certificate.Silent:
			return &plugins.Refusal{Cause: policy.CauseRevocation}
		case certificate.Good, certificate.Unlisted:
		}
	}
	return nil
}

func orgID(tb testing.TB, name string) policy.OrgID {
	tb.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		tb.Fatal(err)
	}
	return org
}

func trust(tb testing.TB, org string, authorities ...*certificatetest.Authority) *certificate.Trust {
	tb.Helper()
	var anchors []certificate.Anchor
	for i, a := range authorities {
		anchors = append(anchors, certificate.Anchor{Certificate: a.Certificate, Version: uint64(7 + i)})
	}
	return certificate.NewTrust(orgID(tb, org), 3, false, anchors, nil)
}

func verifier(a trusting, now func() time.Time) *certificate.Verifier {
	return certificate.New(certificate.Config{Authorities: a, Revocation: lists{now}, Domain: "iot.example", Now: now})
}

// shown is a credential with a chain, at the server name of the organisation.
func shown(id, sni string, chain []*x509.Certificate) *plugins.Credential {
	return &plugins.Credential{Client: policy.Client{ID: policy.ClientID(id), TLS: &policy.TLS{SNI: sni}}, Chain: chain}
}

const acmeName, rivalName = "acme01.messaging.iot.example", "rival1.messaging.iot.example"

// Two organisations have a device of the same name, each with an authority of its
// own. Nothing that one of them signs is anything in the other.
func TestAuthorityOfAnotherOrganisation(t *testing.T) {
	t.Parallel()
	acme, rival := certificatetest.New(t, "Devices"), certificatetest.New(t, "Devices")
	v := verifier(trusting{"acme01": trust(t, "acme01", acme), "rival1": trust(t, "rival1", rival)}, time.Now)
	const name = "d:sensor:d1"
	theirs, ours := rival.Issue(name), acme.Issue(name)
	// Their authority, as if ours had signed it: with our name and key identifier, and their key.
	posing := rival.Below("Devices", func(c *x509.Certificate) { c.SubjectKeyId = acme.Certificate.SubjectKeyId }).Issue(name)
	for what, chain := range map[string][]*x509.Certificate{
		"their certificate":                      theirs.Chain,
		"with our authority beside it":           {theirs.Certificate, acme.Certificate},
		"with theirs beside it":                  {theirs.Certificate, rival.Certificate},
		"with both":                              {theirs.Certificate, rival.Certificate, acme.Certificate},
		"behind our certificate":                 {theirs.Certificate, ours.Certificate, acme.Certificate},
		"through one that calls itself like our": posing.Chain,
		"their authority itself":                 {rival.Certificate},
		"our authority itself":                   {acme.Certificate},
	} {
		if p, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", acmeName, chain)); !errors.Is(err, plugins.ErrBad) || p.Org.String() != "" {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	for org, leaf := range map[string]*certificatetest.Leaf{"acme01": ours, "rival1": theirs} {
		p, err := v.Verify(t.Context(), shown("d:"+org+":sensor:d1", org+".iot.example", leaf.Chain))
		if err != nil || p.Org.String() != org || p.Type != "sensor" || p.ID != "d1" || p.Kind != policy.KindDevice {
			t.Errorf("own certificate: %+v, %v", p, err)
		}
	}
}

// The organisation is named by the client identifier, and has to be named by the
// server name too.
func TestServerName(t *testing.T) {
	t.Parallel()
	acme := certificatetest.New(t, "Devices")
	leaf := acme.Issue("d:sensor:d1")
	v := verifier(trusting{"acme01": trust(t, "acme01", acme), "rival1": trust(t, "rival1", certificatetest.New(t, "Rival"))}, time.Now)
	for sni, cause := range map[string]policy.Cause{
		acmeName: "", "acme01.iot.example": "", "ACME01.Messaging.IoT.Example": "",
		rivalName: policy.CauseMismatch, "": policy.CauseMismatch, "iot.example": policy.CauseMismatch,
		"acme01.messaging.example.org": policy.CauseMismatch, "mqtt.iot.example": policy.CauseMismatch,
	} {
		if _, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", sni, leaf.Chain)); plugins.CauseOf(err) != cause {
			t.Errorf("server name %q: %v, want %q", sni, err, cause)
		}
	}
	plain := shown("d:acme01:sensor:d1", "", leaf.Chain)
	plain.Client.TLS = nil
	if _, err := v.Verify(t.Context(), plain); plugins.CauseOf(err) != policy.CauseMismatch {
		t.Errorf("without TLS: %v", err)
	}
}

// Which client identifiers a certificate stands for.
func TestNames(t *testing.T) {
	t.Parallel()
	acme := certificatetest.New(t, "Devices")
	v := verifier(trusting{"acme01": trust(t, "acme01", acme)}, time.Now)
	emails := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.EmailAddresses = names }
	}
	many := slices.Repeat([]string{"x@example.org"}, 40)
	for _, tt := range []struct {
		cn    string
		san   []string
		id    string
		cause policy.Cause // "" accepts
	}{
		{"d:sensor:d1", nil, "d:acme01:sensor:d1", ""},
		{"g:hub:g1", nil, "g:acme01:hub:g1", ""},
		{"a:app1", nil, "a:acme01:app1", ""},
		{"a:app1", nil, "A:acme01:app1", ""},
		{"a:app1", nil, "A:acme01:app1:i1", ""},
		{"something", []string{"d:sensor:d1"}, "d:acme01:sensor:d1", ""},
		{"", []string{"x@example.org", "d:sensor:d2", "d:sensor:d1"}, "d:acme01:sensor:d1", ""},
		{"d:sensor:d2", []string{"d:sensor:d1"}, "d:acme01:sensor:d1", ""},
		{"d:sensor:", nil, "d:acme01:sensor:d1", ""},
		{"d:sensor:", nil, "d:acme01:sensor:d9", ""},
		{"g:hub:", nil, "g:acme01:hub:g9", ""},
		{"d:sensor:d1", nil, "d:acme01:sensor:d2", policy.CauseBad},
		{"d:sensor:d1", nil, "d:acme01:other:d1", policy.CauseBad},
		{"d:sensor:d1", nil, "g:acme01:sensor:d1", policy.CauseBad},
		{"d:sensor:d1", nil, "a:acme01:sensor", policy.CauseBad},
		{"d:sensor:", nil, "d:acme01:other:d1", policy.CauseBad},
		{"d:sensor:", nil, "g:acme01:sensor:d1", policy.CauseBad},
		{"d::d1", nil, "d:acme01:sensor:d1", policy.CauseBad},
		{"a:", nil, "a:acme01:app1", policy.CauseBad},
		{"d:acme01:sensor:d1", nil, "d:acme01:sensor:d1", policy.CauseBad}, // no organisation is in a certificate
		{"D:sensor:d1", nil, "d:acme01:sensor:d1", policy.CauseBad},
		{"d:sensor:d1 ", nil, "d:acme01:sensor:d1", policy.CauseBad},
		{"d:sensor:+", nil, "d:acme01:sensor:+", policy.CauseClientID},
		{"", append(many, "d:sensor:d1"), "d:acme01:sensor:d1", policy.CauseBad}, // beyond those that are looked at
		{"d:sensor:", nil, "d:acme01:sensor:", policy.CauseClientID},
		{"d:sensor:d1", nil, "d:acme01:sensor", policy.CauseClientID},
		{"a:app1", nil, "A:acme01:app1:", policy.CauseClientID},
		{"d:sensor:d1", nil, "sensor", policy.CauseUnknown},
		{"d:sensor:d1", nil, "", policy.CauseUnknown},
		{"d:sensor:d1", nil, "d:ACME01:sensor:d1", policy.CauseUnknown},
		{"d:sensor:d1", nil, "d:nobody:sensor:d1", policy.CauseUnknown},
	} {
		leaf := acme.Issue(tt.cn, emails(tt.san...))
		p, err := v.Verify(t.Context(), shown(tt.id, acmeName, leaf.Chain))
		if plugins.CauseOf(err) != tt.cause {
			t.Errorf("%q %q as %q: %v, want %q", tt.cn, tt.san, tt.id, err, tt.cause)
		}
		if err == nil && (p.Org.String() != "acme01" || p.Verifier != "certificate" || p.Unnamed != (tt.id == "A:acme01:app1")) {
			t.Errorf("%q %q as %q: %+v", tt.cn, tt.san, tt.id, p)
		}
	}
}

// What the chain has to be, at the time of the clock.
func TestChain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := certificatetest.New(t, "Root")
	between := root.Below("Between", func(c *x509.Certificate) { c.NotAfter = now.Add(2 * time.Hour) })
	rsaKey := func(bits int) func(*x509.Certificate) {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) { c.PublicKey = key.Public() }
	}
	from := func(d time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore = now.Add(d) }
	}
	until := func(d time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = now.Add(d) }
	}
	use := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	const name = "d:sensor:d1"
	nine := root.Issue(name).Chain
	for len(nine) < 9 {
		nine = append(nine, root.Issue("x").Certificate)
	}
	for what, tt := range map[string]struct {
		chain []*x509.Certificate
		clock time.Duration
		ok    bool
		until time.Duration // of the principal
	}{
		"in time":                       {root.Issue(name, until(time.Hour)).Chain, 0, true, time.Hour},
		"through another":               {between.Issue(name).Chain, 0, true, 2 * time.Hour},
		"a clock that is ahead":         {root.Issue(name, until(time.Hour)).Chain, time.Hour + time.Second, false, 0},
		"a clock just before the end":   {root.Issue(name, until(time.Hour)).Chain, time.Hour - time.Minute, true, time.Hour},
		"a clock that is behind":        {root.Issue(name, from(-time.Minute)).Chain, -2 * time.Minute, false, 0},
		"not yet valid":                 {root.Issue(name, from(time.Minute)).Chain, 0, false, 0},
		"valid by then":                 {root.Issue(name, from(time.Minute)).Chain, 2 * time.Minute, true, 24 * time.Hour},
		"expired":                       {root.Issue(name, until(-time.Minute)).Chain, 0, false, 0},
		"through an expired one":        {between.Issue(name).Chain, 3 * time.Hour, false, 0},
		"one in between is missing":     {between.Issue(name).Chain[:1], 0, false, 0},
		"authority expired":             {root.Issue(name, until(72*time.Hour)).Chain, 48 * time.Hour, false, 0},
		"for servers":                   {root.Issue(name, use(x509.ExtKeyUsageServerAuth)).Chain, 0, false, 0},
		"for both":                      {root.Issue(name, use(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)).Chain, 0, true, 24 * time.Hour},
		"for no stated use":             {root.Issue(name, use()).Chain, 0, true, 24 * time.Hour},
		"below one for servers":         {root.Below("S", use(x509.ExtKeyUsageServerAuth)).Issue(name).Chain, 0, false, 0},
		"an authority":                  {root.Below(name).Below("x").Issue("y").Chain[1:], 0, false, 0},
		"signed by one who may not":     {root.Below("N", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }).Issue(name).Chain, 0, false, 0},
		"signed by one who is no CA":    {root.Below("N", func(c *x509.Certificate) { c.IsCA = false }).Issue(name).Chain, 0, false, 0},
		"too small a key":               {root.Issue(name, rsaKey(1024)).Chain, 0, false, 0},
		"an RSA key":                    {root.Issue(name, rsaKey(2048)).Chain, 0, true, 24 * time.Hour},
		"a serial number that is long":  {root.Issue(name, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 160) }).Chain, 0, false, 0},
		"nine certificates":             {nine, 0, false, 0},
		"eight certificates":            {nine[:8], 0, true, 24 * time.Hour},
		"a depth that is not permitted": {root.Below("P", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }).Below("Q").Issue(name).Chain, 0, false, 0},
	} {
		v := verifier(trusting{"acme01": trust(t, "acme01", root)}, func() time.Time { return now.Add(tt.clock) })
		p, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", acmeName, tt.chain))
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, plugins.ErrBad) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil && p.ExpiresAt.Sub(now.Add(tt.until)).Abs() > time.Second {
			t.Errorf("%s: ends at %v, want %v from now", what, p.ExpiresAt, tt.until)
		}
	}
}

// The principal says by what it was verified.
func TestPrincipal(t *testing.T) {
	t.Parallel()
	root := certificatetest.New(t, "Root")
	between := root.Below("Between")
	leaf := between.Issue("d:sensor:d1", func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{"d1.example"}, []string{"x@example.org"}
	})
	v := verifier(trusting{"acme01": trust(t, "acme01", certificatetest.New(t, "Other"), root)}, time.Now)
	p, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", acmeName, leaf.Chain))
	if err != nil {
		t.Fatal(err)
	}
	if p.Incarnation != 3 || p.Credential.Version != 8 || p.Registered || p.APIKey != "" || p.Roles != nil {
		t.Errorf("%+v", p)
	}
	proof, ok := certificate.ParseProof(p.Credential.ID)
	want := []certificate.Step{
		{Issuer: certificate.IssuerID(between.Certificate), Serial: certificate.Serial(leaf.Certificate)},
		{Issuer: certificate.IssuerID(root.Certificate), Serial: certificate.Serial(between.Certificate)},
	}
	if !ok || proof.Authority != certificate.AuthorityID(root.Certificate) || !slices.Equal(proof.Path, want) || proof.String() != p.Credential.ID {
		t.Errorf("proof %+v, want %v", proof, want)
	}
	san, _ := p.Claims["san"].([]any)
	if p.Claims["subject"] != "CN=d:sensor:d1" || p.Claims["issuer"] != "CN=Between" || p.Claims["serial"] != certificate.Serial(leaf.Certificate) || !slices.Equal(san, []any{"d1.example", "x@example.org"}) {
		t.Errorf("claims %v", p.Claims)
	}
}

// Who has no certificate, or whose organisation has no authority, is somebody else's.
func TestNotMine(t *testing.T) {
	t.Parallel()
	acme := certificatetest.New(t, "Devices")
	v := verifier(trusting{"acme01": trust(t, "acme01", acme)}, time.Now)
	leaf := acme.Issue("d:sensor:d1")
	for what, c := range map[string]*plugins.Credential{
		"no certificate":           shown("d:acme01:sensor:d1", acmeName, nil),
		"an organisation without":  shown("d:rival1:sensor:d1", rivalName, leaf.Chain),
		"no organisation":          shown("d:nobody:sensor:d1", acmeName, leaf.Chain),
		"an ID of no organisation": shown("client", acmeName, leaf.Chain),
	} {
		if _, err := v.Verify(t.Context(), c); !errors.Is(err, plugins.ErrNotMine) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A certificate that any list of any of its issuers has is refused, whichever way
// leads to an authority.
func TestRevokedOnOneWay(t *testing.T) {
	t.Parallel()
	root := certificatetest.New(t, "Root")
	renewed := root.Again() // with the same key
	leaf := root.Issue("d:sensor:d1")
	list, err := certificate.ParseList(root.List(1, []*x509.Certificate{leaf.Certificate}), root.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	anchors := []certificate.Anchor{{Certificate: renewed.Certificate, Version: 1}}
	v := verifier(trusting{"acme01": certificate.NewTrust(orgID(t, "acme01"), 1, false, anchors, []*certificate.Kept{{List: list}})}, time.Now)
	if _, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", acmeName, leaf.Chain)); plugins.CauseOf(err) != policy.CauseRevoked {
		t.Errorf("through a renewed certificate of its issuer: %v", err)
	}
	if _, err := v.Verify(t.Context(), shown("d:acme01:sensor:d1", acmeName, root.Issue("d:sensor:d1").Chain)); err != nil {
		t.Errorf("another certificate: %v", err)
	}
}
