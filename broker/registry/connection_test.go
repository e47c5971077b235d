package registry

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func TestParseAddressRange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ written, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"192.0.2.7/32", "192.0.2.7"},
		{"192.0.2.7/24", "192.0.2.0/24"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"192.0.2.0-192.0.2.255", "192.0.2.0/24"},
		{"192.0.2.1-192.0.2.2", "192.0.2.1-192.0.2.2"},
		{"192.0.2.1 - 192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24"},
		{"2001:DB8::0/32", "2001:db8::/32"},
		{"2001:db8::1-2001:db8::ffff", "2001:db8::1-2001:db8::ffff"},
		{"::/0", "::/0"},
	} {
		r, err := ParseAddressRange(tt.written)
		if err != nil || r.String() != tt.want {
			t.Errorf("%q is %v, %v; want %s", tt.written, r, err, tt.want)
			continue
		}
		again, err := ParseAddressRange(r.String())
		if err != nil || again != r {
			t.Errorf("%s does not parse back: %v, %v", r, again, err)
		}
	}
	for _, written := range []string{
		"", "localhost", "192.0.2", "192.0.2.256", "192.0.2.0/33", "192.0.2.0/+8", "192.0.2.0/08", "192.0.2.0/-1", "192.0.2.0/", "/24",
		"192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "192.0.2.1-", "-", "192.0.2.1-192.0.2.2-192.0.2.3", "fe80::1%eth0", "fe80::%1/64",
		"::ffff:192.0.2.0/90", "192.0.2.0/24-192.0.3.0/24", "US", strings.Repeat("1", 5000), "192.0.2.7\n", "192.0.2.007",
	} {
		if r, err := ParseAddressRange(written); err == nil {
			t.Errorf("%q is %v", written, r)
		}
	}
}

func TestAddressList(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mode    string
		entries []string
	}{
		"no such mode":         {"block", []string{"192.0.2.7"}},
		"an empty list":        {AddressesAllowed, nil},
		"entries without mode": {"", []string{"192.0.2.7"}},
		"a bad entry":          {AddressesDenied, []string{"192.0.2.7", "x"}},
		"too many":             {AddressesDenied, slices.Repeat([]string{"192.0.2.7"}, MaxAddresses+1)},
	} {
		if _, err := NewAddressList(tt.mode, tt.entries); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := must[AddressList](t)(NewAddressList(AddressesAllowed, []string{"192.0.2.100-192.0.2.200", "192.0.2.150-192.0.2.250", "192.0.2.110", "10.0.0.0/8", "2001:db8::/64", "10.0.0.0/8"}))
	if got := l.Entries(); len(got) != 5 || got[3] != "10.0.0.0/8" {
		t.Errorf("entries %v", got)
	}
	for address, want := range map[string]bool{
		"192.0.2.99": false, "192.0.2.100": true, "192.0.2.225": true, "192.0.2.250": true, "192.0.2.251": false,
		"9.255.255.255": false, "10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "::ffff:10.1.2.3": true,
		"2001:db8::1": true, "2001:db8:0:1::": false, "::": false, "2001:db8::1%eth0": true,
	} {
		if got := l.Has(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is listed: %v", address, got)
		}
	}
	if l.Has(netip.Addr{}) {
		t.Error("no address is listed")
	}
	text := must[[]byte](t)(json.Marshal(l))
	var again AddressList
	if err := json.Unmarshal(text, &again); err != nil || !slices.Equal(again.ranges, l.ranges) || again.Mode != l.Mode {
		t.Errorf("%s reads as %+v, %v", text, again, err)
	}
}

// A list has an address exactly where one of its entries does.
func FuzzAddressList(f *testing.F) {
	f.Add("192.0.2.0/24,10.0.0.1-10.0.0.9", "192.0.2.7")
	f.Add("::/0,0.0.0.0/0", "::1")
	f.Fuzz(func(t *testing.T, written, address string) {
		entries := strings.Split(written, ",")
		l, err := NewAddressList(AddressesDenied, entries)
		if err != nil {
			return
		}
		a, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		a = a.Unmap().WithZone("")
		want := slices.ContainsFunc(l.entries, func(r AddressRange) bool {
			return r.First.Is4() == a.Is4() && !a.Less(r.First) && !r.Last.Less(a)
		})
		if got := l.Has(a); got != want {
			t.Errorf("%v has %v: %v, want %v", l.Entries(), a, got, want)
		}
		again, err := NewAddressList(AddressesDenied, l.Entries())
		if err != nil || !slices.Equal(again.entries, l.entries) {
			t.Errorf("%v parses as %v, %v", l.Entries(), again.Entries(), err)
		}
	})
}

func TestConnectionRulesAreChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	many := map[policy.ID]string{}
	for i := range maxLevels + 1 {
		many[policy.ID(fmt.Sprint("t", i))] = LevelToken
	}
	for name, edit := range map[string]func(*Organisation){
		"level":          func(o *Organisation) { o.ConnectionLevel = "plain" },
		"level of type":  func(o *Organisation) { o.Connections.Levels = map[policy.ID]string{"sensor": "tls"} },
		"empty level":    func(o *Organisation) { o.Connections.Levels = map[policy.ID]string{"sensor": ""} },
		"name of a type": func(o *Organisation) { o.Connections.Levels = map[policy.ID]string{"a b": LevelToken} },
		"too many types": func(o *Organisation) { o.Connections.Levels = many },
	} {
		_, err := f.UpdateOrganisation(t.Context(), acme, func(o *Organisation) error { edit(o); return nil })
		if policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a client claims says nothing about an organisation but its rules.
func TestConnectionFacts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	list := must[AddressList](t)(NewAddressList(AddressesDenied, []string{"192.0.2.0/24"}))
	must[Organisation](t)(f.UpdateOrganisation(t.Context(), acme, func(o *Organisation) error {
		o.ConnectionLevel, o.Data = LevelBoth, map[string]any{"secret": "x"}
		o.Connections = ConnectionRules{Levels: map[policy.ID]string{"sensor": LevelToken}, Addresses: list, CertificateRegistration: true}
		return nil
	}))
	for id, level := range map[policy.ClientID]string{
		"d:acme01:sensor:d1": LevelToken, "g:acme01:sensor:d1": LevelToken, "d:acme01:other:d1": LevelBoth, "a:acme01:sensor": LevelBoth,
		"d:acme01:sensor": "", "d:other1:sensor:d1": "", "thermometer": "", "": "", "x:acme01:sensor:d1": "", "d:ACME01:sensor:d1": "",
	} {
		facts := must[*policy.Organisation](t)(f.ClaimedFacts(t.Context(), &policy.Client{ID: id, Address: netip.MustParseAddr("192.0.2.7")}))
		switch {
		case facts == nil:
			if level != "" {
				t.Errorf("%q claims nothing", id)
			}
		case facts.ConnectionLevel != level || facts.Data != nil || facts.AddressList != AddressesDenied || !facts.AddressListed || facts.ID != acme:
			t.Errorf("%q claims %+v, want level %q", id, facts, level)
		}
	}
	p := &policy.Principal{Org: acme, Kind: policy.KindDevice, Type: "sensor", ID: "d1"}
	facts := must[*policy.Organisation](t)(f.ConnectionFacts(t.Context(), p, &policy.Client{ID: "d:acme01:other:d1"}))
	if facts.ConnectionLevel != LevelToken || facts.Data == nil || facts.AddressListed || !facts.CertificateRegistration {
		t.Errorf("a verified client has %+v", facts)
	}
}
