package opa

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
)

// looks are what rules of any package may look at of who asks; each is an
// expression.
var looks = []string{
	`1`,
	`input.principal.kind`,
	`[input.principal.kind, object.get(input.principal, "id", ""), object.get(input.principal, "type", "")]`,
	`object.get(input.principal, "roles", [])`,
	`[object.get(input.principal, "groups", []), object.get(input.principal, "permissions", [])]`,
	`[object.get(input.principal, "claims", {}), input.principal.verifier]`,
	`[object.get(input.principal, "metadata", {}), input.principal.registered]`,
	`[object.get(input.principal, "api_key", ""), object.get(input.principal, "app", ""), object.get(input.principal, "expires_at", 0)]`,
	`input.org`,
	`[input.client.id, input.client.protocol]`,
	`[input.client.address, input.client.listener, input.client.username]`,
	`object.get(input.client, "tls", "plain")`,
	`input.principal`,
	`input`,
	`json.marshal(data.cordon.table)`,
}

// bundlesThatLook are one for each look, in every package; of data, two that
// differ in nothing else.
func bundlesThatLook(t *testing.T) (bundles []*Bundle) {
	t.Helper()
	asked := map[string]string{
		"connect": `[]`, "publish": `[input.topic, input.qos]`, "receive": `input.levels`, "subscribe": `[input.filter, input.qos]`,
		"admin": `[input.method, input.route, input.target]`,
	}
	for i, look := range looks {
		modules := map[string]string{}
		for pkg, of := range asked {
			if i%3 == 0 {
				of = `[]`
			}
			modules[pkg] = fmt.Sprintf("decision := {\"allow\": count(_seen) %% 2 == 0, \"reason\": _seen, \"ttl\": 3600}\n\n_seen := sprintf(\"%%v %%v\", [%s, %s])\n", look, of)
		}
		tables := []string{`{"a": 1}`}
		if i == len(looks)-1 {
			tables = append(tables, `{"a": 2}`)
		}
		for _, table := range tables {
			bundles = append(bundles, mustLoad(t, fsWith(module(modules), "cordon/table/data.json", table)))
		}
	}
	return bundles
}

// drawHolder keeps to few values. What comes from records has a version, as the
// registry gives it.
func drawHolder(t *rapid.T, org policy.OrgID) *policy.Facts {
	pick := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(t, label) }
	p := &policy.Principal{Org: org, Kind: policy.KindDevice, Type: "sensor", ID: []policy.ID{"d1", "d2"}[pick("id", 2)], Verifier: "token"}
	switch pick("kind", 4) {
	case 1:
		p.Kind = policy.KindGateway
	case 2:
		p.Kind, p.Type, p.ID, p.App, p.APIKey = policy.KindApplication, "", "", "app1", []string{"a-acme01-0123456789", "a-acme01-9876543210"}[pick("key", 2)]
		p.Roles = [][]string{{"PD_ADMIN_APP"}, {"PD_STANDARD_APP"}}[pick("roles", 2)]
		p.Permissions = [][]string{nil, {"x"}}[pick("permissions", 2)]
	case 3: // of a plugin
		p.Verifier = []string{"jwt", "other"}[pick("verifier", 2)]
		p.Claims = []map[string]any{nil, {"fleet": "a"}, {"fleet": "b"}, {"fleet": []any{"a", true}}}[pick("claims", 4)]
		if pick("expires", 2) == 1 {
			p.ExpiresAt = time.Unix(4_000_000_000+int64(pick("when", 2)), 0)
		}
	}
	groups, metadata, registered, data := pick("groups", 3), pick("metadata", 3), pick("registered", 2), pick("data", 3)
	p.Groups = [][]string{nil, {"hall"}, {"hall", "roof"}}[groups]
	p.Metadata = []map[string]any{nil, {"floor": "1"}, {"floor": "2"}}[metadata]
	p.Registered = registered == 1
	f := &policy.Facts{Principal: p, Org: &policy.Organisation{ID: org, ConnectionLevel: []string{"tls", "tls_optional"}[pick("level", 2)]}}
	f.Org.Data = []map[string]any{nil, {"night": true}, {"night": false}}[data]
	roles := 0
	if len(p.Roles) > 0 && p.Roles[0] == "PD_ADMIN_APP" {
		roles = 1
	}
	if pick("has a version", 4) > 0 {
		p.Version = uint64(1 + groups + 3*metadata + 9*registered + 18*data + 54*roles + 108*len(p.Permissions))
	}
	f.Client = &policy.Client{
		ID: []policy.ClientID{"c1", "c2"}[pick("client", 2)], Username: []string{"use-token-auth", ""}[pick("username", 2)],
		Protocol: []string{"3.1.1", "5"}[pick("protocol", 2)], Listener: []string{"mqtt", "mqtts"}[pick("listener", 2)],
		Address: netip.MustParseAddr([]string{"192.0.2.7", "2001:db8::1"}[pick("address", 2)]),
	}
	if pick("tls", 3) == 2 {
		f.Client.TLS = &policy.TLS{Version: "1.3", SNI: []string{"", "acme01.example"}[pick("sni", 2)]}
		if pick("cert", 2) == 1 {
			f.Client.TLS.Cert = &policy.Certificate{Subject: "CN=d1", SHA256: []string{"00", "11"}[pick("sha", 2)]}
		}
	}
	return f
}

// Over any principals, clients, organisations, questions and policy edits, the
// answer of an engine that remembers is that of one that never heard of anything.
func TestNobodyGetsTheAnswerOfAnother(t *testing.T) {
	t.Parallel()
	bundles := bundlesThatLook(t)
	org := mustOrg(t, "acme01")
	options := Options{MemoryEntries: 8, Timeout: 10 * time.Second}
	e := New(options)
	defer e.Close()
	rapid.Check(t, func(t *rapid.T) {
		live := rapid.IntRange(0, len(bundles)-1).Draw(t, "first bundle")
		e.Activate(bundles[live])
		var all []*policy.Facts
		var judges []policy.Judge
		for range rapid.IntRange(1, 6).Draw(t, "sessions") {
			all = append(all, drawHolder(t, org))
			judges = append(judges, e.Judge(all[len(all)-1]))
		}
		for range rapid.IntRange(5, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "edit") == 9 {
				live = rapid.IntRange(0, len(bundles)-1).Draw(t, "bundle")
				e.Activate(bundles[live])
			}
			i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
			if rapid.IntRange(0, 4).Draw(t, "again") == 4 {
				judges[i] = e.Judge(all[i]) // it connects anew
			}
			r := drawRequest(t)
			if rapid.IntRange(0, 2).Draw(t, "connect") == 2 {
				r = &policy.Request{Action: policy.ActionConnect}
			}
			r.Time = time.Unix(1_700_000_000, 0)
			got := judges[i].Decide(context.Background(), r)
			fresh := New(options)
			fresh.Activate(bundles[live])
			answer := fresh.Judge(all[i]).Decide(context.Background(), r)
			if !sameAnswer(got, answer) || got.Revision != answer.Revision {
				t.Fatalf("remembered %s\nfresh      %s\nrequest %+v\nprincipal %+v", show(got), show(answer), r, all[i].Principal)
			}
		}
	})
	s := e.Stats()
	if s.Remembered == 0 || s.Denials[policy.CauseError] > 0 {
		t.Errorf("%d remembered, %v denied: nothing was tested", s.Remembered, s.Denials)
	}
}
