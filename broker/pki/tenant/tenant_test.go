package tenant_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/pki/tenant"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

const domain = "example.com"

// platform is what stands behind a Keeper in a test.
type platform struct {
	*tenant.Keeper
	t        *testing.T
	store    store.Store
	registry *registry.Registry
	seal     *pki.Seal
	root     *certificatetest.Authority
	own      tls.Certificate // of the platform
	log      *text
	now      time.Time
}

// text is a log.
type text struct {
	guarded struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (l *text) Write(b []byte) (int, error) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return l.guarded.Write(b)
}

func (l *text) String() string {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return l.guarded.String()
}

func open(t *testing.T) *platform {
	t.Helper()
	p := &platform{t: t, store: memstore.New(), log: &text{}, now: time.Now()}
	t.Cleanup(func() { _ = p.store.Close() })
	p.root = certificatetest.New(t, "Root", func(c *x509.Certificate) { c.NotAfter = p.now.AddDate(10, 0, 0) })
	p.own = p.issue("platform.example.com").TLS()
	var err error
	if p.registry, err = registry.Open(p.store, registry.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.registry.Close)
	if p.seal, err = pki.OpenSeal(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	p.start(p.seal)
	return p
}

// start puts a Keeper on what there is, as a restart does.
func (p *platform) start(seal *pki.Seal) {
	p.t.Helper()
	p.Keeper = tenant.New(tenant.Config{
		Registry: p.registry, Seal: seal, Domain: "Example.com", Reserved: []string{"host77.example.com"},
		Now: func() time.Time { return p.now }, Log: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	p.t.Cleanup(p.registry.Watch(p.Follow))
	all, _, err := p.registry.Organisations(p.t.Context(), registry.Page{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.Load(p.t.Context(), all)
}

func (p *platform) org(name string) policy.OrgID {
	p.t.Helper()
	id, err := policy.ParseOrgID(name)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.registry.CreateOrganisation(p.t.Context(), id, ""); err != nil {
		p.t.Fatal(err)
	}
	return id
}

func (p *platform) issue(names ...string) *certificatetest.Leaf {
	return p.root.Issue("", func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.NotAfter = p.now.Add(60 * 24 * time.Hour)
	})
}

func keyOf(tb testing.TB, leaf *certificatetest.Leaf) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (p *platform) upload(org policy.OrgID, leaf *certificatetest.Leaf) error {
	p.t.Helper()
	_, err := p.ReplaceServerCertificate(p.t.Context(), org, []byte(certificatetest.PEM(leaf.Certificate)), keyOf(p.t, leaf))
	return err
}

// shows is the serial of what a real handshake shows for a server name.
func (p *platform) shows(name string) *big.Int {
	p.t.Helper()
	config := p.Before(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &p.own, nil }})
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan error, 1)
	go func() {
		defer theirs.Close()
		done <- tls.Server(theirs, config).Handshake()
	}()
	client := tls.Client(ours, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := client.HandshakeContext(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0].SerialNumber
}

func (p *platform) wantShown(name string, want tls.Certificate) {
	p.t.Helper()
	if got := p.shows(name); got.Cmp(want.Leaf.SerialNumber) != 0 {
		p.t.Errorf("%s shows %x, want %x", name, got, want.Leaf.SerialNumber)
	}
}

func wantKind(t *testing.T, err error, kind policy.Kind) {
	t.Helper()
	if policy.KindOf(err) != kind {
		t.Errorf("%v, want %v", err, kind)
	}
}

func TestCertificateIsShownAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme, rival := p.org("acme01"), p.org("rival1")
	const name = "acme01.messaging." + domain
	p.wantShown(name, p.own)
	first := p.issue(name)
	if err := p.upload(acme, first); err != nil {
		t.Fatal(err)
	}
	p.wantShown(name, first.TLS())
	p.wantShown("acme01."+domain, p.own)
	p.wantShown("rival1.messaging."+domain, p.own)
	p.wantShown("", p.own)

	second := p.issue(name, "acme01."+domain)
	if err := p.upload(acme, second); err != nil {
		t.Fatal(err)
	}
	p.wantShown(name, second.TLS())
	p.wantShown("acme01."+domain, second.TLS())
	theirs := p.issue("rival1.messaging." + domain)
	if err := p.upload(rival, theirs); err != nil {
		t.Fatal(err)
	}
	p.wantShown("rival1.messaging."+domain, theirs.TLS())

	p.start(p.seal) // a restart
	p.wantShown(name, second.TLS())
	if err := p.DeleteServerCertificate(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	p.wantShown(name, p.own)
	wantKind(t, p.DeleteServerCertificate(t.Context(), acme), policy.KindNotFound)
	_, err := p.ServerCertificate(t.Context(), acme)
	wantKind(t, err, policy.KindNotFound)
	if err := p.registry.DeleteOrganisation(t.Context(), rival); err != nil {
		t.Fatal(err)
	}
	p.wantShown("rival1.messaging."+domain, p.own)
	p.org("rival1") // a namesake inherits nothing
	p.wantShown("rival1.messaging."+domain, p.own)
}

// No organisation shows a certificate for a name of another, or of the platform.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme, rival := p.org("acme01"), p.org("rival1")
	host := p.org("host77")
	own := p.issue("acme01.messaging." + domain)
	if err := p.upload(acme, own); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"acme01.messaging.example.com", "acme01.example.com", "example.com", "messaging.example.com", "platform.example.com", "localhost",
		"x.rival1.example.com", "rival1.messaging.example.com.evil.org", "*.messaging.example.com", "*.example.com", "rival1.messaging.*.com", "mqtt.rival.org",
		"rival1.messaging.example.com\x00.evil.org", "rival1", "rival1.messaging.localhost",
	} {
		wantKind(t, p.upload(rival, p.issue(name)), policy.KindInvalid)
		wantKind(t, p.upload(rival, p.issue("rival1.messaging."+domain, name)), policy.KindInvalid)
		_, err := p.RequestServerCertificate(t.Context(), rival, []string{name})
		wantKind(t, err, policy.KindInvalid)
	}
	wantKind(t, p.upload(host, p.issue("host77.example.com")), policy.KindInvalid) // the machine's own
	if err := p.upload(host, p.issue("host77.messaging.example.com")); err != nil {
		t.Error(err)
	}
	p.wantShown("acme01.messaging."+domain, own.TLS())
	p.wantShown("platform."+domain, p.own)
}

// The operator allows names, each to one organisation, and takes them back.
func TestServerNames(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme, rival := p.org("acme01"), p.org("rival1")
	allow := func(org policy.OrgID, names ...string) error {
		_, err := p.SetServerNames(t.Context(), org, names)
		return err
	}
	for _, name := range []string{"example.com", "rival1.messaging.example.com", "EXAMPLE.com.", "localhost", "a.localhost", "192.0.2.1", "::1", "*.acme.org", "acme", "", "a b.org", "x.example.com", "host77.example.com"} {
		wantKind(t, allow(acme, name), policy.KindInvalid)
	}
	if err := allow(acme, slices.Repeat([]string{"mqtt.acme.org"}, 30)...); err != nil {
		t.Errorf("one name, often: %v", err)
	}
	many := make([]string, 21)
	for i := range many {
		many[i] = strings.Repeat("a", i+1) + ".org"
	}
	wantKind(t, allow(acme, many...), policy.KindInvalid)
	if err := allow(acme, "MQTT.acme.org.", "acme01.messaging.acme.org"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, allow(rival, "mqtt.acme.org"), policy.KindConflict)
	leaf := p.issue("mqtt.acme.org", "acme01.messaging.acme.org", "acme01."+domain)
	wantKind(t, p.upload(rival, leaf), policy.KindInvalid)
	if err := p.upload(acme, leaf); err != nil {
		t.Fatal(err)
	}
	p.wantShown("mqtt.acme.org", leaf.TLS())

	if err := allow(acme, "acme01.messaging.acme.org"); err != nil {
		t.Fatal(err)
	}
	p.wantShown("mqtt.acme.org", p.own)
	p.wantShown("acme01.messaging.acme.org", leaf.TLS())
	found, err := p.ServerCertificate(t.Context(), acme)
	if err != nil || slices.Contains(found.Shown, "mqtt.acme.org") || len(found.Shown) != 2 || len(found.Names) != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := allow(rival, "mqtt.acme.org"); err != nil {
		t.Fatal(err)
	}
	theirs := p.issue("mqtt.acme.org")
	if err := p.upload(rival, theirs); err != nil {
		t.Fatal(err)
	}
	p.wantShown("mqtt.acme.org", theirs.TLS())
	// What an organisation edits of itself leaves them alone.
	if _, err := p.registry.UpdateOrganisation(t.Context(), acme, func(o *registry.Organisation) error {
		o.ServerNames = []string{"mqtt.acme.org"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.wantShown("mqtt.acme.org", theirs.TLS())
}

// The key of a request never leaves, and the certificate for it comes alone.
func TestRequest(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme := p.org("acme01")
	sign := func(text []byte) string {
		block, _ := pem.Decode(text)
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.CheckSignature() != nil {
			t.Fatal("not a request", err)
		}
		template := p.issue(request.DNSNames...).Certificate
		der, err := x509.CreateCertificate(rand.Reader, template, p.root.Certificate, request.PublicKey, p.root.Key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	request := func() []byte {
		text, err := p.RequestServerCertificate(t.Context(), acme, nil)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := sign(request())
	_ = request() // makes the first one not useless
	_, err := p.ServerCertificate(t.Context(), acme)
	wantKind(t, err, policy.KindNotFound)
	_, err = p.ReplaceServerCertificate(t.Context(), acme, []byte(certificatetest.PEM(p.issue("acme01."+domain).Certificate)), nil)
	wantKind(t, err, policy.KindInvalid)
	p.start(p.seal)
	got, err := p.ReplaceServerCertificate(t.Context(), acme, []byte(first), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.PEM != first || !got.HasKey || got.Requested || len(got.Shown) != 2 {
		t.Errorf("%+v", got)
	}
	if p.shows("acme01.messaging."+domain).Cmp(p.own.Leaf.SerialNumber) == 0 {
		t.Error("not shown")
	}
	// A renewal: another key is asked for, and the one in use goes on until then.
	again := sign(request())
	if got, err := p.ReplaceServerCertificate(t.Context(), acme, []byte(first), nil); err != nil || !got.Requested {
		t.Errorf("the same again: %+v, %v", got, err)
	}
	if got, err := p.ReplaceServerCertificate(t.Context(), acme, []byte(again), nil); err != nil || got.Requested || got.PEM != again {
		t.Errorf("renewed: %+v, %v", got, err)
	}
}

// Neither the store, nor an export, nor the log has a private key; another seal opens
// nothing, and the platform's certificate is shown then.
func TestKeyStays(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme := p.org("acme01")
	leaf := p.issue("acme01." + domain)
	if err := p.upload(acme, leaf); err != nil {
		t.Fatal(err)
	}
	if _, err := p.RequestServerCertificate(t.Context(), acme, nil); err != nil {
		t.Fatal(err)
	}
	scalar, err := leaf.Key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	forms := [][]byte{scalar, []byte(base64.StdEncoding.EncodeToString(scalar)), keyOf(t, leaf)[40:80], []byte("PRIVATE KEY")}
	absent := func(where string, data []byte) {
		t.Helper()
		for _, form := range forms {
			if bytes.Contains(data, form) {
				t.Errorf("%s has the key", where)
			}
		}
	}
	stored, incarnation, err := p.registry.ServerCertificate(t.Context(), acme)
	if err != nil || incarnation == 0 {
		t.Fatal(err)
	}
	text, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	absent("store", text)
	absent("store", stored.Key)
	shown, err := p.ServerCertificate(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	absent("answer", text)
	var file bytes.Buffer
	if _, err := p.registry.Export(t.Context(), acme, &file, registry.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	absent("export", file.Bytes())
	for _, sealed := range [][]byte{stored.Key, stored.Pending} {
		if len(sealed) == 0 || bytes.Contains(file.Bytes(), []byte(base64.StdEncoding.EncodeToString(sealed))) {
			t.Error("the export has a sealed key")
		}
	}
	absent("log", []byte(p.log.String()))

	if _, err := p.SetServerNames(t.Context(), acme, []string{"mqtt.acme.org"}); err != nil {
		t.Fatal(err)
	}
	if err := p.registry.DeleteOrganisation(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if _, err := p.registry.Import(t.Context(), &file, registry.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	p.wantShown("acme01."+domain, p.own)
	if got, err := p.ServerCertificate(t.Context(), acme); err != nil || got.HasKey || got.PEM != shown.PEM || len(got.Shown) != 0 {
		t.Errorf("imported %+v, %v", got, err)
	}
	if o, err := p.registry.Organisation(t.Context(), acme); err != nil || len(o.ServerNames) != 0 {
		t.Errorf("imported names %q, %v", o.ServerNames, err)
	}
	if err := p.upload(acme, leaf); err != nil {
		t.Fatal(err)
	}
	p.wantShown("acme01."+domain, leaf.TLS())

	other, err := pki.OpenSeal(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.start(other)
	p.wantShown("acme01."+domain, p.own)
	if !strings.Contains(p.log.String(), "upload it again with its private key") {
		t.Errorf("log: %s", p.log)
	}
}

// A key that is moved to the record of another organisation, or to a later namesake,
// opens nothing there.
func TestSealedForOneOrganisation(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme, rival := p.org("acme01"), p.org("rival1")
	if _, err := p.SetServerNames(t.Context(), rival, []string{"mqtt.rival.org"}); err != nil {
		t.Fatal(err)
	}
	leaf := p.issue("rival1." + domain)
	if err := p.upload(rival, leaf); err != nil {
		t.Fatal(err)
	}
	stored, _, err := p.registry.ServerCertificate(t.Context(), rival)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.registry.EditServerCertificate(t.Context(), acme, func(_ *registry.Organisation, s *registry.ServerCertificate) error {
		*s = stored
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := p.ServerCertificate(t.Context(), acme); err != nil || len(got.Shown) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	p.wantShown("rival1."+domain, leaf.TLS())
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p := open(t)
	acme := p.org("acme01")
	start := p.now
	leaf := p.issue("acme01." + domain) // 60 days
	if err := p.upload(acme, leaf); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		days, said int // since the start, and in all
	}{{0, 0}, {29, 0}, {31, 1}, {40, 1}, {54, 2}, {59, 3}, {60, 4}, {61, 4}} {
		p.now = start.Add(time.Duration(tt.days)*24*time.Hour + time.Hour)
		p.Warn()
		// An edit of the organisation says nothing twice.
		if _, err := p.registry.UpdateOrganisation(t.Context(), acme, func(*registry.Organisation) error { return nil }); err != nil {
			t.Fatal(err)
		}
		p.Warn()
		if said := strings.Count(p.log.String(), "server certificate of organisation expires"); said != tt.said {
			t.Errorf("after %d days it was said %d times, want %d", tt.days, said, tt.said)
		}
	}
	if !strings.Contains(p.log.String(), "names=acme01.example.com") {
		t.Errorf("log: %s", p.log)
	}
	p.wantShown("acme01."+domain, leaf.TLS()) // better than none
	if got := p.Soonest(); !got.Equal(leaf.Certificate.NotAfter) {
		t.Errorf("the first ends at %v, want %v", got, leaf.Certificate.NotAfter)
	}
	wantKind(t, p.upload(acme, leaf), policy.KindInvalid)
}
