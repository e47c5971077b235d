package pki

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAltNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "ab" // 250 bytes: room for no wildcard
	tests := map[string]struct {
		names Names
		dns   []string
		ips   []string
	}{
		"nothing given": {
			Names{},
			[]string{"localhost", "*.localhost", "*.messaging.localhost"},
			nil,
		},
		"organisations and hosts": {
			Names{Domain: "iot.example", Organisations: []string{"zeta99", "abc123"}, Hosts: []string{"Broker-1.", "10.1.2.3", "fe80::1%eth0"}},
			[]string{
				"localhost", "iot.example", "*.iot.example", "*.messaging.iot.example",
				"abc123.iot.example", "abc123.messaging.iot.example", "zeta99.iot.example", "zeta99.messaging.iot.example", "broker-1",
			},
			[]string{"10.1.2.3", "fe80::1"},
		},
		"an IP address has no names below it": {
			Names{Domain: "192.0.2.1", Organisations: []string{"abc123"}},
			[]string{"localhost"},
			[]string{"192.0.2.1"},
		},
		"what is no host name is skipped": {
			Names{Organisations: []string{"a.b", "", "-a", "*", "a b", "ab\x00"}, Hosts: []string{"my_host", "bad host", "*", "..", "é"}},
			[]string{"localhost", "*.localhost", "*.messaging.localhost", "my_host"},
			nil,
		},
		"each name once": {
			Names{Organisations: []string{"abc123", "ABC123", "abc123"}, Hosts: []string{"localhost", "127.0.0.1", "::ffff:127.0.0.1"}},
			[]string{"localhost", "*.localhost", "*.messaging.localhost", "abc123.localhost", "abc123.messaging.localhost"},
			nil,
		},
		"too long below a long domain": {
			Names{Domain: long, Organisations: []string{"abc123"}},
			[]string{"localhost", long, "*." + long},
			nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			domain, err := parseDomain(tt.names.Domain)
			if err != nil {
				t.Fatal(err)
			}
			tt.names.Domain = domain
			got := tt.names.altNames()
			if !slices.Equal(got.dns, tt.dns) {
				t.Errorf("DNS names\n%v, want\n%v", got.dns, tt.dns)
			}
			want := append([]string{"127.0.0.1", "::1"}, tt.ips...)
			if ips := fmt.Sprint(got.ips); ips != fmt.Sprint(want) {
				t.Errorf("addresses %v, want %v", ips, want)
			}
		})
	}
}

func TestDomainIsChecked(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"bad domain", "*.example", "a..b", "bücher.example", "-a.example", strings.Repeat("a", 64), "x/../y"} {
		if _, err := Open(t.TempDir(), Names{Domain: domain}, nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("domain %q", domain)) {
			t.Errorf("Open with domain %q = %v, want an error that names it", domain, err)
		}
	}
}

func TestVeryManyOrganisationsAreLeftToTheWildcards(t *testing.T) {
	t.Parallel()
	log := newLog()
	var organisations []string
	for i := range 3 * maxOrganisations {
		organisations = append(organisations, fmt.Sprintf("org%03d", i))
	}
	a := mustOpen(t, t.TempDir(), Names{Domain: "iot.example", Organisations: organisations, Log: log.logger()}, nil)
	leaf := a.current.Load().Leaf
	if size, most := len(leaf.Raw), 8<<10; size > most {
		t.Errorf("certificate of %d bytes, want at most %d", size, most)
	}
	for _, org := range []string{"org000", "org299"} {
		for _, host := range []string{org + ".iot.example", org + ".messaging.iot.example"} {
			if err := leaf.VerifyHostname(host); err != nil {
				t.Error(err)
			}
		}
	}
	first := serial(a)
	if err := a.SetOrganisations(append(organisations, "zzz")); err != nil {
		t.Fatal(err)
	}
	if serial(a) != first {
		t.Error("an organisation left to the wildcards made a new certificate")
	}
	if n := strings.Count(log.String(), "too many organisations"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log)
	}
}

// Every name of the design works in a handshake, in both versions of TLS.
func TestHandshakeWithEveryName(t *testing.T) {
	t.Parallel()
	a := mustOpen(t, t.TempDir(), Names{Domain: "iot.example", Organisations: []string{"abc123"}, Hosts: []string{"broker-1"}}, nil)
	local := mustOpen(t, t.TempDir(), Names{Organisations: []string{"abc123"}}, nil)
	tests := []struct {
		authority *Authority
		names     []string
		refused   []string
	}{
		{
			a,
			[]string{
				"localhost", "127.0.0.1", "::1", "broker-1", "iot.example", "any.iot.example", "any.messaging.iot.example",
				"abc123.iot.example", "abc123.messaging.iot.example", "ABC123.IoT.example",
			},
			[]string{"example", "a.b.iot.example", "broker-2", "127.0.0.2", "any.localhost"},
		},
		{
			local,
			[]string{"localhost", "any.localhost", "any.messaging.localhost", "abc123.localhost", "abc123.messaging.localhost"},
			[]string{"a.b.localhost", "iot.example"},
		},
	}
	for _, tt := range tests {
		address := tlsServer(t, tt.authority.TLSConfig())
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, name := range append(slices.Clone(tt.names), tt.refused...) {
				_, err := shown(address, &tls.Config{
					RootCAs: tt.authority.Pool(), ServerName: name, MinVersion: version, MaxVersion: version,
				})
				if good := slices.Contains(tt.names, name); (err == nil) != good {
					t.Errorf("%s, %s: %v; want accepted %v", tls.VersionName(version), name, err, good)
				}
			}
		}
	}
}

// What OpenSSL says, which most MQTT clients outside Go ask. It wants two dots
// after a star: the reason for a name per organisation.
func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	dir := t.TempDir()
	a := mustOpen(t, dir, Names{Organisations: []string{"abc123"}}, nil)
	for host, want := range map[string]bool{
		"localhost":                  true,
		"abc123.localhost":           true,
		"abc123.messaging.localhost": true,
		"any.messaging.localhost":    true,
		"any.localhost":              false,
	} {
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslserver",
			"-CAfile", a.CAFile(), "-verify_hostname", host, filepath.Join(dir, "server.crt")).CombinedOutput()
		if (err == nil) != want {
			t.Errorf("%s: accepted %v, want %v\n%s", host, err == nil, want, out)
		}
	}
}

// Whatever the registry and the machine are called, the names are ones that a
// certificate can carry and a client would match.
func FuzzAltNames(f *testing.F) {
	f.Add("localhost", "abc123", "broker-1")
	f.Add("10.0.0.1", "a.b", "::1")
	f.Add("xn--bcher-kva.example", "*", "*.example")
	f.Add("a.", "\x00", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, domain, org, host string) {
		domain, err := parseDomain(domain)
		if err != nil {
			return
		}
		got := Names{Domain: domain, Organisations: []string{org}, Hosts: []string{host}}.altNames()
		for _, name := range got.dns {
			if len(name) > maxHostName || strings.ContainsAny(name, " \x00/:@") || strings.LastIndex(name, "*") > 0 {
				t.Errorf("%q is no host name", name)
			}
			if strings.HasPrefix(name, "*") && name != "*."+domain && name != "*.messaging."+domain {
				t.Errorf("wildcard %q was not asked for", name)
			}
		}
		for _, ip := range got.ips {
			if len(ip) != net.IPv4len && len(ip) != net.IPv6len {
				t.Errorf("address of %d bytes", len(ip))
			}
		}
	})
}
