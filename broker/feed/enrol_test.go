package feed_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// A device that nobody has registered is, when it first shows a certificate; where
// the organisation wants that, and for as long as it does.
func TestRegistrationByCertificate(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	wide, named := g.root.Issue("d:sensor:"), g.root.Issue("d:sensor:d9")
	for _, tt := range []struct {
		name string
		edit func(*registry.Organisation)
		who  shows
		want bool
	}{
		{"switched off", func(*registry.Organisation) {}, shows{clientID: "d:acme01:sensor:d9", listener: "mqtts", leaf: named}, false},
		{"at a level of tokens", func(o *registry.Organisation) {
			o.Connections.CertificateRegistration, o.ConnectionLevel = true, registry.LevelToken
		}, shows{clientID: "d:acme01:sensor:d9", listener: "mqtts", leaf: named}, false},
		{
			"switched on", func(o *registry.Organisation) { o.ConnectionLevel = registry.LevelCertificate },
			shows{clientID: "d:acme01:sensor:d9", listener: "mqtts", leaf: named},
			true,
		},
		{"another device of the same certificate", nil, shows{clientID: "d:acme01:sensor:d8", listener: "mqtts", leaf: named}, false},
		{"any device of a type", nil, shows{clientID: "d:acme01:sensor:d7", listener: "mqtts", leaf: wide}, true},
		{"a type that there is not", nil, shows{clientID: "d:acme01:nothing:d1", listener: "mqtts", leaf: g.root.Issue("d:nothing:d1")}, false},
		{"a device of a type of gateways", nil, shows{clientID: "d:acme01:hub:h1", listener: "mqtts", leaf: g.root.Issue("d:hub:h1")}, false},
		{"a gateway", nil, shows{clientID: "g:acme01:hub:g1", listener: "mqtts", leaf: g.root.Issue("g:hub:g1")}, true},
		{"switched off again", func(o *registry.Organisation) { o.Connections.CertificateRegistration = false }, shows{clientID: "d:acme01:sensor:d6", listener: "mqtts", leaf: wide}, false},
		{"that is registered by now", nil, shows{clientID: "d:acme01:sensor:d7", listener: "mqtts", leaf: wide}, true},
	} {
		if tt.edit != nil {
			g.edit(tt.edit)
		}
		if got, why := g.enters(tt.who); got != tt.want {
			t.Errorf("%s: in %v, want %v: %s", tt.name, got, tt.want, why)
		}
	}
	d := must[registry.Device](t)(g.registry.Device(t.Context(), g.org, "sensor", "d9"))
	if d.CreatedBy != "certificate" || d.Disabled {
		t.Errorf("device %+v", d)
	}
	if _, err := g.registry.Device(t.Context(), g.org, "hub", "h1"); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("what failed left something: %v", err)
	}
}

// Many connections of one new device make one device; none of them is refused.
func TestRegistrationRaces(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	g.edit(func(o *registry.Organisation) { o.Connections.CertificateRegistration = true })
	leaf := g.root.Issue("d:sensor:")
	for i := range 20 {
		id := fmt.Sprint("d:acme01:sensor:r", i)
		var refused atomic.Int32
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				client := policy.Client{ID: policy.ClientID(id), Listener: "mqtts"}
				caller, err := g.show(client, shows{listener: "mqtts", leaf: leaf})
				if err != nil {
					refused.Add(1)
					return
				}
				caller.Leave()
			})
		}
		group.Wait()
		if n := refused.Load(); n > 0 {
			t.Errorf("%s: %d refused", id, n)
		}
	}
}

// A certificate of any device registers as many as the organisation may have, and no
// more, however many it tries; what is refused is not tried again at once.
func TestRegistrationFlood(t *testing.T) {
	t.Parallel()
	const most = 25
	g := newGate(t, registry.Options{RegisteredByCertificate: most})
	g.edit(func(o *registry.Organisation) { o.Connections.CertificateRegistration = true })
	leaf := g.root.Issue("d:sensor:")
	in := 0
	for i := range 4 * most {
		if ok, _ := g.enters(shows{clientID: fmt.Sprint("d:acme01:sensor:f", i), listener: "mqtts", leaf: leaf}); ok {
			in++
		}
	}
	if in != most {
		t.Errorf("%d of %d registered", in, most)
	}
	// Who is registered is not concerned.
	if ok, why := g.enters(shows{clientID: "d:acme01:sensor:f0", listener: "mqtts", leaf: leaf}); !ok {
		t.Error(why)
	}
	if ok, why := g.enters(shows{clientID: d1, listener: "mqtts", token: g.token}); !ok {
		t.Error(why)
	}
	// Nor does a deletion make room: it would go on without end.
	if err := g.registry.DeleteDevice(t.Context(), g.org, "sensor", "f0"); err != nil {
		t.Fatal(err)
	}
	p := policy.Principal{Org: g.org, Kind: policy.KindDevice, Type: "sensor", ID: "f0", Verifier: "certificate"}
	if _, err := g.registry.RegisterCertified(t.Context(), &p); policy.KindOf(err) != policy.KindForbidden {
		t.Errorf("without a proof: %v", err)
	}
}

// Nobody is registered by the word of a principal alone.
func TestRegisterCertifiedRefuses(t *testing.T) {
	t.Parallel()
	g := newGate(t, registry.Options{})
	g.edit(func(o *registry.Organisation) { o.Connections.CertificateRegistration = true })
	caller, err := g.enter(shows{clientID: "d:acme01:sensor:x1", listener: "mqtts", leaf: g.root.Issue("d:sensor:x1")})
	if err != nil {
		t.Fatal(err)
	}
	p := *caller.Principal()
	caller.Leave()
	p.ID, p.DeviceIncarnation, p.Registered = "x2", 0, false
	for name, tt := range map[string]struct {
		edit func(*policy.Principal)
		want policy.Kind
	}{
		"by a token":            {func(p *policy.Principal) { p.Verifier = "token" }, policy.KindForbidden},
		"by a plugin":           {func(p *policy.Principal) { p.Verifier = "jwt" }, policy.KindForbidden},
		"another version":       {func(p *policy.Principal) { p.Credential.Version++ }, policy.KindForbidden},
		"no proof":              {func(p *policy.Principal) { p.Credential.ID = "certificate/x" }, policy.KindForbidden},
		"another incarnation":   {func(p *policy.Principal) { p.Incarnation++ }, policy.KindNotFound},
		"there already":         {func(p *policy.Principal) { p.ID = "x1" }, policy.KindExists},
		"no such type":          {func(p *policy.Principal) { p.Type = "nothing" }, policy.KindNotFound},
		"of the type's class":   {func(p *policy.Principal) { p.Kind = policy.KindGateway }, policy.KindConflict},
		"beside a token of its": {func(p *policy.Principal) { p.Verifier, p.And = "token", &policy.Proof{Verifier: "token"} }, policy.KindForbidden},
	} {
		q := p
		tt.edit(&q)
		if _, err := g.registry.RegisterCertified(t.Context(), &q); policy.KindOf(err) != tt.want {
			t.Errorf("%s: %v, want kind %v", name, err, tt.want)
		}
	}
	if err := g.registry.DeleteAuthority(t.Context(), g.org, g.id); err != nil {
		t.Fatal(err)
	}
	if _, err := g.registry.RegisterCertified(t.Context(), &p); policy.KindOf(err) != policy.KindForbidden {
		t.Errorf("without the authority: %v", err)
	}
	if _, _, err := g.registry.CreateDevice(t.Context(), g.org, registry.Device{Type: "sensor", ID: "x2"}, plugins.Secret{}); err != nil {
		t.Error(err)
	}
}
