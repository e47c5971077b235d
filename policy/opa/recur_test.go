package opa

import (
	"net/netip"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func connectRules(text string) fstest.MapFS {
	return fstest.MapFS{"cordon/connect/connect.rego": {Data: []byte("package cordon.connect\n\n" + text + "\n")}}
}

// What connect said to a principal of the registry is said again when it
// reconnects, as long as nothing that the rules can read has changed.
func TestReconnectIsRemembered(t *testing.T) {
	t.Parallel()
	e := engineOf(t, connectRules(`decision := {"allow": true, "roles": [input.client.id]}`), Options{})
	base := deviceFacts(t)
	base.Principal.Verifier, base.Principal.Version = registryVerifier, 7
	ask := func(edit func(p *policy.Principal, c *policy.Client)) *policy.Decision {
		p, c := *base.Principal, *base.Client
		edit(&p, &c)
		return e.Judge(&policy.Facts{Principal: &p, Org: base.Org, Client: &c}).Decide(t.Context(), &policy.Request{Action: policy.ActionConnect})
	}
	first := ask(func(*policy.Principal, *policy.Client) {})
	if !first.Allow {
		t.Fatalf("denied: %+v", first)
	}
	for name, tt := range map[string]struct {
		edit func(p *policy.Principal, c *policy.Client)
		same bool
	}{
		"again":                      {func(*policy.Principal, *policy.Client) {}, true},
		"from elsewhere":             {func(_ *policy.Principal, c *policy.Client) { c.Address = netip.MustParseAddr("192.0.2.9") }, true},
		"after an edit of a record":  {func(p *policy.Principal, _ *policy.Client) { p.Version++ }, false},
		"with another credential":    {func(p *policy.Principal, _ *policy.Client) { p.Credential.Version++ }, false},
		"as a namesake":              {func(p *policy.Principal, _ *policy.Client) { p.DeviceIncarnation++ }, false},
		"of another incarnation":     {func(p *policy.Principal, _ *policy.Client) { p.Incarnation++ }, false},
		"under another client ID":    {func(_ *policy.Principal, c *policy.Client) { c.ID = "other" }, false},
		"verified by a plugin":       {func(p *policy.Principal, _ *policy.Client) { p.Verifier = "jwt" }, false},
		"with claims":                {func(p *policy.Principal, _ *policy.Client) { p.Claims = map[string]any{"a": 1} }, false},
		"with other claims":          {func(p *policy.Principal, _ *policy.Client) { p.Claims = map[string]any{"a": 2} }, false},
		"unregistered":               {func(p *policy.Principal, _ *policy.Client) { p.Registered = false }, false},
		"until another time":         {func(p *policy.Principal, _ *policy.Client) { p.ExpiresAt = time.Unix(2e9, 0) }, false},
		"without a version to go by": {func(p *policy.Principal, _ *policy.Client) { p.Version = 0 }, false},
	} {
		if d := ask(tt.edit); !d.Allow || (d.ID == first.ID) != tt.same {
			t.Errorf("%s: %+v; the same answer: %v, want %v", name, d, d.ID == first.ID, tt.same)
		}
	}
	plugged := func(claim int) string {
		return ask(func(p *policy.Principal, _ *policy.Client) { p.Verifier, p.Claims = "jwt", map[string]any{"a": claim} }).ID
	}
	if one, again, other := plugged(1), plugged(1), plugged(2); one != again || one == other {
		t.Error("the claims of a plugin are not what its answers are kept by")
	}
	e.Activate(mustLoad(t, connectRules(`decision := {"allow": false}`)))
	if d := ask(func(*policy.Principal, *policy.Client) {}); d.Allow {
		t.Error("allowed by the policy before")
	}
}

// An answer that ends, or that a clock can change, is given to nobody else.
func TestReconnectIsAskedAnew(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a ttl":   `decision := {"allow": true, "ttl": 60}`,
		"a clock": `decision := {"allow": true} if time.now_ns() > 0`,
		"a no":    `decision := {"allow": false}`,
	} {
		e := engineOf(t, connectRules(text), Options{})
		f := deviceFacts(t)
		f.Principal.Verifier, f.Principal.Version = registryVerifier, 7
		ids := map[string]bool{}
		for range 2 {
			ids[e.Judge(f).Decide(t.Context(), &policy.Request{Action: policy.ActionConnect}).ID] = true
		}
		if len(ids) != 2 {
			t.Errorf("%s: given twice", name)
		}
	}
}

// Verifiers are remembered by what their rule can read, and by nothing less.
func TestVerifiersAreRemembered(t *testing.T) {
	t.Parallel()
	e := engineOf(t, connectRules(`verifiers := [{"verifier": "plugin", "name": input.client.username}]`), Options{})
	for _, name := range []string{"one", "two", "one"} {
		for _, id := range []policy.ClientID{"x", "y"} {
			refs, err := e.Verifiers(t.Context(), &policy.Client{ID: id, Username: name}, nil)
			if err != nil || len(refs) != 1 || refs[0].Name != name {
				t.Errorf("%s: %v, %v", name, refs, err)
			}
		}
	}
	if got := e.Stats().Evaluations; got != 2 {
		t.Errorf("%d evaluations, want one for each name", got)
	}
}

// What an organisation wants of its clients is part of what verifiers are remembered by,
// where the rule reads it; a client's certificate is never remembered.
func TestVerifiersAreRememberedByOrganisation(t *testing.T) {
	t.Parallel()
	e := engineOf(t, connectRules(`verifiers := [{"verifier": "plugin", "name": name}] if {
		not input.client.tls.cert
		name := input.org.connection_level
	}

	else := [{"verifier": "token", "and": "certificate"}] if input.client.tls.cert

	else := []`), Options{})
	org := func(id, level string) *policy.Organisation {
		parsed, err := policy.ParseOrgID(id)
		if err != nil {
			t.Fatal(err)
		}
		return &policy.Organisation{ID: parsed, ConnectionLevel: level}
	}
	ask := func(org *policy.Organisation, cert *policy.Certificate, want ...policy.VerifierRef) {
		t.Helper()
		refs, err := e.Verifiers(t.Context(), &policy.Client{TLS: &policy.TLS{Version: "1.3", SNI: "a", Cert: cert}}, org)
		if err != nil || !slices.Equal(refs, want) {
			t.Errorf("%+v: %v, %v; want %v", org, refs, err, want)
		}
	}
	for range 2 {
		ask(org("acme01", "tls_token"), nil, policy.VerifierRef{Verifier: "plugin", Name: "tls_token"})
		ask(org("acme01", "tls_optional"), nil, policy.VerifierRef{Verifier: "plugin", Name: "tls_optional"})
		ask(org("acme02", "tls_token"), nil, policy.VerifierRef{Verifier: "plugin", Name: "tls_token"})
		ask(nil, nil)
	}
	if got := e.Stats().Evaluations; got != 4 {
		t.Errorf("%d evaluations, want one for each organisation and level", got)
	}
	ask(org("acme01", "tls_token"), &policy.Certificate{SHA256: "00"}, policy.VerifierRef{Verifier: "token", And: "certificate"})
	ask(org("acme01", "tls_token"), nil, policy.VerifierRef{Verifier: "plugin", Name: "tls_token"})
}

// Two clients whose second proof, level or address differ are not given the same answer.
func TestReconnectByOrganisation(t *testing.T) {
	t.Parallel()
	e := engineOf(t, connectRules(`decision := {"allow": true, "mounts": [], "roles": [concat(" ", [
		input.org.connection_level, object.get(input.principal, "also", "-"), sprintf("%v", [object.get(input.org, "address_listed", "-")]),
		sprintf("%v", [object.get(input.org, "certificate_registration", "-")]),
	])]}`), Options{})
	ask := func(want string, edit func(*policy.Facts)) {
		t.Helper()
		f := deviceFacts(t)
		f.Principal.Verifier, f.Principal.Version = registryVerifier, 7
		edit(f)
		d := e.Judge(f).Decide(t.Context(), &policy.Request{Action: policy.ActionConnect})
		if !d.Allow || d.Roles[0] != want {
			t.Errorf("%v %q %s, want %q", d.Allow, d.Roles, d.Detail, want)
		}
	}
	for range 2 {
		ask("tls - - -", func(*policy.Facts) {})
		ask("tls_token - - -", func(f *policy.Facts) { f.Org.ConnectionLevel = "tls_token" })
		ask("tls certificate - -", func(f *policy.Facts) { f.Principal.And = &policy.Proof{Verifier: "certificate"} })
		ask("tls - true -", func(f *policy.Facts) { f.Org.AddressList, f.Org.AddressListed = "deny", true })
		ask("tls - false -", func(f *policy.Facts) { f.Org.AddressList = "deny" })
		ask("tls - - true", func(f *policy.Facts) { f.Org.CertificateRegistration = true })
	}
}
