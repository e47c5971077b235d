package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/pki/tenant"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
)

var _ Registry = (*registry.Registry)(nil)

const operatorToken = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// world is a broker's administration with two organisations, acme01 and other1.
type world struct {
	t          *testing.T
	registry   *registry.Registry
	decider    *policytest.Recorder
	api        *API
	ledger     *ledger.Ledger
	clients    *fakeClients
	management *fakeManagement
	logs       *logs
	clock      *clock
	acme       registry.Seed
	other      registry.Seed
	keeper     *tenant.Keeper
	secrets    []string // every token and password that was given out
}

func newWorld(t *testing.T, change ...func(*Config, *Deps)) *world {
	t.Helper()
	w := &world{t: t, decider: &policytest.Recorder{}, logs: &logs{}, clock: &clock{}}
	w.clock.set(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	var err error
	if w.registry, err = registry.Open(st, registry.Options{Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.registry.Close)
	w.acme, w.other = w.seed("acme01"), w.seed("other1")
	cfg := Config{
		Log: slog.New(slog.NewJSONHandler(w.logs, nil)), Now: w.clock.now, Version: "1.2.3", MaxBody: 64 << 10,
	}
	w.ledger = ledger.On(st)
	w.clients = &fakeClients{ledger: w.ledger}
	w.management = &fakeManagement{now: w.clock.now}
	w.keeper = w.keepServerCertificates()
	deps := Deps{
		Registry: w.registry, Decider: w.decider, OperatorToken: plugins.NewSecret([]byte(operatorToken)),
		Ledger: w.ledger, Clients: w.clients, Management: w.management,
		ServerCertificates: w.keeper,
	}
	for _, f := range change {
		f(&cfg, &deps)
	}
	if w.api, err = New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	w.api.undescribed = func(op *operation, name string) {
		t.Errorf("%s %s reads the parameter %s, which the OpenAPI document does not have", op.method, op.path, name)
	}
	return w
}

func (w *world) seed(name string) registry.Seed {
	w.t.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		w.t.Fatal(err)
	}
	seed, err := w.registry.SeedOrganisation(context.Background(), org, "The "+name+" company")
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = append(w.secrets, seed.APIToken, seed.AdminPassword)
	return seed
}

// fleet adds type sensor with device d1 and type hub with gateway g1 to acme01,
// and type sensor with device theirs to other1.
func (w *world) fleet() {
	w.t.Helper()
	ctx := context.Background()
	for _, thing := range []struct {
		org           policy.OrgID
		class         string
		typeID, devID policy.ID
	}{
		{w.acme.Organisation.ID, registry.ClassDevice, "sensor", "d1"},
		{w.acme.Organisation.ID, registry.ClassGateway, "hub", "g1"},
		{w.other.Organisation.ID, registry.ClassDevice, "sensor", "theirs"},
	} {
		if _, err := w.registry.CreateType(ctx, thing.org, registry.DeviceType{ID: thing.typeID, ClassID: thing.class}); err != nil {
			w.t.Fatal(err)
		}
		_, token, err := w.registry.CreateDevice(ctx, thing.org, registry.Device{Type: thing.typeID, ID: thing.devID}, plugins.Secret{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.secrets = append(w.secrets, token)
	}
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	text   string
}

// request makes one of the administrator of acme01, whose body is JSON.
func (w *world) request(method, path, body string) *http.Request {
	w.t.Helper()
	r := httptest.NewRequest(method, path, nil)
	if body != "" {
		r = httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
	}
	r.SetBasicAuth(w.acme.APIKey.Key, w.acme.APIToken)
	return r
}

func (w *world) do(r *http.Request) reply { return serve(w.api.Handler(), r) }

func serve(h http.Handler, r *http.Request) reply {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return reply{rec.Code, rec.Header(), rec.Body.String()}
}

// call does what the administrator of acme01 asks and wants this status.
func (w *world) call(method, path, body string, want int) reply {
	w.t.Helper()
	got := w.do(w.request(method, "/api/v0002"+path, body))
	if got.status != want {
		w.t.Fatalf("%s %s = %d %s, want %d", method, path, got.status, got.text, want)
	}
	return got
}

// object reads the answer as a JSON object.
func (r reply) object(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(r.text), &o); err != nil {
		t.Fatalf("answer %q is not an object: %v", r.text, err)
	}
	return o
}

// wantError checks that the answer is an error body with this identifier.
func (r reply) wantError(t *testing.T, status int, id string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status = %d %s, want %d", r.status, r.text, status)
	}
	var body ErrorBody
	d := json.NewDecoder(strings.NewReader(r.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		t.Fatalf("answer %q is no error body: %v", r.text, err)
	}
	if body.Message == "" || body.Exception.ID != id || body.Exception.Properties == nil {
		t.Errorf("error body = %s, want a message, id %s and properties", r.text, id)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
}

func (r reply) wantJSON(t *testing.T, want string) {
	t.Helper()
	var got, expected any
	if err := json.Unmarshal([]byte(r.text), &got); err != nil {
		t.Fatalf("answer %q is not JSON", r.text)
	}
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got)
	e, _ := json.Marshal(expected)
	if !bytes.Equal(g, e) {
		t.Errorf("answer = %s\n    want %s", g, e)
	}
}

// logs keeps what was logged.
type logs struct {
	kept struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (l *logs) Write(b []byte) (int, error) {
	l.kept.Lock()
	defer l.kept.Unlock()
	return l.kept.Write(b)
}

func (l *logs) text() string {
	l.kept.Lock()
	defer l.kept.Unlock()
	return l.kept.String()
}

// lines returns the lines of a message, without time and level.
func (l *logs) lines(t *testing.T, msg string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.text()) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		if o["msg"] == msg {
			delete(o, "time")
			delete(o, "level")
			found = append(found, o)
		}
	}
	return found
}

type clock struct {
	at struct {
		sync.Mutex
		time.Time
	}
}

func (c *clock) now() time.Time {
	c.at.Lock()
	defer c.at.Unlock()
	return c.at.Time
}

func (c *clock) set(t time.Time) {
	c.at.Lock()
	defer c.at.Unlock()
	c.at.Time = t
}

func TestNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, d := range map[string]Deps{
		"no registry":    {Decider: w.decider},
		"no decider":     {Registry: w.registry},
		"a short secret": {Registry: w.registry, Decider: w.decider, OperatorToken: plugins.NewSecret([]byte("short"))},
	} {
		if _, err := New(Config{}, d); err == nil {
			t.Errorf("%s: New accepted it", name)
		} else if strings.Contains(err.Error(), "secret short") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{}, Deps{Registry: w.registry, Decider: w.decider}); err != nil {
		t.Errorf("New with defaults = %v", err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	var reason error
	w := newWorld(t, func(_ *Config, d *Deps) { d.Ready = func() error { return reason } })
	get := func(path string) reply { return w.do(httptest.NewRequest("GET", path, nil)) }
	get("/healthz").wantJSON(t, `{"status":"ok"}`)
	get("/readyz").wantJSON(t, `{"status":"ready"}`)
	reason = io.ErrUnexpectedEOF
	if got := get("/healthz"); got.status != http.StatusOK {
		t.Errorf("healthz = %d while not ready", got.status)
	}
	got := get("/readyz")
	got.wantError(t, http.StatusServiceUnavailable, "CDNHT0503E")
	if strings.Contains(got.text, reason.Error()) {
		t.Errorf("readyz tells everybody why: %s", got.text)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{
		"/", "/api", "/api/v0001", "/api/v0002/nothing", "/api/v0002/device/types/a/b", "/docs", "/schemas/ErrorBody.json",
		"/api/v0002/openapi.yaml", "/api/v0002//device/types", "/api/v0002/device/../device/types", "/api/v0002/./",
	} {
		w.do(w.request("GET", path, "")).wantError(t, http.StatusNotFound, "CDNHT0404E")
	}
	got := w.do(w.request("PATCH", "/api/v0002/device/types", ""))
	got.wantError(t, http.StatusMethodNotAllowed, "CDNHT0405E")
	if allow := got.header.Get("Allow"); allow != "GET, HEAD, POST" {
		t.Errorf("Allow = %q", allow)
	}
}

func TestAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/api/v0002", "/api/v0002/nothing", "/healthz", "/api/operator/v1/status"} {
		got := w.do(w.request("GET", path, ""))
		if got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, got.header)
		}
	}
}

// A fault in one request is that request's own.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.decider.On(policy.ActionAdminister, func(*policy.Facts, *policy.Request) *policy.Decision { panic("boom") })
	w.do(w.request("GET", "/api/v0002/", "")).wantError(t, http.StatusInternalServerError, "CDNHT0500E")
	if got := w.logs.lines(t, "request panicked"); len(got) != 1 || got[0]["panic"] != "boom" {
		t.Errorf("log = %v", got)
	}
}

// An answer that cannot be written is still an answer.
func TestAnswerThatIsNotJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rec := httptest.NewRecorder()
	w.api.write(rec, w.request("GET", "/", ""), http.StatusOK, func() {})
	reply{rec.Code, rec.Header(), rec.Body.String()}.wantError(t, http.StatusInternalServerError, "CDNHT0500E")
}
