package api

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

// furnish gives other1 one of everything that a path can name, and returns their
// names by parameter.
func (w *world) furnish(t *testing.T) map[string]string {
	t.Helper()
	w.fleet()
	w.noted()
	org := w.other.Organisation.ID
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	group, err := w.registry.CreateGroup(t.Context(), org, registry.Group{Name: "theirs"})
	must(err)
	_, err = w.registry.CreateRole(t.Context(), org, registry.Role{ID: "theirs", Permissions: []string{"types.view"}})
	must(err)
	_, _, err = w.registry.CreateUser(t.Context(), org, registry.User{Name: "theirs"})
	must(err)
	authority, err := w.registry.CreateAuthority(t.Context(), org, certificatetest.New(t, "Theirs").Certificate.Raw, "theirs")
	must(err)
	claim, _, err := w.registry.CreateClaim(t.Context(), org, registry.Claim{Type: "sensor", Count: 1, Expires: w.clock.now().Add(time.Hour)})
	must(err)
	bundle := w.request("POST", v0002Prefix+"/mgmt/custom/bundle", strings.Replace(aBundle, "pump-v1", "theirs-v1", 1))
	bundle.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
	if got := w.do(bundle); got.status != http.StatusCreated {
		t.Fatalf("bundle: %d %s", got.status, got.text)
	}
	_, err = w.management.Initiate(t.Context(), w.tenant(w.other), ledger.NewRequest{Action: "theirs"})
	must(err)
	return map[string]string{
		"typeId": "sensor", "deviceId": "theirs", "key": w.other.APIKey.Key, "clientId": "d:other1:sensor:theirs", "roleId": "theirs",
		"claimId": string(claim.ID), "certificateId": string(authority.ID), "uid": "theirs", "groupId": group.ID, "eventId": "status",
		"logId": "log-theirs", "requestId": "request-of-other1", "bundleId": "theirs-v1",
	}
}

// The ways in which other brokers showed one tenant what is another's, each by the
// change that mended it there. Here the organisation is the credential's, and nothing
// is left that a request could leave out, leave empty or name.
func TestLeaksOfOtherBrokers(t *testing.T) {
	t.Parallel()
	for name, attempt := range map[string]func(*testing.T, *world){
		"EMQX 17064: a parameter left out lists, and makes, what is everybody's": leftOut,
		"EMQX 17501: payloads are read by whoever knows the name":                payloads,
		"EMQX 17715: an empty value skips the gate":                              emptyValues,
		"EMQX 18117: what was deleted comes back with the name":                  namesake,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.furnish(t)
			attempt(t, w)
		})
	}
}

// holdsNone fails where an answer holds anything of other1.
func (w *world) holdsNone(t *testing.T, what string, got reply) {
	t.Helper()
	for _, word := range append(w.theirs(), "Theirs", "192.0.2.8", "MTkyLjAuMi44") {
		if strings.Contains(got.text, word) {
			t.Errorf("%s holds %q: %s", what, word, got.text)
		}
	}
}

func leftOut(t *testing.T, w *world) {
	lists := 0
	for _, op := range w.api.operations {
		if op.method != "GET" || len(parameters(op.path)) > 0 {
			continue
		}
		got := w.do(w.request("GET", v0002Prefix+op.path, ""))
		w.holdsNone(t, op.path, got)
		if op.list && got.status == http.StatusOK {
			lists++
		}
	}
	if lists < 8 {
		t.Errorf("%d lists were read", lists)
	}
	w.call("POST", "/authorization/users", `{"uid":"new1"}`, http.StatusCreated)
	w.call("POST", "/authorization/roles", `{"roleId":"new1","permissions":["types.view"]}`, http.StatusCreated)
	if view := w.view(t); strings.Contains(view, "new1") {
		t.Errorf("made for the other organisation: %s", view)
	}
}

func payloads(t *testing.T, w *world) {
	const path = "/device/types/sensor/devices/"
	for _, last := range []string{"/events", "/events/status", "/diag/logs", "/diag/logs/log-theirs", "/location"} {
		got := w.call("GET", path+"theirs"+last, "", http.StatusNotFound)
		w.holdsNone(t, last, got)
		if nobody := w.call("GET", path+"nobody"+last, "", http.StatusNotFound); got.text != nobody.text {
			t.Errorf("%s answers %s, and of nobody's %s", last, got.text, nobody.text)
		}
	}
	// A device of one's own that has the name of theirs has nothing that they said.
	w.call("POST", path[:len(path)-1], `{"deviceId":"theirs"}`, http.StatusCreated)
	w.call("GET", path+"theirs/events/status", "", http.StatusNotFound)
	for _, last := range []string{"/events", "/diag/logs"} {
		w.call("GET", path+"theirs"+last, "", http.StatusOK).wantJSON(t, `[]`)
	}
}

func emptyValues(t *testing.T, w *world) {
	for _, op := range w.api.operations {
		if op.method != "GET" {
			continue
		}
		path := op.path
		for _, name := range parameters(op.path) {
			path = strings.ReplaceAll(path, "{"+name+"}", "")
		}
		for _, query := range []string{"", "?_bookmark=", "?typeId=&deviceId=", "?org=", "?deviceType=&clientId=", "?_sort=", "?="} {
			w.holdsNone(t, path+query, w.do(w.request("GET", v0002Prefix+path+query, "")))
		}
	}
	for name, credential := range map[string][2]string{
		"no user":         {"", w.acme.APIToken},
		"no password":     {w.acme.APIKey.Key, ""},
		"neither":         {"", ""},
		"no organisation": {"a--" + w.acme.APIKey.Key[9:], w.acme.APIToken},
		"no gateway":      {"g/acme01//", w.acme.APIToken},
		"no user's name":  {"@acme01", w.acme.AdminPassword},
		"nowhere":         {"admin@", w.acme.AdminPassword},
	} {
		r := w.request("GET", v0002Prefix+"/authorization/users", "")
		r.SetBasicAuth(credential[0], credential[1])
		if got := w.do(r); got.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	if asked := len(w.decider.Asked(policy.ActionAdminister)); asked == 0 {
		t.Error("the policy was never asked")
	}
}

func namesake(t *testing.T, w *world) {
	key, token, password := w.other.APIKey.Key, w.other.APIToken, w.other.AdminPassword
	if err := w.registry.DeleteOrganisation(t.Context(), w.other.Organisation.ID); err != nil {
		t.Fatal(err)
	}
	made := w.seed("other1")
	for _, old := range [][2]string{{key, token}, {"admin@other1", password}, {key, made.APIToken}} {
		r := w.request("GET", v0002Prefix+"/", "")
		r.SetBasicAuth(old[0], old[1])
		if got := w.do(r); got.status != http.StatusUnauthorized {
			t.Errorf("%s still signs in: %d", old[0], got.status)
		}
	}
	for _, op := range w.api.operations {
		if op.method != "GET" || len(parameters(op.path)) > 0 {
			continue
		}
		r := w.request("GET", v0002Prefix+op.path, "")
		r.SetBasicAuth(made.APIKey.Key, made.APIToken)
		got := w.do(r)
		for _, word := range []string{"theirs", "Theirs", key, "192.0.2.8"} {
			if strings.Contains(got.text, word) {
				t.Errorf("%s of the namesake holds %q: %s", op.path, word, got.text)
			}
		}
	}
}

// Whatever a path names of another organisation is answered, to the byte, as what
// there is not.
func TestEveryPathOfAnotherIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	theirs := w.furnish(t)
	nobody := map[string]string{
		"typeId": "sensor", "deviceId": "nobody", "key": "a-acme01-nobody0000", "clientId": "d:acme01:sensor:nobody", "roleId": "nobody",
		"claimId": "k000000000", "certificateId": strings.Repeat("0", 32), "uid": "nobody", "groupId": "nobody", "eventId": "nothing",
		"logId": "nothing", "requestId": "nothing", "bundleId": "nobody-v1",
	}
	before, compared := w.view(t), 0
	for _, op := range w.api.operations {
		names := parameters(op.path)
		if len(names) == 0 || len(names) == 1 && names[0] == "typeId" {
			continue // a type of both: see the paths of its devices
		}
		ask := func(values map[string]string) reply {
			path := op.path
			for _, name := range names {
				path = strings.ReplaceAll(path, "{"+name+"}", values[name])
			}
			return w.do(w.request(op.method, v0002Prefix+path, bodyFor(&op, values)))
		}
		got, want := ask(theirs), ask(nobody)
		if got.status != http.StatusNotFound || want.status != got.status || got.text != want.text {
			t.Errorf("%s %s answers\n%d %s\nand of nobody's\n%d %s", op.method, op.path, got.status, got.text, want.status, want.text)
		}
		compared++
	}
	if compared < 50 {
		t.Errorf("%d routes were compared", compared)
	}
	if after := w.view(t); after != before {
		t.Errorf("the other organisation changed:\n%s\nbefore:\n%s", after, before)
	}
}

// bodyFor is one that op takes, about values.
func bodyFor(op *operation, values map[string]string) string {
	switch {
	case !op.body:
		return ""
	case strings.HasPrefix(op.path, "/bulk/devices/"):
		return `[]`
	case strings.HasPrefix(op.path, "/mgmt/custom/bundle/"):
		return strings.Replace(aBundle, "pump-v1", values["bundleId"], 1)
	case strings.HasSuffix(op.path, "/crl"):
		return `{"crl":"` + base64.StdEncoding.EncodeToString([]byte("0")) + `"}`
	case strings.HasPrefix(op.path, "/device/types/"):
		return `{"metadata":{},"latitude":1,"longitude":1,"message":"x","errorCode":1}`
	default:
		return `{"roles":["PD_STANDARD_APP"],"permissions":["types.view"],"status":0,"name":"x"}`
	}
}
