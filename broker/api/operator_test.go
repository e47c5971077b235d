package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
)

// operator does what the operator asks on the control socket.
func (w *world) operator(method, path, body string, want int) reply {
	w.t.Helper()
	r := w.request(method, operatorPrefix+path, body)
	r.Header.Del("Authorization")
	got := serve(w.api.OperatorHandler(), r)
	if got.status != want {
		w.t.Fatalf("%s %s = %d %s, want %d", method, path, got.status, got.text, want)
	}
	return got
}

const defaultQuotas = `{"connections":100000,"sessions":200000,"subscriptions":1000000,"publishRate":1000000,"storedBytes":8589934592,"retainedBytes":1073741824,"evaluationsRate":100000}`

func TestOperator(t *testing.T) {
	t.Parallel()
	// The policy has no say in what the operator does.
	w := newWorld(t, func(_ *Config, d *Deps) { d.Decider = policytest.DenyAll{} })
	made := w.operator("POST", "/organisations", `{"org":"third1","name":"Third"}`, http.StatusCreated).object(t)
	key, _ := made["apiKey"].(string)
	token, _ := made["apiToken"].(string)
	password, _ := made["adminPassword"].(string)
	if made["org"] != "third1" || !strings.HasPrefix(key, "a-third1-") || len(token) != 24 || made["adminUser"] != "admin@third1" || len(password) != 24 || len(made) != 5 {
		t.Errorf("created = %v", made)
	}
	w.operator("POST", "/organisations", `{"org":"third1"}`, http.StatusConflict).wantError(t, 409, "CDNHT0409E")
	for _, bad := range []string{`{}`, `{"org":null}`, `{"org":"UPPER1"}`, `{"org":"quickstart"}`, `{"org":["third2"]}`} {
		w.operator("POST", "/organisations", bad, http.StatusBadRequest).wantError(t, 400, "CUDRS0007E")
	}

	view := func(suspended bool, quotas string) string {
		return fmt.Sprintf(`{"org":"third1","name":"Third","suspended":%v,"quotas":%s,"created":%s,"updated":%s}`, suspended, quotas, moment, moment)
	}
	w.operator("GET", "/organisations/third1", "", http.StatusOK).wantJSON(t, view(false, defaultQuotas))
	all := w.operator("GET", "/organisations?_limit=2", "", http.StatusOK).object(t)
	if len(all["results"].([]any)) != 2 || all["bookmark"] == nil {
		t.Errorf("list = %v", all)
	}

	signIn := func() error {
		_, err := w.registry.VerifyBasic(t.Context(), key, plugins.NewSecret([]byte(token)))
		return err
	}
	if err := signIn(); err != nil {
		t.Errorf("the first key does not work: %v", err)
	}
	w.operator("POST", "/organisations/third1/suspend", "", http.StatusOK).wantJSON(t, view(true, defaultQuotas))
	if err := signIn(); plugins.CauseOf(err) != policy.CauseDisabled {
		t.Errorf("while suspended: %v", err)
	}
	w.operator("POST", "/organisations/third1/resume", "", http.StatusOK).wantJSON(t, view(false, defaultQuotas))
	if err := signIn(); err != nil {
		t.Errorf("after resuming: %v", err)
	}

	changed := strings.Replace(strings.Replace(defaultQuotas, `"connections":100000`, `"connections":5`, 1), `"publishRate":1000000`, `"publishRate":0.5`, 1)
	w.operator("PUT", "/organisations/third1/quotas", `{"connections":5,"publishRate":0.5,"sessions":null}`, http.StatusOK).wantJSON(t, view(false, changed))
	for _, bad := range []string{`{"connections":0}`, `{"sessions":-1}`, `{"publishRate":1e300}`, `{"subscriptions":1.5}`, `{"storedBytes":"1"}`, `{"storedBytes":99999999999999999999}`} {
		w.operator("PUT", "/organisations/third1/quotas", bad, http.StatusBadRequest).wantError(t, 400, "CUDRS0007E")
	}
	w.operator("GET", "/organisations/third1", "", http.StatusOK).wantJSON(t, view(false, changed))

	w.operator("DELETE", "/organisations/third1", "", http.StatusNoContent)
	for _, gone := range []string{"third1", "Not-An-Org", "%00"} {
		w.operator("GET", "/organisations/"+gone, "", http.StatusNotFound).wantError(t, 404, "CDNHT0404E")
		w.operator("DELETE", "/organisations/"+gone, "", http.StatusNotFound)
		w.operator("POST", "/organisations/"+gone+"/suspend", "", http.StatusNotFound)
		w.operator("PUT", "/organisations/"+gone+"/quotas", `{}`, http.StatusNotFound)
	}
	for _, secret := range []string{token, password} {
		if strings.Contains(w.logs.text(), secret) {
			t.Error("the log holds a new secret")
		}
	}
}

func TestOperatorStatus(t *testing.T) {
	t.Parallel()
	reason := errors.New("the store is opening")
	w := newWorld(t, func(_ *Config, d *Deps) { d.Ready = func() error { return reason } })
	w.operator("GET", "/status", "", http.StatusOK).wantJSON(t, `{"version":"1.2.3","ready":false,"reason":"the store is opening"}`)
	reason = nil
	w.operator("GET", "/status", "", http.StatusOK).wantJSON(t, `{"version":"1.2.3","ready":true}`)
}

func TestOperatorCallsAreLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.operator("POST", "/organisations", `{"org":"third1"}`, http.StatusCreated)
	w.operator("POST", "/organisations", `{"org":"third1"}`, http.StatusConflict)
	w.operator("POST", "/organisations/third1/suspend", "", http.StatusOK)
	w.operator("GET", "/organisations/Not-An-Org", "", http.StatusNotFound)
	line := func(action, org string, status float64) map[string]any {
		return map[string]any{"msg": "operator", "action": action, "org": org, "status": status}
	}
	want := []map[string]any{
		line("create_organisation", "third1", 201), line("create_organisation", "third1", 409),
		line("suspend_organisation", "third1", 200), line("read_organisation", "", 404),
	}
	if got := w.logs.lines(t, "operator"); !reflect.DeepEqual(got, want) {
		t.Errorf("log = %v\nwant %v", got, want)
	}
}

// On the HTTPS listener the token is asked for, for every route.
func TestOperatorToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := func(authorization ...string) reply {
		r := httptest.NewRequest("GET", operatorPrefix+"/organisations/acme01", nil)
		r.Header["Authorization"] = authorization
		return w.do(r)
	}
	for _, good := range []string{"Bearer " + operatorToken, "bearer  " + operatorToken} {
		if got := list(good); got.status != http.StatusOK {
			t.Errorf("%q: %d %s", good[:7], got.status, got.text)
		}
	}
	basic := w.request("GET", "/", "").Header.Get("Authorization")
	for _, bad := range [][]string{
		nil,
		{""},
		{"Bearer"},
		{"Bearer "},
		{operatorToken},
		{"Basic " + operatorToken},
		{basic},
		{"Bearer " + operatorToken[1:]},
		{"Bearer " + operatorToken + "0"},
		{"Bearer " + strings.ToUpper(operatorToken)},
		{"Bearer " + operatorToken, "Bearer " + operatorToken},
		{"Bearer " + operatorToken + " "},
	} {
		got := list(bad...)
		got.wantError(t, http.StatusUnauthorized, "CDNHT0401E")
		if got.header.Get("Www-Authenticate") != `Bearer realm="Cordon operator"` {
			t.Errorf("headers = %v", got.header)
		}
	}
	refused := w.logs.lines(t, "refused")
	if len(refused) != 12 || refused[0]["action"] != "operator" || refused[0]["org"] != "acme01" || refused[0]["route"] != "/organisations/{org}" {
		t.Errorf("log = %v", refused)
	}
	if strings.Contains(w.logs.text(), operatorToken[:32]) {
		t.Error("the log holds the operator's token")
	}
}

func TestEveryOperatorRouteAsksForTheToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mux := http.NewServeMux()
	s := newSurface(w.api, mux, "/unused", bearerGate{w.api})
	w.api.operatorRoutes(s)
	if len(s.operations) != 12 {
		t.Errorf("%d routes, want 12", len(s.operations))
	}
	for _, op := range s.operations {
		path := operatorPrefix + strings.ReplaceAll(op.path, "{org}", "other1")
		r := httptest.NewRequest(op.method, path, strings.NewReader(`{"org":"third1"}`))
		r.Header.Set("Content-Type", "application/json")
		w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
	}
	if _, err := w.registry.Organisation(t.Context(), w.other.Organisation.ID); err != nil {
		t.Errorf("the organisation is gone: %v", err)
	}
	if _, err := w.registry.Organisation(t.Context(), mustOrg(t, "third1")); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("an organisation was made: %v", err)
	}
}

// Without a token there is no remote operator, not one with an empty token.
func TestNoOperatorToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) { d.OperatorToken = plugins.Secret{} })
	for _, authorization := range []string{"Bearer ", "Bearer", "Bearer x"} {
		r := httptest.NewRequest("GET", operatorPrefix+"/status", nil)
		r.Header.Set("Authorization", authorization)
		w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
	}
	w.operator("GET", "/status", "", http.StatusOK)
}

// The socket opens the operator's door and no other.
func TestSocketHasNoOtherRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/api/v0002/device/types", "/healthz", "/"} {
		serve(w.api.OperatorHandler(), w.request("GET", path, "")).wantError(t, http.StatusNotFound, "CDNHT0404E")
	}
}

func TestOperatorSeesConnectionLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.registry.UpdateOrganisation(t.Context(), w.acme.Organisation.ID, func(o *registry.Organisation) error {
		o.ConnectionLevel = registry.LevelTLSOptional
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.operator("GET", "/organisations/acme01", "", http.StatusOK).object(t); got["connectionLevel"] != registry.LevelTLSOptional {
		t.Errorf("organisation = %v", got)
	}
}
