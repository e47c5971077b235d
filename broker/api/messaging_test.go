package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// fakeMessaging lets in whom a client ID names, and notes what was asked.
type fakeMessaging struct {
	entered []plugins.Credential
	hosts   []string
	refuse  error // of Enter
	asked   []string
	wait    time.Duration
	payload string
	fail    error // of Publish and Receive
	command string
	kept    bool // the command was not received
	left    int
	kind    policy.PrincipalKind // of a client without a client ID
}

func (f *fakeMessaging) Enter(_ context.Context, c *plugins.Credential, host string) (Messenger, error) {
	f.entered, f.hosts = append(f.entered, *c), append(f.hosts, host)
	if f.refuse != nil {
		return nil, f.refuse
	}
	p := &policy.Principal{Kind: f.kind, Verifier: "fake", App: "x", Type: "sensor", ID: "d1"}
	parts := strings.Split(string(c.Client.ID), ":")
	switch parts[0] {
	case "d", "g":
		p.Kind = map[string]policy.PrincipalKind{"d": policy.KindDevice, "g": policy.KindGateway}[parts[0]]
		p.Type, p.ID = policy.ID(parts[2]), policy.ID(parts[3])
	case "a":
		p.Kind, p.App = policy.KindApplication, policy.ID(parts[2])
	}
	if len(parts) > 1 {
		p.Org, _ = policy.ParseOrgID(parts[1])
	}
	return &fakeMessenger{f, p}, nil
}

type fakeMessenger struct {
	f *fakeMessaging
	p *policy.Principal
}

func (m *fakeMessenger) Principal() *policy.Principal { return m.p }
func (m *fakeMessenger) PayloadMax() int              { return 100 }
func (m *fakeMessenger) Leave()                       { m.f.left++ }

func (*fakeMessenger) HandOver(context.Context) ([]byte, error) {
	return []byte(`{"authToken":"its own"}`), nil
}

func (m *fakeMessenger) Publish(_ context.Context, topic string, payload []byte) error {
	m.f.asked, m.f.payload = append(m.f.asked, topic), string(payload)
	return m.f.fail
}

func (m *fakeMessenger) Receive(_ context.Context, filters []string, wait time.Duration, use func(string, []byte) error) (bool, error) {
	m.f.asked, m.f.wait = append(m.f.asked, filters...), wait
	if m.f.fail != nil || m.f.command == "" {
		return false, m.f.fail
	}
	err := use(m.f.command, []byte(m.f.payload))
	m.f.kept = err != nil
	return err == nil, err
}

// later is a failure that says when to come back.
type later struct{ error }

func (later) RetryAfter() time.Duration { return 1500 * time.Millisecond }
func (l later) Unwrap() error           { return l.error }

func messagingWorld(t *testing.T) (*world, *fakeMessaging) {
	t.Helper()
	f := &fakeMessaging{}
	return newWorld(t, func(c *Config, d *Deps) { c.Domain, d.Messaging = "example.org", f }), f
}

// message is a request with a body of a type, and a username; the password is "p".
func message(path, username, contentType, body string) *http.Request {
	r := httptest.NewRequest("POST", "/api/v0002"+path, strings.NewReader(body))
	r.Host = "acme01.messaging.example.org"
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if username != "" {
		r.SetBasicAuth(username, "p")
	}
	return r
}

const (
	ownEvent   = "/device/types/sensor/devices/d1/events/status"
	ownCommand = "/device/types/sensor/devices/d1/commands/reboot/request"
	appEvent   = "/application/types/sensor/devices/d1/events/status"
	appCommand = "/application/types/sensor/devices/d1/commands/reboot"
	appUser    = "a-acme01-0123456789"
	asJSON     = "application/json"
)

func TestWhereMessagesGo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path, user, contentType, body string
		status                        int
		topic                         string
	}{
		"a device's event":       {ownEvent, "use-token-auth", asJSON, `{"t":1}`, 200, "iot-2/evt/status/fmt/json"},
		"by its whole name":      {ownEvent, "d/acme01/sensor/d1", "text/csv", "1,2", 200, "iot-2/evt/status/fmt/text"},
		"a gateway's":            {ownEvent, "g/acme01/sensor/d1", "application/xml", "<a/>", 200, "iot-2/type/sensor/id/d1/evt/status/fmt/xml"},
		"for another":            {ownEvent, "g-acme01-hub-g1", "application/octet-stream", "\x00", 200, "iot-2/type/sensor/id/d1/evt/status/fmt/bin"},
		"an application's":       {appEvent, appUser, "application/json; charset=UTF-8", "1", 200, "iot-2/type/sensor/id/d1/evt/status/fmt/json"},
		"its command":            {appCommand, appUser, asJSON, `{}`, 200, "iot-2/type/sensor/id/d1/cmd/reboot/fmt/json"},
		"a key with slashes":     {appCommand, "a/acme01/0123456789", asJSON, `{}`, 200, "iot-2/type/sensor/id/d1/cmd/reboot/fmt/json"},
		"escaped":                {"/device/types/sensor/devices/d1/events/a%20b%3F", "use-token-auth", asJSON, `1`, 200, "iot-2/evt/a b?/fmt/json"},
		"another device's":       {"/device/types/sensor/devices/d2/events/status", "d/acme01/sensor/d1", asJSON, `1`, 403, ""},
		"a device as an app":     {appEvent, "d/acme01/sensor/d1", asJSON, `1`, 403, ""},
		"an app as a device":     {ownEvent, appUser, asJSON, `1`, 403, ""},
		"token, app path":        {appEvent, "use-token-auth", asJSON, `1`, 401, ""},
		"nothing":                {ownEvent, "use-token-auth", asJSON, ``, 400, ""},
		"not JSON":               {ownEvent, "use-token-auth", asJSON, `{`, 400, ""},
		"not UTF-8":              {ownEvent, "use-token-auth", asJSON, "\"\xff\"", 400, ""},
		"no type":                {ownEvent, "use-token-auth", "", `1`, 415, ""},
		"a form":                 {ownEvent, "use-token-auth", "application/x-www-form-urlencoded", `1`, 415, ""},
		"another charset":        {ownEvent, "use-token-auth", "application/json; charset=latin1", `1`, 415, ""},
		"no type at all":         {ownEvent, "use-token-auth", "/", `1`, 415, ""},
		"too large":              {ownEvent, "use-token-auth", "text/plain", strings.Repeat("x", 101), 413, ""},
		"as large as it may be":  {ownEvent, "use-token-auth", "text/plain", strings.Repeat("x", 100), 200, "iot-2/evt/status/fmt/text"},
		"a type that is no ID":   {"/device/types/a+b/devices/d1/events/status", "use-token-auth", asJSON, `1`, 404, ""},
		"a wildcard for a type":  {"/device/types/+/devices/d1/events/status", "g/acme01/hub/g1", asJSON, `1`, 404, ""},
		"a wildcard event":       {"/device/types/sensor/devices/d1/events/+", "use-token-auth", asJSON, `1`, 404, ""},
		"a wildcard in an event": {"/device/types/sensor/devices/d1/events/a%23", "use-token-auth", asJSON, `1`, 404, ""},
		"a slash in an event":    {"/device/types/sensor/devices/d1/events/a%2Fb", "use-token-auth", asJSON, `1`, 404, ""},
		"a control character":    {"/device/types/sensor/devices/d1/events/a%00", "use-token-auth", asJSON, `1`, 404, ""},
		"bytes that are no text": {"/device/types/sensor/devices/d1/events/%ff", "use-token-auth", asJSON, `1`, 404, ""},
		"a device's command":     {"/device/types/sensor/devices/d1/commands/reboot", "use-token-auth", asJSON, `1`, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := messagingWorld(t)
			got := w.do(message(test.path, test.user, test.contentType, test.body))
			if got.status != test.status {
				t.Fatalf("status %d %s, want %d", got.status, got.text, test.status)
			}
			var want []string
			if test.topic != "" {
				want = []string{test.topic}
			}
			if !slices.Equal(f.asked, want) {
				t.Errorf("published to %q, want %q", f.asked, want)
			}
			if test.status == 200 && (f.payload != test.body || got.text != "") {
				t.Errorf("payload %q, answer %q", f.payload, got.text)
			}
			if test.status != 200 {
				got.wantError(t, test.status, exceptionID(test.status))
			}
			if f.left != len(f.entered) {
				t.Errorf("%d entered, %d left", len(f.entered), f.left)
			}
		})
	}
}

// A body that says that it is too large is not read, nor one of unknown size to
// its end.
func TestMessagesThatAreTooLargeAreNotRead(t *testing.T) {
	t.Parallel()
	w, _ := messagingWorld(t)
	bottomless := &bottomless{}
	r := message(ownEvent, "use-token-auth", "text/plain", "")
	r.Body, r.ContentLength = bottomless, 1<<40
	if got := w.do(r); got.status != http.StatusRequestEntityTooLarge || bottomless.n > 0 {
		t.Errorf("status %d after %d bytes", got.status, bottomless.n)
	}
	r = message(ownEvent, "use-token-auth", "text/plain", "")
	r.Body, r.ContentLength = bottomless, -1
	if got := w.do(r); got.status != http.StatusRequestEntityTooLarge || bottomless.n > 4096 {
		t.Errorf("status %d after %d bytes", got.status, bottomless.n)
	}
	refused, f := messagingWorld(t)
	f.refuse = &policy.Error{Kind: policy.KindForbidden}
	bottomless.n = 0
	r = message(ownEvent, "use-token-auth", "text/plain", "")
	r.Body, r.ContentLength = bottomless, -1
	if got := refused.do(r); got.status != http.StatusForbidden || bottomless.n > 0 {
		t.Errorf("status %d after %d bytes of somebody who may not", got.status, bottomless.n)
	}
}

type bottomless struct{ n int }

func (e *bottomless) Read(p []byte) (int, error) { e.n += len(p); return len(p), nil }
func (e *bottomless) Close() error               { return nil }

// Each class of failure has its status, and nothing that is not public gets out.
func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	for kind, status := range map[policy.Kind]int{
		policy.KindUnauthenticated: 401, policy.KindForbidden: 403, policy.KindTooLarge: 413, policy.KindLimit: 429,
		policy.KindUnavailable: 503, policy.KindInvalid: 400, policy.KindInternal: 500,
	} {
		for _, path := range []string{ownEvent, ownCommand} {
			for _, atDoor := range []bool{true, false} {
				w, f := messagingWorld(t)
				err := later{&policy.Error{Kind: kind, Public: "because (decision 1)", Err: errors.New("a detail")}}
				if f.fail = err; atDoor {
					f.refuse = err
				}
				got := w.do(message(path, "use-token-auth", asJSON, `{}`))
				got.wantError(t, status, exceptionID(status))
				if got.header.Get("Retry-After") != "2" || strings.Contains(got.text, "detail") {
					t.Errorf("%s: %v %s", kind, got.header, got.text)
				}
				if (got.header["Www-Authenticate"] != nil) != (status == 401) {
					t.Errorf("%s: %v", kind, got.header)
				}
				if said := strings.Contains(got.text, "because (decision 1)"); said == (status == 401 || status == 500) {
					t.Errorf("%s: %s", kind, got.text)
				}
			}
		}
	}
}

func TestRequestsForCommands(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path, user, body string
		command, payload string
		status           int
		filter           string
		wait             time.Duration
		headers          string
		contentType      string
	}{
		"none":            {ownCommand, "use-token-auth", ``, "", "", 204, "iot-2/cmd/reboot/fmt/+", 0, "", ""},
		"none in time":    {ownCommand, "use-token-auth", `{"waitTimeSecs":3600}`, "", "", 204, "iot-2/cmd/reboot/fmt/+", time.Hour, "", ""},
		"null":            {ownCommand, "use-token-auth", `{"waitTimeSecs":null}`, "", "", 204, "iot-2/cmd/reboot/fmt/+", 0, "", ""},
		"an empty object": {ownCommand, "use-token-auth", `{}`, "", "", 204, "iot-2/cmd/reboot/fmt/+", 0, "", ""},
		"one": {
			ownCommand, "use-token-auth", `{"waitTimeSecs":5}`, "iot-2/cmd/reboot/fmt/json", `{"a":1}`, 200, "iot-2/cmd/reboot/fmt/+",
			5 * time.Second, "", "application/json",
		},
		"any": {
			"/device/types/sensor/devices/d1/commands/+/request", "use-token-auth", ``, "iot-2/cmd/näm e/fmt/text", `hi`, 200,
			"iot-2/cmd/+/fmt/+", 0, "X-Commandid=n%C3%A4m%20e", "text/plain; charset=utf-8",
		},
		"any of a gateway": {
			"/device/types/+/devices/+/commands/+/request", "g/acme01/hub/g1", ``, "iot-2/type/sensor/id/d7/cmd/x/fmt/xml", `<a/>`, 200,
			"iot-2/type/+/id/+/cmd/+/fmt/+", 0, "X-Commandid=x X-Deviceid=d7 X-Devicetype=sensor", "application/xml",
		},
		"of a gateway": {
			ownCommand, "g/acme01/hub/g1", ``, "iot-2/type/sensor/id/d1/cmd/reboot/fmt/weird", "\x00", 200,
			"iot-2/type/sensor/id/d1/cmd/reboot/fmt/+", 0, "", "application/octet-stream",
		},
		"without a format": {
			"/device/types/sensor/devices/d1/commands/+/request", "use-token-auth", ``, "iot-2/cmd/reboot", `{"a":1}`, 200,
			"iot-2/cmd/+/fmt/+", 0, "X-Commandid=reboot", "application/octet-stream",
		},
		"without a format, of a gateway": {
			"/device/types/+/devices/+/commands/+/request", "g/acme01/hub/g1", ``, "iot-2/type/sensor/id/d7/cmd/x", `x`, 200,
			"iot-2/type/+/id/+/cmd/+/fmt/+", 0, "X-Commandid=x X-Deviceid=d7 X-Devicetype=sensor", "application/octet-stream",
		},
		"names like a topic's words": {
			"/device/types/+/devices/+/commands/+/request", "g/acme01/hub/g1", ``, "iot-2/type/fmt/id/fmt/cmd/fmt/fmt/json", `x`, 200,
			"iot-2/type/+/id/+/cmd/+/fmt/+", 0, "X-Commandid=fmt X-Deviceid=fmt X-Devicetype=fmt", "application/json",
		},
		"empty":                     {ownCommand, "use-token-auth", ``, "iot-2/cmd/reboot/fmt/json", "", 200, "iot-2/cmd/reboot/fmt/+", 0, "", "application/json"},
		"too long":                  {ownCommand, "use-token-auth", `{"waitTimeSecs":3601}`, "", "", 400, "", 0, "", ""},
		"negative":                  {ownCommand, "use-token-auth", `{"waitTimeSecs":-1}`, "", "", 400, "", 0, "", ""},
		"a fraction":                {ownCommand, "use-token-auth", `{"waitTimeSecs":1.5}`, "", "", 400, "", 0, "", ""},
		"a text":                    {ownCommand, "use-token-auth", `{"waitTimeSecs":"1"}`, "", "", 400, "", 0, "", ""},
		"something else":            {ownCommand, "use-token-auth", `{"wait":1}`, "", "", 400, "", 0, "", ""},
		"something more":            {ownCommand, "use-token-auth", `{"waitTimeSecs":1,"x":2}`, "", "", 400, "", 0, "", ""},
		"no object":                 {ownCommand, "use-token-auth", `5`, "", "", 400, "", 0, "", ""},
		"a device for all":          {"/device/types/sensor/devices/+/commands/reboot/request", "d/acme01/sensor/d1", ``, "", "", 403, "", 0, "", ""},
		"a device for another":      {"/device/types/sensor/devices/d2/commands/reboot/request", "d/acme01/sensor/d1", ``, "", "", 403, "", 0, "", ""},
		"an application":            {ownCommand, appUser, ``, "", "", 403, "", 0, "", ""},
		"a wildcard that is more":   {"/device/types/sensor/devices/d1/commands/%23/request", "use-token-auth", ``, "", "", 404, "", 0, "", ""},
		"a wildcard inside a level": {"/device/types/sensor/devices/d1/commands/a+/request", "use-token-auth", ``, "", "", 404, "", 0, "", ""},
		"a body that is too large":  {ownCommand, "use-token-auth", `{"waitTimeSecs":1` + strings.Repeat(" ", 5000) + `}`, "", "", 413, "", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := messagingWorld(t)
			f.command, f.payload = test.command, test.payload
			contentType := ""
			if test.body != "" {
				contentType = asJSON
			}
			got := w.do(message(test.path, test.user, contentType, test.body))
			if got.status != test.status {
				t.Fatalf("status %d %s, want %d", got.status, got.text, test.status)
			}
			if test.status >= 400 {
				got.wantError(t, test.status, exceptionID(test.status))
				return
			}
			bare := strings.TrimSuffix(test.filter, "/fmt/+")
			if want := []string{test.filter, bare}; !slices.Equal(f.asked, want) || f.wait != test.wait {
				t.Errorf("asked for %q for %s", f.asked, f.wait)
			}
			var headers []string
			for _, name := range []string{"X-Commandid", "X-Deviceid", "X-Devicetype"} {
				if v := got.header.Get(name); v != "" {
					headers = append(headers, name+"="+v)
				}
			}
			if strings.Join(headers, " ") != test.headers || got.header.Get("Content-Type") != test.contentType || got.text != test.payload {
				t.Errorf("%v %q", got.header, got.text)
			}
		})
	}
}

// A command whose client has gone is not received.
func TestACommandThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w, f := messagingWorld(t)
	f.command, f.payload = "iot-2/cmd/reboot/fmt/json", "1"
	w.api.Handler().ServeHTTP(&unwritable{header: http.Header{}}, message(ownCommand, "use-token-auth", "", ""))
	if !f.kept {
		t.Error("it counts as received")
	}
}

type unwritable struct{ header http.Header }

func (u *unwritable) Header() http.Header     { return u.header }
func (*unwritable) WriteHeader(int)           {}
func (*unwritable) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestMessagingIsPOSTAlone(t *testing.T) {
	t.Parallel()
	w, f := messagingWorld(t)
	for _, path := range []string{ownEvent, ownCommand, appEvent, appCommand} {
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "HEAD"} {
			r := message(path, "use-token-auth", asJSON, "1")
			r.Method = method
			status, allow := http.StatusMethodNotAllowed, "POST"
			if path == ownEvent { // where the last event is read, by who administers
				allow = "GET, HEAD, POST"
				if method == "GET" || method == "HEAD" {
					status, allow = http.StatusUnauthorized, ""
				}
			}
			if got := w.do(r); got.status != status || got.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d %v", method, path, got.status, got.header)
			}
		}
	}
	without := newWorld(t)
	if got := without.do(message(ownEvent, "use-token-auth", asJSON, "1")); got.status != http.StatusMethodNotAllowed {
		t.Errorf("without messaging: %d", got.status)
	}
	if len(f.entered) > 0 {
		t.Error("somebody was let in")
	}
}

func TestMessagingIsDescribed(t *testing.T) {
	t.Parallel()
	w, _ := messagingWorld(t)
	var document struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(w.api.document, &document); err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]string{
		"/device/types/{typeId}/devices/{deviceId}/events/{event}":             "sendEvent",
		"/application/types/{typeId}/devices/{deviceId}/events/{event}":        "sendEventFor",
		"/application/types/{typeId}/devices/{deviceId}/commands/{command}":    "sendCommand",
		"/device/types/{typeId}/devices/{deviceId}/commands/{command}/request": "receiveCommand",
	} {
		if got := document.Paths[path]["post"].OperationID; got != id {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// Whatever a path and a type hold, what comes out of them is one topic of the
// device that was named, or nothing.
func FuzzMessagePath(f *testing.F) {
	f.Add("sensor", "d1", "status", asJSON, []byte(`{"waitTimeSecs":1}`))
	f.Add("+", "+", "+", "text/plain; charset=utf-8", []byte(`{"waitTimeSecs":1e9}`))
	f.Add("a/b", "..", "#", "application/json; charset", []byte(`[`))
	f.Fuzz(func(t *testing.T, typeID, devID, name, contentType string, body []byte) {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.SetPathValue("typeId", typeID)
		r.SetPathValue("deviceId", devID)
		r.SetPathValue("event", name)
		r.SetPathValue("command", name)
		format, err := formatOf(http.Header{"Content-Type": {contentType}})
		if err == nil && !slices.Contains([]string{"json", "text", "xml", "bin"}, format) {
			t.Errorf("%q is format %q", contentType, format)
		}
		for _, wild := range []bool{true, false} {
			path, err := parsePath(r, "evt", false, wild)
			if err != nil {
				continue
			}
			long := path.topic(&policy.Principal{Kind: policy.KindGateway}, "json")
			want := []string{"iot-2", "type", typeID, "id", devID, "evt", name, "fmt", "json"}
			if !slices.Equal(strings.Split(long, "/"), want) || !wild && strings.ContainsAny(long, "+#") || strings.Contains(long, "#") {
				t.Errorf("%q", long)
			}
			rec := httptest.NewRecorder()
			if err := path.answer(rec, http.NewResponseController(rec), long, body); err != nil {
				t.Error(err)
			}
			for header, values := range rec.Header() {
				if strings.ContainsAny(strings.Join(values, ""), "\r\n") {
					t.Errorf("header %s is %q", header, values)
				}
			}
		}
		if wait, err := parseWait(body); err == nil && (wait < 0 || wait > maxWait) {
			t.Errorf("%q waits %s", body, wait)
		}
	})
}
