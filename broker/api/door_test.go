package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
)

// routes are all of /api/v0002 that there are. A new one is added here on
// purpose, and in the default policy.
var routes = []string{
	"GET /",
	"GET /authorization/apikeys",
	"POST /authorization/apikeys",
	"GET /authorization/apikeys/{key}",
	"DELETE /authorization/apikeys/{key}",
	"POST /authorization/apikeys/{key}/token",
	"GET /authorization/apikeys/{key}/roles",
	"PUT /authorization/apikeys/{key}/roles",
	"GET /authorization/devices/{clientId}/roles",
	"PUT /authorization/devices/{clientId}/roles",
	"PUT /authorization/devices/{clientId}/withroles",
	"GET /groups",
	"POST /groups",
	"GET /groups/{groupId}",
	"PUT /groups/{groupId}",
	"DELETE /groups/{groupId}",
	"GET /bulk/devices/{groupId}",
	"GET /bulk/devices/{groupId}/ids",
	"PUT /bulk/devices/{groupId}/add",
	"PUT /bulk/devices/{groupId}/remove",
	"GET /accesscontrol",
	"PUT /accesscontrol",
	"GET /authorization/roles",
	"POST /authorization/roles",
	"GET /provisioning/claims",
	"POST /provisioning/claims",
	"GET /provisioning/claims/{claimId}",
	"DELETE /provisioning/claims/{claimId}",
	"GET /authentication/cacertificates",
	"POST /authentication/cacertificates",
	"GET /authentication/cacertificates/{certificateId}",
	"DELETE /authentication/cacertificates/{certificateId}",
	"PUT /authentication/cacertificates/{certificateId}/crl",
	"GET /authentication/servercertificate",
	"PUT /authentication/servercertificate",
	"DELETE /authentication/servercertificate",
	"POST /authentication/servercertificate/csr",
	"GET /riskmgmt/policies/connection",
	"PUT /riskmgmt/policies/connection",
	"GET /riskmgmt/policies/addresses",
	"PUT /riskmgmt/policies/addresses",
	"GET /riskmgmt/policies/lists/status",
	"GET /riskmgmt/violations",
	"GET /authentication/revocation",
	"PUT /authentication/revocation",
	"GET /authorization/roles/{roleId}",
	"PUT /authorization/roles/{roleId}",
	"DELETE /authorization/roles/{roleId}",
	"PUT /authorization/apikeys/{key}",
	"GET /authorization/users",
	"POST /authorization/users",
	"GET /authorization/users/{uid}",
	"PUT /authorization/users/{uid}",
	"DELETE /authorization/users/{uid}",
	"POST /authorization/users/{uid}/password",
	"GET /authorization/users/{uid}/roles",
	"PUT /authorization/users/{uid}/roles",
	"GET /clientconnectionstates",
	"GET /clientconnectionstates/{clientId}",
	"POST /clientconnectionstates/{clientId}/disconnect",
	"GET /config/clientstate",
	"PUT /config/clientstate",
	"GET /config/lec",
	"PUT /config/lec",
	"GET /logs/connection",
	"GET /usage/data-traffic",
	"GET /device/types/{typeId}/devices/{deviceId}/events",
	"GET /device/types/{typeId}/devices/{deviceId}/events/{eventId}",
	"GET /device/types/{typeId}/devices/{deviceId}/diag/logs",
	"POST /device/types/{typeId}/devices/{deviceId}/diag/logs",
	"DELETE /device/types/{typeId}/devices/{deviceId}/diag/logs",
	"GET /device/types/{typeId}/devices/{deviceId}/diag/logs/{logId}",
	"DELETE /device/types/{typeId}/devices/{deviceId}/diag/logs/{logId}",
	"GET /device/types/{typeId}/devices/{deviceId}/diag/errorCodes",
	"POST /device/types/{typeId}/devices/{deviceId}/diag/errorCodes",
	"DELETE /device/types/{typeId}/devices/{deviceId}/diag/errorCodes",
	"GET /authorization/devices",
	"GET /service-status",
	"GET /usage/active-devices",
	"GET /usage/historical-data",
	"GET /device/types/{typeId}/devices/{deviceId}/devices",
	"GET /device/types/{typeId}/devices/{deviceId}/location",
	"PUT /device/types/{typeId}/devices/{deviceId}/location",
	"GET /device/types/{typeId}/devices/{deviceId}/mgmt",
	"GET /mgmt/requests",
	"POST /mgmt/requests",
	"GET /mgmt/requests/{requestId}",
	"DELETE /mgmt/requests/{requestId}",
	"GET /mgmt/requests/{requestId}/deviceStatus",
	"GET /mgmt/requests/{requestId}/deviceStatus/{typeId}/{deviceId}",
	"GET /mgmt/custom/bundle",
	"POST /mgmt/custom/bundle",
	"GET /mgmt/custom/bundle/{bundleId}",
	"PUT /mgmt/custom/bundle/{bundleId}",
	"DELETE /mgmt/custom/bundle/{bundleId}",
	"GET /authorization/devices/{clientId}",
	"PUT /authorization/devices/{clientId}",
	"GET /bulk/devices",
	"POST /bulk/devices/add",
	"PUT /bulk/devices/update",
	"POST /bulk/devices/remove",
	"GET /device/types",
	"POST /device/types",
	"GET /device/types/{typeId}",
	"PUT /device/types/{typeId}",
	"DELETE /device/types/{typeId}",
	"GET /device/types/{typeId}/devices",
	"POST /device/types/{typeId}/devices",
	"GET /device/types/{typeId}/devices/{deviceId}",
	"PUT /device/types/{typeId}/devices/{deviceId}",
	"DELETE /device/types/{typeId}/devices/{deviceId}",
	"POST /device/types/{typeId}/devices/{deviceId}/token",
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var got []string
	for _, op := range w.api.operations {
		got = append(got, op.method+" "+op.path)
	}
	want := slices.Clone(routes)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("routes = %q\n  want %q", got, want)
	}
}

// requestFor is a request that op would answer, with the target it has.
func (w *world) requestFor(op operation) (*http.Request, map[string]string) {
	values := map[string]string{
		"typeId": "sensor", "deviceId": "d1", "key": w.acme.APIKey.Key, "clientId": "d:acme01:sensor:d1",
		"roleId": "fleet", "claimId": "k3f9a0b2c1", "certificateId": "00112233445566778899aabbccddeeff", "uid": "admin", "groupId": "gw_def_res_grp:acme01:hub:g1",
		"eventId": "status", "logId": "l1", "requestId": "r1", "bundleId": "pump-v1",
	}
	path, target := op.path, map[string]string{}
	for _, name := range parameters(op.path) {
		target[name] = values[name]
		path = strings.ReplaceAll(path, "{"+name+"}", values[name])
	}
	body := ""
	if op.body {
		body = `{"id":"new","deviceId":"new","roles":["PD_ADMIN_APP"],"roleId":"new","permissions":["devices.view"]}`
	}
	if op.types != nil {
		body, target["typeId"] = `[{"typeId":"sensor","deviceId":"new"},{"typeId":"sensor","deviceId":"d1"}]`, "sensor"
		if op.path == "/mgmt/requests" {
			body = `{"action":"device/reboot","devices":` + body + `}`
		}
	}
	if op.roles != nil { // of the new key, or of the one whose token is replaced
		switch {
		case !strings.Contains(op.path, "{uid}"):
			target["roles"] = "PD_ADMIN_APP"
		case op.method == "PUT":
			target["roles"] = "PD_ADMIN_APP,Administrator"
		default:
			target["roles"] = "Administrator"
		}
	}
	if op.permissions != nil {
		target["permissions"] = "devices.view"
	}
	return w.request(op.method, "/api/v0002"+path, body), target
}

func TestEveryRouteIsDecided(t *testing.T) {
	t.Parallel()
	for _, op := range newWorld(t).api.operations {
		t.Run(op.id, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fleet()
			w.decider.Deny(policy.ActionAdminister, "not on a Sunday")
			r, target := w.requestFor(op)
			got := w.do(r)
			got.wantError(t, http.StatusForbidden, "CDNHT0403E")
			if !strings.Contains(got.text, `"not on a Sunday (decision denied)"`) {
				t.Errorf("answer = %s, want the public reason", got.text)
			}
			asked := w.decider.Asked(policy.ActionAdminister)
			if len(asked) != 1 {
				t.Fatalf("asked %d times, want once", len(asked))
			}
			q := asked[0]
			want := policy.Request{Action: policy.ActionAdminister, Time: w.clock.now(), Method: op.method, Route: op.path, Target: target}
			if strings.Contains(op.path, "{deviceId}") || strings.Contains(op.path, "{clientId}") {
				want.Device = &policy.Device{Type: "sensor", ID: "d1", Registered: true, Status: "enabled"}
			}
			if !reflect.DeepEqual(q.Request, want) {
				t.Errorf("asked %+v, want %+v", q.Request, want)
			}
			if q.Facts.Principal.APIKey != w.acme.APIKey.Key || q.Facts.Org.ID != w.acme.Organisation.ID ||
				q.Facts.Client.Listener != "https" || q.Facts.Client.Address.String() != "192.0.2.1" {
				t.Errorf("facts = %+v %+v %+v", q.Facts.Principal, q.Facts.Org, q.Facts.Client)
			}

			// Nothing was done.
			if after, err := w.registry.Device(t.Context(), w.acme.Organisation.ID, "sensor", "d1"); err != nil || after.Disabled {
				t.Errorf("the device is %+v, %v", after, err)
			}
			w.decider.On(policy.ActionAdminister, nil)
			w.call("GET", "/device/types/new", "", http.StatusNotFound)
			w.call("GET", "/device/types/sensor/devices/new", "", http.StatusNotFound)
			if keys := w.call("GET", "/authorization/apikeys", "", http.StatusOK).object(t)["results"].([]any); len(keys) != 1 {
				t.Errorf("%d API keys, want 1", len(keys))
			}
		})
	}
}

// badDecider answers what a broken engine might.
type badDecider struct{ policytest.DenyAll }

func (d badDecider) Judge(f *policy.Facts) policy.Judge { return badJudge{d.DenyAll.Judge(f)} }

type badJudge struct{ policy.Judge }

func (badJudge) Decide(context.Context, *policy.Request) *policy.Decision { return nil }

func TestNoDecisionDenies(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]policy.Decider{"no policy": policytest.DenyAll{}, "no answer": badDecider{}} {
		w := newWorld(t, func(_ *Config, deps *Deps) { deps.Decider = d })
		got := w.do(w.request("GET", "/api/v0002/", ""))
		got.wantError(t, http.StatusForbidden, "CDNHT0403E")
		if !strings.Contains(got.text, "not authorised") {
			t.Errorf("%s: %s", name, got.text)
		}
	}
}

// HEAD is judged as the GET that it stands for, or a policy that names methods
// could be walked around.
func TestHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.do(w.request("HEAD", "/api/v0002/device/types", "")); got.status != http.StatusOK {
		t.Errorf("HEAD = %d", got.status)
	}
	if asked := w.decider.Asked(policy.ActionAdminister); len(asked) != 1 || asked[0].Request.Method != "GET" {
		t.Errorf("asked %+v", asked)
	}
}

// A wrong token, an unknown key, a suspended organisation: whoever guesses learns
// nothing from the answer.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	suspended := w.seed("closed1")
	if _, err := w.registry.UpdateOrganisation(t.Context(), suspended.Organisation.ID, func(o *registry.Organisation) error {
		o.Suspended = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*http.Request){
		"nothing":                     func(r *http.Request) { r.Header.Del("Authorization") },
		"not Basic":                   func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+operatorToken) },
		"not base64":                  func(r *http.Request) { r.Header.Set("Authorization", "Basic !!!") },
		"no colon":                    func(r *http.Request) { r.Header.Set("Authorization", "Basic YWJj") },
		"empty":                       func(r *http.Request) { r.SetBasicAuth("", "") },
		"wrong token":                 func(r *http.Request) { r.SetBasicAuth(w.acme.APIKey.Key, w.other.APIToken) },
		"empty token":                 func(r *http.Request) { r.SetBasicAuth(w.acme.APIKey.Key, "") },
		"unknown key":                 func(r *http.Request) { r.SetBasicAuth("a-acme01-0000000000", w.acme.APIToken) },
		"unknown organisation":        func(r *http.Request) { r.SetBasicAuth("a-nobody-0000000000", w.acme.APIToken) },
		"key in another organisation": func(r *http.Request) { r.SetBasicAuth("a-other1-"+w.acme.APIKey.Key[9:], w.acme.APIToken) },
		"suspended organisation":      func(r *http.Request) { r.SetBasicAuth(suspended.APIKey.Key, suspended.APIToken) },
		"user without organisation":   func(r *http.Request) { r.SetBasicAuth("admin", w.acme.AdminPassword) },
		"user of another":             func(r *http.Request) { r.SetBasicAuth("admin@other1", w.acme.AdminPassword) },
		"a device":                    func(r *http.Request) { r.SetBasicAuth("use-token-auth", w.secrets[4]) },
		"two headers":                 func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) },
	} {
		r := w.request("GET", "/api/v0002/", "")
		set(r)
		got := w.do(r)
		got.wantError(t, http.StatusUnauthorized, "CDNHT0401E")
		if got.text != `{"message":"not authorised","exception":{"id":"CDNHT0401E","properties":[]}}`+"\n" {
			t.Errorf("%s: answer = %s", name, got.text)
		}
		if got.header.Get("Www-Authenticate") != realm {
			t.Errorf("%s: headers = %v", name, got.header)
		}
	}
	if n := len(w.decider.Asked(policy.ActionAdminister)); n != 0 {
		t.Errorf("the policy was asked %d times about nobody", n)
	}
}

func TestWhoMaySignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	gateway, err := w.registry.ReplaceDeviceToken(t.Context(), w.acme.Organisation.ID, "hub", "g1", plugins.Secret{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []struct {
		username, password string
		kind               policy.PrincipalKind
	}{
		{w.acme.APIKey.Key, w.acme.APIToken, policy.KindApplication},
		{"admin@acme01", w.acme.AdminPassword, policy.KindUser},
		{"g/acme01/hub/g1", gateway, policy.KindGateway},
	} {
		w.decider.Forget()
		r := w.request("GET", "/api/v0002/", "")
		r.SetBasicAuth(who.username, who.password)
		if got := w.do(r); got.status != http.StatusOK || got.object(t)["id"] != "acme01" {
			t.Errorf("%s: %d %s", who.username, got.status, got.text)
		}
		asked := w.decider.Asked(policy.ActionAdminister)
		if len(asked) != 1 || asked[0].Facts.Principal.Kind != who.kind || asked[0].Facts.Client.Username != who.username {
			t.Errorf("%s: asked %+v", who.username, asked)
		}
	}
}

// broken is a registry whose answers are wrong in one way.
type broken struct {
	*registry.Registry
	principal policy.Principal
	err       error
}

func (b broken) VerifyBasic(context.Context, string, plugins.Secret) (policy.Principal, error) {
	return b.principal, b.err
}

func TestVerifierThatFails(t *testing.T) {
	t.Parallel()
	org := mustOrg(t, "acme01")
	for name, test := range map[string]struct {
		broken broken
		status int
		id     string
	}{
		"cannot say":         {broken{err: &plugins.Refusal{Cause: policy.CauseUnavailable}}, 503, "CDNHT0503E"},
		"unknown error":      {broken{err: errors.New("disk on fire")}, 503, "CDNHT0503E"},
		"nobody":             {broken{}, 503, "CDNHT0503E"},
		"no organisation":    {broken{principal: policy.Principal{Kind: policy.KindUser}}, 503, "CDNHT0503E"},
		"the system itself":  {broken{principal: policy.Principal{Kind: policy.KindSystem, Org: org}}, 503, "CDNHT0503E"},
		"expired long ago":   {broken{principal: policy.Principal{Kind: policy.KindUser, Org: org, ExpiresAt: time.Unix(0, 0)}}, 401, "CDNHT0401E"},
		"deleted since":      {broken{principal: policy.Principal{Kind: policy.KindUser, Org: mustOrg(t, "gone01")}}, 401, "CDNHT0401E"},
		"refused by verdict": {broken{err: plugins.ErrBad}, 401, "CDNHT0401E"},
	} {
		w := newWorld(t, func(_ *Config, d *Deps) {
			test.broken.Registry = d.Registry.(*registry.Registry)
			d.Registry = test.broken
		})
		got := w.do(w.request("GET", "/api/v0002/", ""))
		got.wantError(t, test.status, test.id)
		if strings.Contains(got.text, "fire") {
			t.Errorf("%s: %s", name, got.text)
		}
	}
}

// revoking is a body that takes its own credential away while it is read.
type revoking struct {
	io.Reader
	revoke func()
}

func (r *revoking) Read(b []byte) (int, error) {
	if r.revoke != nil {
		r.revoke()
		r.revoke = nil
	}
	return r.Reader.Read(b)
}

// A body that takes its time does not outlive what it was sent with.
func TestRevocationWhileTheBodyArrives(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(*world) error{
		"key deleted": func(w *world) error {
			return w.registry.DeleteAPIKey(t.Context(), w.acme.Organisation.ID, w.acme.APIKey.Key)
		},
		"token replaced": func(w *world) error {
			_, err := w.registry.ReplaceAPIKeyToken(t.Context(), w.acme.Organisation.ID, w.acme.APIKey.Key, 0)
			return err
		},
		"organisation deleted, and a namesake made": func(w *world) error {
			if err := w.registry.DeleteOrganisation(t.Context(), w.acme.Organisation.ID); err != nil {
				return err
			}
			w.seed("acme01")
			return nil
		},
	} {
		w := newWorld(t)
		r := w.request("POST", "/api/v0002/device/types", `{"id":"sensor"}`)
		r.Body = io.NopCloser(&revoking{r.Body, func() {
			if err := revoke(w); err != nil {
				t.Error(err)
			}
		}})
		w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
		if _, err := w.registry.Type(t.Context(), w.acme.Organisation.ID, "sensor"); policy.KindOf(err) != policy.KindNotFound {
			t.Errorf("%s: the type was made (%v)", name, err)
		}
	}
}

// unread is a body that nobody may look at.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestBodyOfStrangersIsNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("POST", "/api/v0002/device/types", `{"id":"sensor"}`)
	r.Body = io.NopCloser(unread{t})
	r.SetBasicAuth(w.acme.APIKey.Key, "wrong")
	w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
}

func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.decider.Deny(policy.ActionAdminister, "not on a Sunday")
	w.do(w.request("DELETE", "/api/v0002/device/types/sensor", ""))
	unknown := w.request("GET", "/api/v0002/", "")
	unknown.SetBasicAuth("a-acme01-0000000000", "some-token")
	w.do(unknown)
	swapped := w.request("GET", "/api/v0002/", "")
	swapped.SetBasicAuth(w.acme.APIToken, w.acme.APIKey.Key) // a token where the name belongs
	w.do(swapped)

	line := func(org, client, reason, decision, route, method, words, detail string) map[string]any {
		return map[string]any{
			"msg": "refused", "action": "administer", "org": org, "client": client, "topic": "", "reason": reason,
			"decision": decision, "route": route, "method": method, "address": "192.0.2.1", "words": words, "detail": detail,
		}
	}
	want := []map[string]any{
		line("acme01", w.acme.APIKey.Key, "policy", "denied", "/device/types/{typeId}", "DELETE", "not on a Sunday", ""),
		line("", "a-acme01-0000000000", "credential_unknown", "", "/", "GET", "", "credential refused: credential_unknown"),
		line("", "", "credential_unknown", "", "/", "GET", "", "credential refused: credential_unknown"),
	}
	got := w.logs.lines(t, "refused")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("line %d = %v\n    want %v", i, got[i], want[i])
		}
	}
}

// What a policy may know of the connection.
func TestClientFacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("GET", "/api/v0002/", "")
	r.RemoteAddr = "[::ffff:198.51.100.7]:4711"
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "acme01.iot.test", PeerCertificates: []*x509.Certificate{{
		Raw: []byte("abc"), DNSNames: []string{"admin.test"}, EmailAddresses: []string{"admin@iot.test"},
	}}}
	w.do(r)
	got := w.decider.Asked(policy.ActionAdminister)[0].Facts.Client
	want := &policy.TLS{Version: "1.3", SNI: "acme01.iot.test", Cert: &policy.Certificate{
		SAN: []string{"admin.test", "admin@iot.test"}, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	}}
	if got.Address.String() != "198.51.100.7" || !reflect.DeepEqual(got.TLS, want) {
		t.Errorf("client = %+v, TLS = %+v", got, got.TLS)
	}
}

// failures is an address memory that allows two wrong credentials.
type failures struct {
	sync.Mutex
	wrong map[netip.Addr]int
}

func (f *failures) Allowed(addr netip.Addr) bool {
	f.Lock()
	defer f.Unlock()
	return f.wrong[addr] < 2
}

func (f *failures) Record(addr netip.Addr) {
	f.Lock()
	defer f.Unlock()
	f.wrong[addr]++
}

// An address that keeps guessing is not answered any more, whatever it presents.
func TestGuessingIsBounded(t *testing.T) {
	t.Parallel()
	remembered := &failures{wrong: map[netip.Addr]int{}}
	w := newWorld(t, func(_ *Config, d *Deps) { d.Failures = remembered })
	try := func(token, address string) int {
		r := w.request("GET", "/api/v0002/device/types", "")
		r.SetBasicAuth(w.acme.APIKey.Key, token)
		r.RemoteAddr = address
		return w.do(r).status
	}
	for i, want := range []int{http.StatusUnauthorized, http.StatusUnauthorized, http.StatusTooManyRequests} {
		if got := try("wrong", "192.0.2.7:1"); got != want {
			t.Errorf("guess %d: %d, want %d", i+1, got, want)
		}
	}
	if got := try(w.acme.APIToken, "192.0.2.7:2"); got != http.StatusTooManyRequests {
		t.Errorf("the right token after the guesses: %d", got)
	}
	if got := try(w.acme.APIToken, "192.0.2.8:1"); got != http.StatusOK {
		t.Errorf("another address: %d", got)
	}
}
