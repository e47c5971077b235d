package feed_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/revocation"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// gate is a broker that clients enter without a network, with the built-in policies
// and verifiers.
type gate struct {
	t        *testing.T
	registry *registry.Registry
	broker   *broker.Broker
	org      policy.OrgID
	root     *certificatetest.Authority
	id       policy.ID // of root
	token    string    // of sensor d1
	next     uint32    // address
}

var bundle = sync.OnceValue(func() *opa.Bundle {
	b, report := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if report.Err() != nil {
		panic(report.Err())
	}
	return b
})

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newGate(t *testing.T, o registry.Options) *gate {
	t.Helper()
	st := memstore.New()
	g := &gate{t: t, registry: must[*registry.Registry](t)(registry.Open(st, o)), root: certificatetest.New(t, "Devices")}
	engine := opa.New(opa.Options{Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second})
	engine.Activate(bundle())
	keeper := revocation.New(revocation.Config{Registry: g.registry})
	g.broker = broker.New(broker.Config{Domain: "localhost"}, broker.Deps{
		Decider: engine,
		Verifiers: plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
			{Verifier: registry.VerifierName}: g.registry.TokenVerifier(),
			{Verifier: certificate.Name}:      certificate.New(certificate.Config{Authorities: g.registry, Revocation: keeper, Domain: "localhost"}),
		}, nil),
		Registry: feed.Registry{Registry: g.registry}, Store: st,
	})
	unwatch := g.registry.Watch(func(ch registry.Change) { g.broker.Apply(feed.Change(ch)) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.broker.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		unwatch()
		keeper.Close()
		g.registry.Close()
		engine.Close()
		_ = st.Close()
	})
	g.org = must[policy.OrgID](t)(policy.ParseOrgID("acme01"))
	must[registry.Organisation](t)(g.registry.CreateOrganisation(t.Context(), g.org, ""))
	for _, typ := range []policy.ID{"sensor", "other"} {
		must[registry.DeviceType](t)(g.registry.CreateType(t.Context(), g.org, registry.DeviceType{ID: typ}))
	}
	must[registry.DeviceType](t)(g.registry.CreateType(t.Context(), g.org, registry.DeviceType{ID: "hub", ClassID: registry.ClassGateway}))
	var err error
	if _, g.token, err = g.registry.CreateDevice(t.Context(), g.org, registry.Device{Type: "sensor", ID: "d1"}, plugins.Secret{}); err != nil {
		t.Fatal(err)
	}
	g.id = must[registry.Authority](t)(g.registry.CreateAuthority(t.Context(), g.org, g.root.Certificate.Raw, "")).ID
	return g
}

func (g *gate) edit(edit func(*registry.Organisation)) {
	g.t.Helper()
	must[registry.Organisation](g.t)(g.registry.UpdateOrganisation(g.t.Context(), g.org, func(o *registry.Organisation) error {
		edit(o)
		return nil
	}))
}

// shows is what a client brings.
type shows struct {
	clientID string
	listener string
	token    string // empty: none
	leaf     *certificatetest.Leaf
	address  string // empty: one that nobody had before
}

func (g *gate) enter(s shows) (*broker.Caller, error) {
	client := policy.Client{ID: policy.ClientID(s.clientID), Listener: s.listener}
	g.next++
	client.Address = netip.AddrFrom4([4]byte{10, byte(g.next >> 16), byte(g.next >> 8), byte(g.next)})
	if s.address != "" {
		client.Address = netip.MustParseAddr(s.address)
	}
	return g.show(client, s)
}

func (g *gate) show(client policy.Client, s shows) (*broker.Caller, error) {
	c := &plugins.Credential{Client: client}
	if s.token != "" {
		c.Client.Username, c.Password, c.HasPassword = "use-token-auth", plugins.NewSecret([]byte(s.token)), true
	}
	if s.listener != "mqtt" {
		c.Client.TLS = &policy.TLS{Version: "1.3", SNI: "acme01.localhost"}
		if s.leaf != nil {
			c.Chain = s.leaf.Chain
			c.Client.TLS.Cert = &policy.Certificate{Subject: s.leaf.Certificate.Subject.String(), SHA256: fmt.Sprintf("%x", s.leaf.Certificate.SerialNumber)}
		}
	}
	return g.broker.Enter(context.Background(), c)
}

// enters reports whether s is let in, and otherwise what it is told.
func (g *gate) enters(s shows) (bool, string) {
	g.t.Helper()
	caller, err := g.enter(s)
	var denial *broker.Denial
	switch {
	case err == nil:
		caller.Leave()
		return true, ""
	case errors.As(err, &denial):
		return false, err.Error()
	default:
		g.t.Fatal(err)
		return false, ""
	}
}

const d1 = "d:acme01:sensor:d1"

// takes is what a level promises: which proofs have to be good.
func takes(level, cert, token, listener string) bool {
	goodCert, goodToken := cert == "good", token == "good"
	plain := listener == "mqtt"
	switch level {
	case registry.LevelTLSOptional:
		return goodToken
	case registry.LevelToken:
		return goodToken && !plain
	case registry.LevelCertificate:
		return goodCert && !plain
	case registry.LevelBoth:
		return goodCert && goodToken && !plain
	case registry.LevelEither, registry.LevelTLS: // a token that is shown is checked
		return !plain && (goodToken || token == "none" && goodCert)
	default:
		return false
	}
}

// Every level with every certificate, token and listener, as the organisation's own
// level and as one of the device type alone.
func TestConnectionLevels(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	rival := certificatetest.New(t, "Devices")
	revoked := g.root.Issue("d:sensor:d1")
	must[registry.Authority](t)(g.registry.UploadList(t.Context(), g.org, g.id, g.root.List(1, []*x509.Certificate{revoked.Certificate})))
	leaves := map[string]*certificatetest.Leaf{
		"none": nil, "good": g.root.Issue("d:sensor:d1"), "of another": rival.Issue("d:sensor:d1"), "revoked": revoked,
		"expired": g.root.Issue("d:sensor:d1", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}),
	}
	tokens := map[string]string{"none": "", "good": g.token, "bad": "not the token of it"}
	levels := []string{
		registry.LevelTLS, registry.LevelTLSOptional, registry.LevelToken, registry.LevelCertificate, registry.LevelBoth, registry.LevelEither,
	}
	cells := 0
	for _, level := range levels {
		for _, ofType := range []bool{false, true} {
			if ofType && level == registry.LevelTLS {
				continue // nobody chooses it
			}
			g.edit(func(o *registry.Organisation) {
				another := registry.LevelCertificate
				if level == another {
					another = registry.LevelToken
				}
				o.ConnectionLevel, o.Connections.Levels = level, map[policy.ID]string{"other": another}
				if ofType {
					o.ConnectionLevel, o.Connections.Levels = another, map[policy.ID]string{"sensor": level}
				}
			})
			for cert, leaf := range leaves {
				for token, secret := range tokens {
					for _, listener := range []string{"mqtts", "mqtt", "wss", "https"} {
						if listener == "mqtt" && cert != "none" {
							continue // there is nothing to show it in
						}
						cells++
						got, why := g.enters(shows{clientID: d1, listener: listener, token: secret, leaf: leaf})
						if want := takes(level, cert, token, listener); got != want {
							t.Errorf("level %s (of the type: %v), certificate %s, token %s, %s: in %v, want %v: %s", level, ofType, cert, token, listener, got, want, why)
						}
					}
				}
			}
		}
	}
	if cells != 11*(5*3*3+3) {
		t.Errorf("%d cells", cells)
	}
}

// Whoever is verified and lacks something is told what.
func TestConnectionReasons(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	good := g.root.Issue("d:sensor:d1")
	for _, tt := range []struct {
		level, listener, token string
		leaf                   *certificatetest.Leaf
		want                   string
	}{
		{registry.LevelToken, "mqtt", g.token, nil, "this organisation requires TLS"},
		{registry.LevelToken, "mqtts", "", good, "this organisation requires a token"},
		{registry.LevelTLSOptional, "mqtts", "", good, "this organisation requires a token"},
		{registry.LevelCertificate, "mqtts", g.token, nil, "this organisation requires a client certificate"},
		{registry.LevelBoth, "mqtts", g.token, nil, "this organisation requires a client certificate beside the token"},
		{registry.LevelBoth, "mqtts", "", good, "this organisation requires a token beside the client certificate"},
		{registry.LevelBoth, "mqtts", "wrong", good, "not authorised"},
		{registry.LevelCertificate, "mqtts", "wrong", nil, "not authorised"},
	} {
		g.edit(func(o *registry.Organisation) { o.ConnectionLevel = tt.level })
		if in, why := g.enters(shows{clientID: d1, listener: tt.listener, token: tt.token, leaf: tt.leaf}); in || !strings.Contains(why, tt.want) {
			t.Errorf("%s over %s: in %v, %q, want %q", tt.level, tt.listener, in, why, tt.want)
		}
	}
}

// A token and a certificate of two clients are nobody's, and either of them ends both.
func TestTokenAndCertificate(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	g.edit(func(o *registry.Organisation) { o.ConnectionLevel = registry.LevelBoth })
	if in, _ := g.enters(shows{clientID: d1, listener: "mqtts", token: g.token, leaf: g.root.Issue("d:sensor:d2")}); in {
		t.Error("the certificate of d2 beside the token of d1")
	}
	if in, why := g.enters(shows{clientID: d1, listener: "mqtts", token: g.token, leaf: g.root.Issue("d:sensor:")}); !in {
		t.Errorf("the certificate of any sensor: %s", why)
	}
	for name, end := range map[string]func(leaf *certificatetest.Leaf){
		"the certificate is revoked": func(leaf *certificatetest.Leaf) {
			must[registry.Authority](t)(g.registry.UploadList(t.Context(), g.org, g.id, g.root.List(time.Now().UnixNano(), []*x509.Certificate{leaf.Certificate})))
		},
		"the token is replaced": func(*certificatetest.Leaf) {
			var err error
			if g.token, err = g.registry.ReplaceDeviceToken(t.Context(), g.org, "sensor", "d1", plugins.Secret{}, 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		leaf := g.root.Issue("d:sensor:d1")
		caller, err := g.enter(shows{clientID: d1, listener: "mqtts", token: g.token, leaf: leaf})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := caller.Principal()
		if p.And == nil || !p.ExpiresAt.Equal(p.And.ExpiresAt) || p.ExpiresAt.After(leaf.Certificate.NotAfter) {
			t.Errorf("%s: second proof %+v, expires %v", name, p.And, p.ExpiresAt)
		}
		end(leaf)
		if _, err := g.registry.Refresh(t.Context(), p); err == nil || plugins.CauseOf(err) != policy.CauseRevoked {
			t.Errorf("%s: %v", name, err)
		}
		caller.Leave()
	}
}

func TestAddressLists(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	list := func(mode string, entries ...string) {
		t.Helper()
		l := must[registry.AddressList](t)(registry.NewAddressList(mode, entries))
		g.edit(func(o *registry.Organisation) { o.Connections.Addresses = l })
	}
	from := func(address string, want bool) {
		t.Helper()
		in, why := g.enters(shows{clientID: d1, listener: "mqtts", token: g.token, address: address})
		if in != want || !in && !strings.Contains(why, "connections from this address are not allowed") {
			t.Errorf("from %s: in %v, want %v: %s", address, in, want, why)
		}
	}
	list(registry.AddressesAllowed, "192.0.2.0/24", "198.51.100.7", "2001:db8::5-2001:db8::9")
	from("192.0.2.200", true)
	from("198.51.100.7", true)
	from("198.51.100.8", false)
	from("2001:db8::7", true)
	from("2001:db8::a", false)
	from("::ffff:192.0.2.1", true)
	list(registry.AddressesDenied, "192.0.2.0/24")
	from("192.0.2.200", false)
	from("198.51.100.8", true)
	list("")
	from("192.0.2.200", true)
}

// A second proof that is gone ends what both opened.
func TestChangeOfASecondProof(t *testing.T) {
	t.Parallel()
	both := &policy.Principal{Verifier: registry.VerifierName, And: &policy.Proof{
		Verifier: certificate.Name, Credential: policy.CredentialID{ID: "certificate/ca/leaf/iss:2a", Version: 3},
	}}
	gone := feed.Change(registry.Change{Kind: registry.AuthorityDeleted, Authority: "ca"})
	if !gone.Match(both) || gone.Effect != broker.Disconnect {
		t.Error("the authority is gone, and its sessions stay")
	}
	if feed.Change(registry.Change{Kind: registry.AuthorityDeleted, Authority: "cb"}).Match(both) {
		t.Error("another authority's sessions go")
	}
	if feed.Change(registry.Change{Kind: registry.AuthorityDeleted, Authority: "ca"}).Match(&policy.Principal{Verifier: registry.VerifierName}) {
		t.Error("sessions of a token alone go")
	}
}
