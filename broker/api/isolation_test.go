package api

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

// theirs is everything of the other organisation that an answer must not hold.
func (w *world) theirs() []string {
	return []string{"other1", "theirs", w.other.APIKey.Key, "The other1 company"}
}

// No path, query, header or body can name another organisation: each attempt
// answers as if the other one did not exist, or answers about the caller's own.
func TestNoRequestNamesAnotherOrganisation(t *testing.T) {
	t.Parallel()
	type attempt struct {
		name, method, path, body string
		header                   http.Header
		want                     int
	}
	w := newWorld(t)
	w.fleet()
	if _, err := w.registry.CreateRole(t.Context(), w.other.Organisation.ID, registry.Role{ID: "theirs", Permissions: []string{"types.view"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.registry.CreateUser(t.Context(), w.other.Organisation.ID, registry.User{Name: "theirs"}); err != nil {
		t.Fatal(err)
	}
	theirGroup, err := w.registry.CreateGroup(t.Context(), w.other.Organisation.ID, registry.Group{Name: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	theirRoot := certificatetest.New(t, "Theirs")
	theirAuthority, err := w.registry.CreateAuthority(t.Context(), w.other.Organisation.ID, theirRoot.Certificate.Raw, "")
	if err != nil {
		t.Fatal(err)
	}
	theirList, err := json.Marshal(map[string]string{"crl": base64.StdEncoding.EncodeToString(theirRoot.List(1, nil))})
	if err != nil {
		t.Fatal(err)
	}
	theirClaim, _, err := w.registry.CreateClaim(t.Context(), w.other.Organisation.ID, registry.Claim{Type: "sensor", Count: 1, Expires: w.clock.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	const theirDefault = "gw_def_res_grp:other1:sensor:theirs"
	key := w.other.APIKey.Key
	attempts := []attempt{
		// Paths.
		{"device by client ID", "GET", "/authorization/devices/d:other1:sensor:theirs", "", nil, 404},
		{"device by encoded client ID", "GET", "/authorization/devices/d%3Aother1%3Asensor%3Atheirs", "", nil, 404},
		{"device disabled", "PUT", "/authorization/devices/d:other1:sensor:theirs", `{"status":0}`, nil, 404},
		{"gateway form", "PUT", "/authorization/devices/g:other1:sensor:theirs", `{"status":0}`, nil, 404},
		{"client ID with both", "GET", "/authorization/devices/d:acme01:other1:sensor:theirs", "", nil, 404},
		{"upper case", "GET", "/authorization/devices/d:OTHER1:sensor:theirs", "", nil, 404},
		{"API key", "GET", "/authorization/apikeys/" + key, "", nil, 404},
		{"API key deleted", "DELETE", "/authorization/apikeys/" + key, "", nil, 404},
		{"API key's token", "POST", "/authorization/apikeys/" + key + "/token", "", nil, 404},
		{"API key's roles", "GET", "/authorization/apikeys/" + key + "/roles", "", nil, 404},
		{"API key's roles replaced", "PUT", "/authorization/apikeys/" + key + "/roles", `{"roles":["PD_STANDARD_APP"]}`, nil, 404},
		{"authority", "GET", "/authentication/cacertificates/" + string(theirAuthority.ID), "", nil, 404},
		{"authority deleted", "DELETE", "/authentication/cacertificates/" + string(theirAuthority.ID), "", nil, 404},
		{"list of their authority", "PUT", "/authentication/cacertificates/" + string(theirAuthority.ID) + "/crl", string(theirList), nil, 404},
		{"claim", "GET", "/provisioning/claims/" + string(theirClaim.ID), "", nil, 404},
		{"claim deleted", "DELETE", "/provisioning/claims/" + string(theirClaim.ID), "", nil, 404},
		{"claim of their path", "GET", "/provisioning/claims/claim%2F" + string(theirClaim.ID), "", nil, 404},
		{"claim for them", "POST", "/provisioning/claims", `{"org":"other1","orgId":"other1","typeId":"theirs-only","expires":"` + w.clock.now().Add(time.Hour).Format(time.RFC3339) + `"}`, nil, 404},
		{"connection policy", "PUT", "/riskmgmt/policies/connection", `{"org":"other1","level":"tls_optional"}`, nil, 200},
		{"addresses", "PUT", "/riskmgmt/policies/addresses", `{"org":"other1","mode":"off","entries":[]}`, nil, 200},
		{"violations", "GET", "/riskmgmt/violations?org=other1", "", nil, 200},
		{"revocation mode", "PUT", "/authentication/revocation", `{"org":"other1","mode":"lenient"}`, nil, 200},
		{"role", "GET", "/authorization/roles/theirs", "", nil, 404},
		{"role changed", "PUT", "/authorization/roles/theirs", `{"permissions":["types.view"]}`, nil, 404},
		{"role deleted", "DELETE", "/authorization/roles/theirs", "", nil, 404},
		{"user of theirs", "GET", "/authorization/users/theirs", "", nil, 404},
		{"user of theirs by whole name", "GET", "/authorization/users/theirs@other1", "", nil, 404},
		{"user of theirs by encoded name", "GET", "/authorization/users/theirs%40other1", "", nil, 404},
		{"user of theirs changed", "PUT", "/authorization/users/theirs", `{"status":0}`, nil, 404},
		{"user of theirs by whole name changed", "PUT", "/authorization/users/theirs@other1", `{"status":0}`, nil, 404},
		{"user of theirs deleted", "DELETE", "/authorization/users/theirs", "", nil, 404},
		{"password of their user", "POST", "/authorization/users/theirs/password", "", nil, 404},
		{"roles of their user", "GET", "/authorization/users/theirs/roles", "", nil, 404},
		{"roles of their user replaced", "PUT", "/authorization/users/theirs/roles", `{"roles":["Reader"]}`, nil, 404},
		{"group", "GET", "/groups/" + theirGroup.ID, "", nil, 404},
		{"group changed", "PUT", "/groups/" + theirGroup.ID, `{"name":"x"}`, nil, 404},
		{"group deleted", "DELETE", "/groups/" + theirGroup.ID, "", nil, 404},
		{"group's devices", "GET", "/bulk/devices/" + theirGroup.ID, "", nil, 404},
		{"group's names", "GET", "/bulk/devices/" + theirGroup.ID + "/ids", "", nil, 404},
		{"group filled", "PUT", "/bulk/devices/" + theirGroup.ID + "/add", `[{"typeId":"sensor","deviceId":"d1"}]`, nil, 404},
		{"group emptied", "PUT", "/bulk/devices/" + theirGroup.ID + "/remove", `[]`, nil, 404},
		{"default group of theirs", "GET", "/groups/" + theirDefault, "", nil, 404},
		{"default group, filled", "PUT", "/bulk/devices/" + theirDefault + "/add", `[{"typeId":"sensor","deviceId":"d1"}]`, nil, 404},
		{"gateway's roles", "GET", "/authorization/devices/g:other1:sensor:theirs/roles", "", nil, 404},
		{"gateway's roles replaced", "PUT", "/authorization/devices/g:other1:sensor:theirs/withroles", `{"roles":["PD_STANDARD_GW_DEVICE"]}`, nil, 404},
		{"device of theirs in a type of both", "GET", "/device/types/sensor/devices/theirs", "", nil, 404},
		{"token of their device", "POST", "/device/types/sensor/devices/theirs/token", "", nil, 404},
		{"their device deleted", "DELETE", "/device/types/sensor/devices/theirs", "", nil, 404},
		{"path above", "GET", "/device/types/../../../other1/device/types", "", nil, 404},
		{"encoded path above", "GET", "/device/types/..%2F..%2Fother1", "", nil, 404},
		{"organisation in front", "GET", "/other1/device/types", "", nil, 404},
		{"organisation in the id", "GET", "/device/types/other1%3Asensor", "", nil, 404},
		{"operator's path", "GET", "/../operator/v1/organisations/other1", "", nil, 404},

		// Queries.
		{"org query", "GET", "/device/types?org=other1&orgId=other1&organisation=other1", "", nil, 400},
		{"org query on the organisation", "GET", "/?id=other1&org=other1", "", nil, 200},
		{"devices by query", "GET", "/device/types/sensor/devices?_filter=other1&typeId=sensor&org=other1", "", nil, 400},
		{"devices by metadata", "GET", "/bulk/devices?metadata.org=other1&typeId=sensor", "", nil, 200},
		{"keys by query", "GET", "/authorization/apikeys?org=other1&key=" + key, "", nil, 200},
		{"a bookmark of theirs", "GET", "/authorization/apikeys?_bookmark=" + w.bookmarkOf(t), "", nil, 200},
		{"no parameter left out shows all", "GET", "/device/types?_limit=100", "", nil, 200},

		// Headers.
		{"Host", "GET", "/", "", http.Header{"Host": {"other1.iot.test"}}, 200},
		{"forwarded host", "GET", "/", "", http.Header{"X-Forwarded-Host": {"other1.iot.test"}, "Forwarded": {"host=other1.iot.test"}}, 200},
		{"organisation headers", "GET", "/", "", http.Header{"X-Org-Id": {"other1"}, "X-Organisation": {"other1"}, "Org": {"other1"}}, 200},
		{"rewritten URL", "GET", "/", "", http.Header{"X-Original-Url": {"/api/operator/v1/organisations"}, "X-Rewrite-Url": {"/api/operator/v1/organisations"}}, 200},
		{"method override", "GET", "/", "", http.Header{"X-Http-Method-Override": {"DELETE"}}, 200},

		// Bodies.
		{"type", "POST", "/device/types", `{"id":"new1","org":"other1","orgId":"other1","clientId":"d:other1:new1:x"}`, nil, 201},
		{"type with a client ID", "POST", "/device/types", `{"id":"d:other1:new2"}`, nil, 400},
		{"device", "POST", "/device/types/sensor/devices", `{"deviceId":"new1","org":"other1","clientId":"d:other1:sensor:new1","typeId":"x"}`, nil, 201},
		{"device with a client ID", "POST", "/device/types/sensor/devices", `{"deviceId":"d:other1:sensor:new2"}`, nil, 400},
		{"gateway of theirs", "POST", "/device/types/sensor/devices", `{"deviceId":"new3","gatewayTypeId":"sensor","gatewayId":"theirs"}`, nil, 400},
		{"device moved", "PUT", "/device/types/sensor/devices/d1", `{"org":"other1","clientId":"d:other1:sensor:d1","metadata":{}}`, nil, 200},
		{"devices in bulk", "POST", "/bulk/devices/add", `[{"org":"other1","clientId":"d:other1:sensor:new4","typeId":"sensor","deviceId":"new4"}]`, nil, 201},
		{"devices in bulk, a client ID", "POST", "/bulk/devices/add", `[{"typeId":"sensor","deviceId":"d:acme01:sensor:new5"}]`, nil, 202},
		{"bulk update", "PUT", "/bulk/devices/update", `[{"org":"other1","clientId":"d:other1:sensor:theirs","typeId":"sensor","deviceId":"new4","metadata":{"a":1}}]`, nil, 200},
		{"bulk update of theirs", "PUT", "/bulk/devices/update", `[{"typeId":"sensor","deviceId":"absent","metadata":{"a":1}}]`, nil, 202},
		{"user made", "POST", "/authorization/users", `{"org":"other1","uid":"new1","username":"new1@other1"}`, nil, 201},
		{"user of another organisation made", "POST", "/authorization/users", `{"uid":"new1@other1"}`, nil, 400},
		{"users", "GET", "/authorization/users?org=other1", "", nil, 200},
		{"user moved", "PUT", "/authorization/users/new1", `{"org":"other1","uid":"theirs","username":"theirs@other1","roles":["Analyst"]}`, nil, 200},
		{"bulk removal", "POST", "/bulk/devices/remove", `[{"org":"other1","clientId":"d:other1:sensor:x","typeId":"sensor","deviceId":"new4"}]`, nil, 201},
		{"bulk list", "GET", "/bulk/devices?org=other1", "", nil, 400},
		{"key", "POST", "/authorization/apikeys", `{"org":"other1","key":"a-other1-0123456789"}`, nil, 200},
		{"role made", "POST", "/authorization/roles", `{"org":"other1","roleId":"ours","permissions":["types.view"]}`, nil, 201},
		{"a group of theirs for a key", "PUT", "/authorization/apikeys/" + w.acme.APIKey.Key + "/roles", `{"roles":["PD_ADMIN_APP"],"rolesToGroups":{"PD_ADMIN_APP":["` + theirGroup.ID + `"]}}`, nil, 400},
		{"their default group for a key", "PUT", "/authorization/apikeys/" + w.acme.APIKey.Key + "/roles", `{"roles":["PD_ADMIN_APP"],"rolesToGroups":{"PD_ADMIN_APP":["` + theirDefault + `"]}}`, nil, 400},
		{"a group of theirs for a gateway", "PUT", "/authorization/devices/g:acme01:hub:g1/roles", `{"roles":["PD_STANDARD_GW_DEVICE"],"rolesToGroups":{"PD_STANDARD_GW_DEVICE":["` + theirGroup.ID + `"]}}`, nil, 400},
		{"their device in a group", "PUT", "/bulk/devices/gw_def_res_grp:acme01:hub:g1/add", `[{"org":"other1","typeId":"sensor","deviceId":"their.device"}]`, nil, 202},
		{"a group of an organisation", "POST", "/groups", `{"org":"other1","id":"` + theirDefault + `","name":"ours"}`, nil, 201},
		{"groups", "GET", "/groups?org=other1", "", nil, 200},
		{"access control", "PUT", "/accesscontrol", `{"org":"other1","enable":true}`, nil, 200},
		{"roles", "GET", "/authorization/roles?org=other1", "", nil, 200},
		{"access", "PUT", "/authorization/devices/d:acme01:sensor:d1", `{"status":1,"clientId":"d:other1:sensor:theirs"}`, nil, 200},
	}
	before := w.view(t)
	for _, a := range attempts {
		r := w.request(a.method, "/api/v0002"+a.path, a.body)
		for name, values := range a.header {
			r.Header[name] = values
			if name == "Host" {
				r.Host = values[0]
			}
		}
		got := w.do(r)
		if got.status != a.want {
			t.Errorf("%s: %d %s, want %d", a.name, got.status, got.text, a.want)
		}
		for _, word := range w.theirs() {
			if strings.Contains(got.text, word) {
				t.Errorf("%s: the answer holds %q: %s", a.name, word, got.text)
			}
		}
	}
	if after := w.view(t); after != before {
		t.Errorf("the other organisation changed:\n%s\nbefore:\n%s", after, before)
	}
	for _, q := range w.decider.Asked(policy.ActionAdminister) {
		if q.Facts.Principal.Org != w.acme.Organisation.ID || q.Facts.Org.ID != w.acme.Organisation.ID {
			t.Errorf("%s %s was judged for %v", q.Request.Method, q.Request.Route, q.Facts.Principal.Org)
		}
	}
}

// bookmarkOf is one that a list of other1 gave.
func (w *world) bookmarkOf(t *testing.T) string {
	t.Helper()
	for range 2 {
		r := w.request("POST", "/api/v0002/authorization/apikeys", `{}`)
		r.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
		w.do(r)
	}
	r := w.request("GET", "/api/v0002/authorization/apikeys?_limit=1", "")
	r.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
	bookmark, ok := w.do(r).object(t)["bookmark"].(string)
	if !ok {
		t.Fatal("no bookmark")
	}
	w.decider.Forget()
	return bookmark
}

// view is what the other organisation sees of itself.
func (w *world) view(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{"", "/device/types", "/device/types/sensor/devices", "/authorization/apikeys", "/authorization/roles", "/authorization/users", "/authorization/devices/d:other1:sensor:theirs", "/groups", "/accesscontrol"} {
		r := w.request("GET", "/api/v0002"+path, "")
		r.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
		fmt.Fprintln(&b, w.do(r).text)
	}
	w.decider.Forget()
	return b.String()
}

// Where the domain is known, a host name of another organisation is refused: the
// caller is at the wrong place.
func TestHostMustAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.Domain = "IoT.test" })
	for _, test := range []struct {
		host, sni string
		want      int
	}{
		{"acme01.iot.test", "acme01.iot.test", 200},
		{"acme01.iot.test:8443", "", 200},
		{"ACME01.messaging.iot.TEST.", "", 200},
		{"iot.test", "iot.test", 200},
		{"localhost:8443", "", 200},
		{"[::1]:8443", "", 200},
		{"acme01.elsewhere.test", "", 200},
		{"other1.elsewhere.test", "", 200},
		{"other1.iot.test", "", 403},
		{"other1.iot.test:8443", "", 403},
		{"OTHER1.IOT.TEST", "", 403},
		{"other1.messaging.iot.test", "", 403},
		{"acme01.iot.test", "other1.iot.test", 403},
		{"iot.test", "other1.messaging.iot.test", 403},
	} {
		r := w.request("GET", "/api/v0002/", "")
		r.Host, r.TLS = test.host, &tls.ConnectionState{ServerName: test.sni}
		if got := w.do(r); got.status != test.want {
			t.Errorf("host %q, server name %q: %d %s, want %d", test.host, test.sni, got.status, got.text, test.want)
		}
	}
	refused := w.logs.lines(t, "refused")
	if len(refused) != 6 || refused[0]["reason"] != string(policy.CauseMismatch) || refused[0]["org"] != "acme01" {
		t.Errorf("log = %v", refused)
	}
}
