package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// results reads the answer of a bulk call.
func (r reply) results(t *testing.T) BulkResults {
	t.Helper()
	var list BulkResults
	d := json.NewDecoder(strings.NewReader(r.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		t.Fatalf("answer %q: %v", r.text, err)
	}
	return list
}

func TestBulkAddAndRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	all := w.call("POST", "/bulk/devices/add", `[
		{"typeId":"sensor","deviceId":"b1","metadata":{"n":1},"deviceInfo":{"model":"S2"},"location":{"longitude":1,"latitude":2},"unknown":1},
		{"typeId":"hub","deviceId":"b2","authToken":"my-own-token"},
		{"typeId":"sensor","deviceId":"b3","gatewayTypeId":"hub","gatewayId":"b2","metadata":null}
	]`, http.StatusCreated).results(t)
	if len(all) != 3 || !all.whole() || len(all[0].AuthToken) != 24 || all[1].AuthToken != "my-own-token" || all[2].DeviceID != "b3" || all[2].TypeID != "sensor" {
		t.Errorf("results = %+v", all)
	}
	device := w.call("GET", "/device/types/sensor/devices/b1", "", http.StatusOK).object(t)
	if fmt.Sprint(device["metadata"], device["deviceInfo"]) != "map[n:1] map[model:S2]" {
		t.Errorf("device = %v", device)
	}
	if _, err := w.registry.VerifyBasic(t.Context(), "g/acme01/hub/b2", plugins.NewSecret([]byte("my-own-token"))); err != nil {
		t.Errorf("the gateway does not sign in: %v", err)
	}

	// What one entry breaks is said at its place, and the others are done.
	some := w.call("POST", "/bulk/devices/add", `[
		{"typeId":"sensor","deviceId":"b1"},
		{"typeId":"absent","deviceId":"b4"},
		{"typeId":"sensor","deviceId":"a/b"},
		{"deviceId":"b4"},
		{"typeId":"sensor","deviceId":"b4"},
		{"typeId":"sensor","deviceId":"b4"},
		{"typeId":"sensor","deviceId":"b5","authToken":"short"},
		null
	]`, http.StatusAccepted).results(t)
	for i, want := range []string{
		"this device exists already", "no such device type", "the request is not valid: deviceId: ", "the request is not valid: typeId: is required", "",
		"this device exists already", "the request is not valid: authToken: ", "the request is not valid: typeId: is required; deviceId: is required",
	} {
		if got := some[i]; got.Success != (want == "") || got.Success != (got.AuthToken != "") || !strings.HasPrefix(got.Message, want) || got.Message != "" && want == "" {
			t.Errorf("entry %d = %+v, want %q", i, got, want)
		}
	}

	// A list of all, in pages.
	var names []string
	for bookmark := ""; ; {
		page := w.call("GET", "/bulk/devices?_limit=2&_sort=typeId,deviceId&_bookmark="+bookmark, "", http.StatusOK).object(t)
		for _, d := range page["results"].([]any) {
			names = append(names, d.(map[string]any)["clientId"].(string))
		}
		if bookmark, _ = page["bookmark"].(string); bookmark == "" {
			break
		}
	}
	if got, want := fmt.Sprint(names), "[g:acme01:hub:b2 g:acme01:hub:g1 d:acme01:sensor:b1 d:acme01:sensor:b3 d:acme01:sensor:b4 d:acme01:sensor:d1]"; got != want {
		t.Errorf("all devices = %s, want %s", got, want)
	}

	// What does not exist counts as removed.
	gone := w.call("POST", "/bulk/devices/remove", `[{"typeId":"sensor","deviceId":"b1"},{"typeId":"sensor","deviceId":"b1"},{"typeId":"x","deviceId":"y"}]`, http.StatusCreated).results(t)
	if len(gone) != 3 || !gone.whole() || gone[0].AuthToken != "" {
		t.Errorf("removal = %+v", gone)
	}
	w.call("GET", "/device/types/sensor/devices/b1", "", http.StatusNotFound)
	half := w.call("POST", "/bulk/devices/remove", `[{"typeId":"sensor","deviceId":"b3"},{"typeId":"sensor"}]`, http.StatusAccepted).results(t)
	if !half[0].Success || half[1].Success || half[1].Message == "" {
		t.Errorf("removal = %+v", half)
	}
	w.call("POST", "/bulk/devices/remove", `[]`, http.StatusCreated).wantJSON(t, `[]`)
	w.call("POST", "/bulk/devices/add", `[]`, http.StatusCreated).wantJSON(t, `[]`)
}

func TestBulkUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	const path = "/bulk/devices/update"
	all := w.call("PUT", path, `[
		{"typeId":"sensor","deviceId":"d1","metadata":{"n":1},"deviceInfo":{"model":"S3","fwVersion":null},"status":{"alert":{"enabled":true}},"unknown":1},
		{"typeId":"hub","deviceId":"g1","deviceInfo":{"fwVersion":"2"}}
	]`, http.StatusOK)
	all.wantJSON(t, `[{"typeId":"sensor","deviceId":"d1","success":true},{"typeId":"hub","deviceId":"g1","success":true}]`)
	device := w.call("GET", "/device/types/sensor/devices/d1", "", http.StatusOK).object(t)
	if got := fmt.Sprint(device["metadata"], device["deviceInfo"], device["status"]); got != "map[n:1] map[model:S3] map[alert:map[enabled:true timestamp:2026-01-31T12:00:00.000Z]]" {
		t.Errorf("device = %s", got)
	}
	some := w.call("PUT", path, `[
		{"typeId":"sensor","deviceId":"none","metadata":{"n":2}},
		{"typeId":"sensor","deviceId":"d1","metadata":{"n":3}},
		{"typeId":"sensor","deviceId":"d1","deviceInfo":{"model":"`+strings.Repeat("x", 2000)+`"},"metadata":{"n":4}},
		{"typeId":"sensor","deviceId":"d1","status":{"alert":{"timestamp":"yesterday"}}},
		{"deviceId":"d1"}, {"typeId":"sensor"}, null,
		{"typeId":"absent","deviceId":"d1"}
	]`, http.StatusAccepted).results(t)
	for i, want := range []string{
		"no such device", "", "the request is not valid: deviceInfo.model: ", "the request is not valid: status.alert.timestamp: ",
		"the request is not valid: typeId: is required", "the request is not valid: deviceId: is required", "the request is not valid: typeId: is required", "no such device",
	} {
		if got := some[i]; got.Success != (want == "") || !strings.HasPrefix(got.Message, want) || got.Message != "" && want == "" || got.AuthToken != "" {
			t.Errorf("entry %d = %+v, want %q", i, got, want)
		}
	}
	if device = w.call("GET", "/device/types/sensor/devices/d1", "", http.StatusOK).object(t); fmt.Sprint(device["metadata"]) != "map[n:3]" {
		t.Errorf("device = %v", device)
	}
	w.call("PUT", path, `[]`, http.StatusOK).wantJSON(t, `[]`)
	w.call("PUT", path, `{}`, http.StatusBadRequest)

	w.decider.On(policy.ActionAdminister, func(_ *policy.Facts, r *policy.Request) *policy.Decision {
		return &policy.Decision{Allow: r.Target["typeId"] != "hub", Reason: "not hubs", ID: "x1"}
	})
	half := w.call("PUT", path, `[{"typeId":"hub","deviceId":"g1","metadata":{"n":5}},{"typeId":"sensor","deviceId":"d1","metadata":{"n":5}}]`, http.StatusAccepted).results(t)
	if half[0].Success || !strings.Contains(half[0].Message, "not hubs") || !half[1].Success {
		t.Errorf("results = %+v", half)
	}
	w.call("PUT", path, `[{"typeId":"hub","deviceId":"g1","metadata":{"n":6}}]`, http.StatusForbidden)
}

func TestBulkBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	entries := func(n int, entry func(i int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = entry(i)
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	for name, test := range map[string]struct {
		body string
		want int
	}{
		"an object":      {`{"typeId":"sensor"}`, http.StatusBadRequest},
		"no JSON":        {`[{"typeId":]`, http.StatusBadRequest},
		"two":            {`[] []`, http.StatusBadRequest},
		"nothing":        {``, http.StatusBadRequest},
		"a number":       {`[{"typeId":1,"deviceId":"x"}]`, http.StatusBadRequest},
		"too large":      {`[` + strings.Repeat(" ", 64<<10) + `]`, http.StatusRequestEntityTooLarge},
		"too many types": {entries(maxBulkTypes+1, func(i int) string { return fmt.Sprintf(`{"typeId":"t%d","deviceId":"x"}`, i) }), http.StatusBadRequest},
		"too many tokens": {entries(maxBulkChosen+1, func(i int) string {
			return fmt.Sprintf(`{"typeId":"sensor","deviceId":"x%d","authToken":"12345678"}`, i)
		}), http.StatusBadRequest},
	} {
		got := w.do(w.request("POST", "/api/v0002/bulk/devices/add", test.body))
		if got.status != test.want {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.text, test.want)
		}
	}
	if list := w.call("GET", "/bulk/devices", "", http.StatusOK).object(t)["results"].([]any); len(list) != 2 {
		t.Errorf("%d devices, want those of before", len(list))
	}
}

// The policy is asked about each type, and what it denies fails alone.
func TestBulkIsDecidedForEachType(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.decider.On(policy.ActionAdminister, func(_ *policy.Facts, r *policy.Request) *policy.Decision {
		return &policy.Decision{Allow: r.Target["typeId"] != "hub", Reason: "not hubs", ID: "x1"}
	})
	const body = `[{"typeId":"hub","deviceId":"b1"},{"typeId":"sensor","deviceId":"b1"},{"typeId":"hub","deviceId":"b2"},{"typeId":"a b","deviceId":"b"}]`
	got := w.call("POST", "/bulk/devices/add", body, http.StatusAccepted).results(t)
	if got[0].Success || !strings.Contains(got[0].Message, "not hubs (decision x1)") || !got[1].Success || got[2].Success || got[3].Success {
		t.Errorf("results = %+v", got)
	}
	if asked := w.decider.Asked(policy.ActionAdminister); len(asked) != 2 {
		t.Errorf("asked %d times, want once for each type", len(asked))
	}
	if lines := w.logs.lines(t, "refused"); len(lines) != 1 || lines[0]["route"] != "/bulk/devices/add" {
		t.Errorf("log = %v", lines)
	}
	gone := w.call("POST", "/bulk/devices/remove", `[{"typeId":"hub","deviceId":"g1"},{"typeId":"sensor","deviceId":"b1"}]`, http.StatusAccepted).results(t)
	if gone[0].Success || !gone[1].Success {
		t.Errorf("results = %+v", gone)
	}
	w.call("POST", "/bulk/devices/remove", `[{"typeId":"hub","deviceId":"g1"}]`, http.StatusForbidden)
	if _, err := w.registry.Device(t.Context(), w.acme.Organisation.ID, "hub", "g1"); err != nil {
		t.Errorf("the gateway is gone: %v", err)
	}
	if made, _, err := w.registry.Devices(t.Context(), w.acme.Organisation.ID, "hub", registry.Page{}); err != nil || len(made) != 1 {
		t.Errorf("gateways = %v, %v", made, err)
	}
}
