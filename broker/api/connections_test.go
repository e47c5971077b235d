package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
)

func TestConnectionPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path = "/riskmgmt/policies/connection"
	get := func(want string) {
		t.Helper()
		w.call("GET", path, "", http.StatusOK).wantJSON(t, want)
	}
	get(`{"level":"tls_certificate_or_token","chosen":false,"types":{},"certificateRegistration":false}`)
	w.call("PUT", path, `{"level":"tls_token"}`, http.StatusOK).wantJSON(t, `{"level":"tls_token","chosen":true,"types":{},"certificateRegistration":false}`)
	// What a body does not name stays.
	w.call("PUT", path, `{"types":{"sensor":"tls_certificate"},"level":null}`, http.StatusOK)
	w.call("PUT", path, `{"certificateRegistration":true}`, http.StatusOK)
	const all = `{"level":"tls_token","chosen":true,"types":{"sensor":"tls_certificate"},"certificateRegistration":true}`
	get(all)

	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprint("t", i)] = "tls_token"
	}
	tooMany, err := json.Marshal(map[string]any{"types": many})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`{"level":""}`, `{"level":"tls"}`, `{"level":"plain"}`, `{"level":1}`, `{"types":{"a b":"tls_token"}}`, `{"types":{"sensor":"tls"}}`,
		`{"types":{"sensor":null}}`, `{"types":[]}`, `{"certificateRegistration":"yes"}`, `{"org":"other1"}x`, string(tooMany),
	} {
		w.call("PUT", path, bad, http.StatusBadRequest)
	}
	get(all)
	w.call("PUT", path, `{"types":{},"certificateRegistration":false}`, http.StatusOK)
	get(`{"level":"tls_token","chosen":true,"types":{},"certificateRegistration":false}`)
}

func TestAddressPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path, status = "/riskmgmt/policies/addresses", "/riskmgmt/policies/lists/status"
	const off = `{"mode":"off","entries":[]}`
	w.call("GET", path, "", http.StatusOK).wantJSON(t, off)
	w.call("GET", status, "", http.StatusOK).wantJSON(t, `{"whitelistActive":false,"blacklistActive":false}`)
	const canonical = `{"mode":"allow","entries":["192.0.2.0/24","2001:db8::1","10.0.0.1-10.0.0.9"]}`
	w.call("PUT", path, `{"mode":"allow","entries":["192.0.2.77/24","2001:DB8:0::1","10.0.0.1-10.0.0.9","192.0.2.0-192.0.2.255"]}`, http.StatusOK).wantJSON(t, canonical)
	w.call("GET", path, "", http.StatusOK).wantJSON(t, canonical)
	w.call("GET", status, "", http.StatusOK).wantJSON(t, `{"whitelistActive":true,"blacklistActive":false}`)
	tooMany := `{"mode":"deny","entries":["192.0.2.1"` + strings.Repeat(`,"192.0.2.1"`, 100) + `]}`
	for _, bad := range []string{
		`{}`, `{"mode":"block","entries":["192.0.2.1"]}`, `{"mode":"deny","entries":[]}`, `{"mode":"off","entries":["192.0.2.1"]}`,
		`{"mode":"deny","entries":["US"]}`, `{"mode":"deny","entries":[1]}`, `{"mode":"deny","entries":"192.0.2.1"}`, tooMany,
	} {
		w.call("PUT", path, bad, http.StatusBadRequest)
	}
	w.call("GET", path, "", http.StatusOK).wantJSON(t, canonical)
	w.call("PUT", path, `{"mode":"deny","entries":["192.0.2.1"]}`, http.StatusOK)
	w.call("GET", status, "", http.StatusOK).wantJSON(t, `{"whitelistActive":false,"blacklistActive":true}`)
	w.call("PUT", path, off, http.StatusOK).wantJSON(t, off)
}

func TestViolations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path = "/riskmgmt/violations"
	w.call("GET", path, "", http.StatusOK).wantJSON(t, `{"violations":[],"clients":[]}`)
	o, err := w.registry.Organisation(t.Context(), w.acme.Organisation.ID)
	if err != nil {
		t.Fatal(err)
	}
	now := w.clock.now()
	b := w.ledger.Batch()
	for _, age := range []time.Duration{time.Hour, 0} {
		err := b.Violate(ledger.Tenant{Org: o.ID, Incarnation: o.Incarnation}, ledger.Violator{
			Kind: "address", ClientID: "d:acme01:sensor:d1", Device: ledger.Device{Type: "sensor", ID: "d1", Incarnation: 3},
			Address: "192.0.2.7", Listener: "mqtts", Reason: "not from there", Last: now.Add(-age),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := w.call("GET", path, "", http.StatusOK).text
	for _, want := range []string{`"violation":"address","count":2`, `"clientId":"d:acme01:sensor:d1","typeId":"sensor","deviceId":"d1"`, `"reason":"not from there","address":"192.0.2.7","listener":"mqtts","count":2`} {
		if !strings.Contains(got, want) {
			t.Errorf("shown %s, want %s", got, want)
		}
	}
	w.clock.set(now.Add(31 * 24 * time.Hour))
	w.call("GET", path, "", http.StatusOK).wantJSON(t, `{"violations":[],"clients":[]}`)
}
