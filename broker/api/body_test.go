package api

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// Each body breaks one rule, which the answer names.
func TestBodiesThatAreNotValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, test := range []struct {
		name, body, field, words string
	}{
		{"empty", "", "body", "is required"},
		{"not JSON", `{"deviceId":`, "body", "is not JSON"},
		{"broken in the middle", `{"deviceId":"d9",}`, "body", "is not JSON, at byte 18"},
		{"two objects", `{"deviceId":"d9"} {}`, "body", "must be one JSON object"},
		{"array", `[]`, "body", "must be a JSON object"},
		{"null", `null`, "body", "must be a JSON object"},
		{"text", `"d9"`, "body", "must be a JSON object"},
		{"not UTF-8", "{\"deviceId\":\"\xff\"}", "body", "is not UTF-8"},
		{"deep", `{"deviceId":"d9","metadata":` + nested(maxDepth) + `}`, "body", "is nested more than 32 levels deep"},
		{"long number", `{"deviceId":"d9","metadata":{"n":` + strings.Repeat("1", maxNumber+1) + `}}`, "body", "holds a number"},
		{"huge number", `{"deviceId":"d9","metadata":{"n":1e999999999}}`, "body", "holds a number"},
		{"tiny number", `{"deviceId":"d9","metadata":{"n":1E-999999999}}`, "body", "holds a number"},
		{"absent", `{}`, "deviceId", "is required"},
		{"null identifier", `{"deviceId":null}`, "deviceId", "is required"},
		{"number for text", `{"deviceId":17}`, "deviceId", "must be a string"},
		{"object for text", `{"deviceId":"d9","deviceInfo":{"model":{}}}`, "deviceInfo.model", "must be a string"},
		{"text for object", `{"deviceId":"d9","deviceInfo":"x"}`, "deviceInfo", "must be an object"},
		{"array for object", `{"deviceId":"d9","metadata":[]}`, "metadata", "must be an object"},
		{"text for number", `{"deviceId":"d9","location":{"longitude":"x","latitude":1}}`, "location.longitude", "must be a number"},
		{"half a location", `{"deviceId":"d9","location":{"longitude":1}}`, "location", "needs longitude and latitude"},
		{"no such place", `{"deviceId":"d9","location":{"longitude":181,"latitude":1}}`, "location.longitude", "must be -180 to 180"},
		{"no such time", `{"deviceId":"d9","location":{"longitude":1,"latitude":1,"measuredDateTime":"noon"}}`, "location.measuredDateTime", "must be a time"},
		{"slash", `{"deviceId":"a/b"}`, "deviceId", "must be 1 to 36"},
		{"wildcard", `{"deviceId":"+"}`, "deviceId", "must be 1 to 36"},
		{"too long", `{"deviceId":"` + strings.Repeat("x", 37) + `"}`, "deviceId", "must be 1 to 36"},
		{"bad token", `{"deviceId":"d9","authToken":"täglich-neu"}`, "authToken", "must be 8 to 36"},
		{"control character", `{"deviceId":"d9","deviceInfo":{"model":"\u0000"}}`, "deviceInfo.model", "control characters"},
		{"large metadata", `{"deviceId":"d9","metadata":{"x":"` + strings.Repeat("x", 33<<10) + `"}}`, "metadata", "must be at most"},
	} {
		r := w.request("POST", "/api/v0002/device/types/sensor/devices", test.body)
		got := w.do(r)
		got.wantError(t, http.StatusBadRequest, "CUDRS0007E")
		if !strings.Contains(got.text, `"properties":["`+test.field+`"]`) || !strings.Contains(got.text, test.words) {
			t.Errorf("%s: %s does not name %s and %q", test.name, got.text, test.field, test.words)
		}
	}
	several := w.call("POST", "/device/types/sensor/devices", `{"deviceId":"a/b","location":{},"authToken":""}`, http.StatusBadRequest).object(t)
	if got := len(several["violations"].([]any)); got != 3 {
		t.Errorf("%d violations, want 3: %v", got, several)
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		contentType, encoding string
		want                  int
	}{
		{"application/json", "", 409},
		{"application/json; charset=utf-8", "identity", 409},
		{"APPLICATION/JSON;charset=\"UTF-8\"", "", 409},
		{"", "", 415},
		{"text/plain", "", 415},
		{"application/x-www-form-urlencoded", "", 415},
		{"application/json; charset=utf-16", "", 415},
		{"application/json, text/plain", "", 415},
		{"application/merge-patch+json", "", 415},
		{"application/json", "gzip", 415},
	} {
		w.do(w.request("POST", "/api/v0002/device/types", `{"id":"sensor"}`))
		r := w.request("POST", "/api/v0002/device/types", `{"id":"sensor"}`)
		r.Header.Set("Content-Type", test.contentType)
		r.Header.Set("Content-Encoding", test.encoding)
		if got := w.do(r); got.status != test.want {
			t.Errorf("%q %q: %d %s, want %d", test.contentType, test.encoding, got.status, got.text, test.want)
		} else if test.want == 415 {
			got.wantError(t, 415, "CDNHT0415E")
		}
	}
}

func TestBodySize(t *testing.T) {
	t.Parallel()
	const limit = 1024
	w := newWorld(t, func(c *Config, _ *Deps) { c.MaxBody = limit })
	body := func(n int) string { return `{"id":"sensor"}` + strings.Repeat(" ", n-len(`{"id":"sensor"}`)) }
	post := func(body io.Reader, length int64) reply {
		r := w.request("POST", "/api/v0002/device/types", "{}")
		r.Body, r.ContentLength = io.NopCloser(body), length
		return w.do(r)
	}
	if got := post(strings.NewReader(body(limit)), limit); got.status != http.StatusCreated {
		t.Errorf("a body of the limit: %d %s", got.status, got.text)
	}
	post(unread{t}, limit+1).wantError(t, http.StatusRequestEntityTooLarge, "CDNHT0413E")
	post(strings.NewReader(body(limit+1)), -1).wantError(t, http.StatusRequestEntityTooLarge, "CDNHT0413E")
	// One that never ends is not read to its end.
	post(endless{}, -1).wantError(t, http.StatusRequestEntityTooLarge, "CDNHT0413E")
}

// endless is white space for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// failingBody ends in an error.
type failingBody struct{ err error }

func (f failingBody) Read([]byte) (int, error) { return 0, f.err }

func TestBodiesThatDoNotArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		err    error
		status int
		id     string
	}{
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, http.StatusRequestTimeout, "CDNHT0408E"},
		{io.ErrUnexpectedEOF, http.StatusBadRequest, "CUDRS0007E"},
	} {
		r := w.request("POST", "/api/v0002/device/types", "{}")
		r.Body = io.NopCloser(failingBody{test.err})
		w.do(r).wantError(t, test.status, test.id)
	}
}

// A body where none is asked for is not looked at.
func TestBodyThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, method := range []string{"GET", "DELETE"} {
		r := httptest.NewRequest(method, "/api/v0002/device/types/absent", unread{t})
		r.SetBasicAuth(w.acme.APIKey.Key, w.acme.APIToken)
		w.do(r).wantError(t, http.StatusNotFound, "CDNHT0404E")
	}
}

// FuzzDecode feeds the decoder of bodies: whatever comes, the answer is a value
// or a broken rule, and what is accepted is JSON that can be written again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"deviceId":"d1","authToken":"0123456789","deviceInfo":{"model":null},"metadata":{"a":[1,2.5e3,{"b":null}]}}`,
		`{"roles":[{"roleId":"PD_STANDARD_APP","roleStatus":1},"fleet",null],"rolesToGroups":{"fleet":["a"]},"permissions":["types.view"]}`,
		`{"location":{"longitude":1e2,"latitude":-0.5,"elevation":null}}`,
		`{"metadata":{"n":123456789012345678901234567890}}`, `{"metadata":{"\"[{":"\\"}}`, `[[[[`, `{"a":1e999}`, `nul`, "{\"\xff\":1}", `{} {}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, into := range []any{&NewDevice{}, &DevicePatch{}, &NewType{}, &NewAPIKey{}, &AccessPatch{}, &NewRole{}, &RolesObject{}, &DeviceTokenRequest{}, &QuotasPatch{}} {
			err := decode(body, into)
			if err == nil {
				if !json.Valid(body) {
					t.Fatalf("%q was accepted", body)
				}
				if _, err := json.Marshal(into); err != nil {
					t.Fatalf("%q cannot be written again: %v", body, err)
				}
				continue
			}
			var e *policy.Error
			if !errors.As(err, &e) || e.Kind != policy.KindInvalid || e.Field == "" || e.Public == "" {
				t.Fatalf("%q: %v", body, err)
			}
		}
	})
}

// FuzzClientID feeds the reader of client IDs in paths: what it accepts is of
// the caller's organisation and spelt exactly so.
func FuzzClientID(f *testing.F) {
	for _, seed := range []string{"d:acme01:sensor:d1", "g:acme01:hub:g1", "d:other1:sensor:d1", "a:acme01:app", "d:acme01:a/b:+", ":::", ""} {
		f.Add(seed)
	}
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &call{org: org, params: func(string) string { return text }}
		class, typ, id, err := c.subject()
		if err != nil {
			if policy.KindOf(err) != policy.KindNotFound {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if text != class+":acme01:"+string(typ)+":"+string(id) {
			t.Fatalf("%q was read as %s %s %s", text, class, typ, id)
		}
	})
}
