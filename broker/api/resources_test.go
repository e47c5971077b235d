package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

const moment = `"2026-01-31T12:00:00.000Z"`

func TestOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := `{"id":"acme01","name":"The acme01 company","type":"Standard","created":` + moment + `,"updated":` + moment + `}`
	for _, path := range []string{"", "/", "?_limit=x"} {
		w.call("GET", path, "", http.StatusOK).wantJSON(t, want)
	}
}

const sensorType = `{
	"id": "sensor", "classId": "Device", "description": "a sensor",
	"deviceInfo": {"manufacturer": "Acme", "model": "S1"}, "metadata": {"n": 12345678901234567890, "deep": [{"a": null}]},
	"createdDateTime": ` + moment + `, "updatedDateTime": ` + moment + `,
	"refs": {
		"physicalInterface": "/api/v0002/device/types/sensor/physicalinterface",
		"logicalInterfaces": "/api/v0002/device/types/sensor/logicalinterfaces",
		"mappings": "/api/v0002/device/types/sensor/mappings"
	}
}`

func TestTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.call("POST", "/device/types", `{
		"id": "sensor", "description": "a sensor", "unknown": {"ignored": true}, "classId": null,
		"deviceInfo": {"manufacturer": "Acme", "model": "S1", "serialNumber": null, "colour": "red"},
		"metadata": {"n": 12345678901234567890, "deep": [{"a": null}]}
	}`, http.StatusCreated)
	made.wantJSON(t, sensorType)
	if !strings.Contains(made.text, "12345678901234567890") {
		t.Errorf("a number lost its digits: %s", made.text)
	}
	w.call("GET", "/device/types/sensor", "", http.StatusOK).wantJSON(t, sensorType)
	w.call("GET", "/device/types", "", http.StatusOK).wantJSON(t, `{"results":[`+sensorType+`],"meta":{}}`)
	w.call("POST", "/device/types", `{"id":"sensor"}`, http.StatusConflict).wantError(t, http.StatusConflict, "CDNHT0409E")

	// What is null or absent keeps its value, deviceInfo field by field.
	changed := w.call("PUT", "/device/types/sensor",
		`{"description":null,"deviceInfo":{"model":"S2","manufacturer":null},"metadata":{"only":1},"id":"other","classId":"Gateway"}`, http.StatusOK).object(t)
	if fmt.Sprintf("%v %v %v %v %v", changed["description"], changed["deviceInfo"], changed["metadata"], changed["id"], changed["classId"]) !=
		"a sensor map[manufacturer:Acme model:S2] map[only:1] sensor Device" {
		t.Errorf("after PUT: %v", changed)
	}
	same := w.call("PUT", "/device/types/sensor", `{"deviceInfo":null,"metadata":null}`, http.StatusOK).object(t)
	if fmt.Sprint(same["deviceInfo"], same["metadata"]) != "map[manufacturer:Acme model:S2] map[only:1]" {
		t.Errorf("after PUT of nulls: %v", same)
	}

	w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d1"}`, http.StatusCreated)
	w.call("DELETE", "/device/types/sensor", "", http.StatusConflict).wantError(t, http.StatusConflict, "CDNHT0409E")
	w.call("DELETE", "/device/types/sensor/devices/d1", "", http.StatusNoContent)
	if gone := w.call("DELETE", "/device/types/sensor", "", http.StatusNoContent); gone.text != "" {
		t.Errorf("204 with a body: %q", gone.text)
	}
	w.call("GET", "/device/types/sensor", "", http.StatusNotFound)
}

func TestDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("POST", "/device/types", `{"id":"sensor","deviceInfo":{"manufacturer":"Acme","model":"S1"},"metadata":{"a":1}}`, http.StatusCreated)
	made := w.call("POST", "/device/types/sensor/devices",
		`{"deviceId":"d1","deviceInfo":{"model":"S2"},"metadata":{"b":2},"location":{"longitude":1.5,"latitude":-2}}`, http.StatusCreated)
	token, _ := made.object(t)["authToken"].(string)
	if len(token) != 24 {
		t.Errorf("authToken = %q, want 24 characters", token)
	}
	device := `{
		"clientId": "d:acme01:sensor:d1", "typeId": "sensor", "deviceId": "d1", "classId": "Device",
		"deviceInfo": {"manufacturer": "Acme", "model": "S2"}, "metadata": {"a": 1, "b": 2},
		"registration": {"auth": {"id": "` + w.acme.APIKey.Key + `", "type": "app"}, "date": ` + moment + `},
		"status": {"alert": {"enabled": false, "timestamp": ` + moment + `}},
		"refs": {
			"diag": {
				"errorCodes": "/api/v0002/device/types/sensor/devices/d1/diag/errorCodes",
				"logs": "/api/v0002/device/types/sensor/devices/d1/diag/logs"
			},
			"location": "/api/v0002/device/types/sensor/devices/d1/location",
			"mgmt": "/api/v0002/device/types/sensor/devices/d1/mgmt"
		}`
	made.wantJSON(t, device+`,"authToken":"`+token+`"}`)
	device += "}"
	w.call("GET", "/device/types/sensor/devices/d1", "", http.StatusOK).wantJSON(t, device)
	for _, path := range []string{"/device/types/sensor/devices", "/device/types/sensor/devices/"} {
		w.call("GET", path, "", http.StatusOK).wantJSON(t, `{"results":[`+device+`],"meta":{}}`)
	}
	w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d1"}`, http.StatusConflict)
	w.call("POST", "/device/types/absent/devices", `{"deviceId":"d1"}`, http.StatusNotFound)
	w.call("GET", "/device/types/absent/devices", "", http.StatusNotFound)

	changed := w.call("PUT", "/device/types/sensor/devices/d1",
		`{"deviceInfo":{"fwVersion":"9","model":null},"status":{"alert":{"enabled":true}},"extensions":{},"authToken":"not-a-way-to-set-it"}`, http.StatusOK)
	o := changed.object(t)
	if fmt.Sprint(o["deviceInfo"], o["metadata"], o["status"]) !=
		"map[fwVersion:9 manufacturer:Acme model:S2] map[a:1 b:2] map[alert:map[enabled:true timestamp:2026-01-31T12:00:00.000Z]]" {
		t.Errorf("after PUT: %v", o)
	}
	stamped := w.call("PUT", "/device/types/sensor/devices/d1", `{"status":{"alert":{"timestamp":"2025-01-01T01:00:00+01:00","enabled":null}}}`, http.StatusOK).object(t)
	if got := fmt.Sprint(stamped["status"]); got != "map[alert:map[enabled:true timestamp:2025-01-01T00:00:00.000Z]]" {
		t.Errorf("alert = %s", got)
	}
	w.call("DELETE", "/device/types/sensor/devices/d1", "", http.StatusNoContent)
	w.call("DELETE", "/device/types/sensor/devices/d1", "", http.StatusNotFound).wantError(t, http.StatusNotFound, "CDNHT0404E")
}

func TestGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	if got := w.call("GET", "/device/types/hub/devices/g1", "", http.StatusOK).object(t); got["clientId"] != "g:acme01:hub:g1" || got["classId"] != "Gateway" {
		t.Errorf("gateway = %v", got)
	}
	behind := w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d2","gatewayTypeId":"hub","gatewayId":"g1"}`, http.StatusCreated).object(t)
	if behind["gatewayTypeId"] != "hub" || behind["gatewayId"] != "g1" {
		t.Errorf("device behind a gateway = %v", behind)
	}
	w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d3","gatewayTypeId":"sensor","gatewayId":"d1"}`, http.StatusBadRequest)
	w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d3","gatewayTypeId":"hub"}`, http.StatusBadRequest)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	const device = "/device/types/sensor/devices/d1/token"
	first := w.call("POST", device, "", http.StatusOK).object(t)
	if token, _ := first["authToken"].(string); first["typeId"] != "sensor" || first["deviceId"] != "d1" || len(token) != 24 {
		t.Errorf("new token = %v", first)
	}
	second := w.call("POST", device, `{"authToken":"chosen-by-me-1","graceSeconds":60}`, http.StatusOK).object(t)
	if second["authToken"] != "chosen-by-me-1" {
		t.Errorf("chosen token = %v", second)
	}
	for _, bad := range []string{`{"graceSeconds":-1}`, `{"graceSeconds":86401}`, `{"graceSeconds":1.5}`, `{"authToken":""}`, `{"authToken":"short"}`, `{"authToken":"with a space"}`} {
		w.call("POST", device, bad, http.StatusBadRequest)
	}
	w.call("POST", "/device/types/sensor/devices/absent/token", "", http.StatusNotFound)

	key := w.acme.APIKey.Key
	path := "/authorization/apikeys/" + key + "/token"
	fresh := w.call("POST", path, `{"graceSeconds":60,"authToken":"ignored-here"}`, http.StatusOK).object(t)
	if token, _ := fresh["token"].(string); fresh["key"] != key || len(token) != 24 {
		t.Errorf("new token of the key = %v", fresh)
	}
	w.call("GET", "/", "", http.StatusOK) // the grace runs
	w.clock.set(w.clock.now().Add(61e9))
	w.call("GET", "/", "", http.StatusUnauthorized)
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := w.call("POST", "/authorization/apikeys", `{}`, http.StatusOK).object(t)
	key, _ := plain["key"].(string)
	token, _ := plain["token"].(string)
	if !strings.HasPrefix(key, "a-acme01-") || len(token) != 24 || fmt.Sprint(plain["roles"]) != "[PD_STANDARD_APP]" {
		t.Errorf("new key = %v", plain)
	}
	full := w.call("POST", "/authorization/apikeys",
		`{"comment":"for tests","roles":["PD_OPERATOR_APP","PD_STANDARD_APP"],"expires":"2026-02-01T00:00:00Z","org":"other1"}`, http.StatusOK).object(t)
	key, _ = full["key"].(string)
	w.call("GET", "/authorization/apikeys/"+key, "", http.StatusOK).wantJSON(t, `{
		"key": "`+key+`", "comment": "for tests", "roles": ["PD_OPERATOR_APP","PD_STANDARD_APP"], "status": 1,
		"createdDateTime": `+moment+`, "updatedDateTime": `+moment+`, "expires": "2026-02-01T00:00:00.000Z"
	}`)
	if got := len(w.call("GET", "/authorization/apikeys", "", http.StatusOK).object(t)["results"].([]any)); got != 3 {
		t.Errorf("%d keys, want 3", got)
	}
	for _, bad := range []string{`{"expires":"tomorrow"}`, `{"expires":"2020-01-01T00:00:00Z"}`, `{"roles":"PD_ADMIN_APP"}`, `{"roles":["not a role"]}`} {
		w.call("POST", "/authorization/apikeys", bad, http.StatusBadRequest)
	}
	w.call("DELETE", "/authorization/apikeys/"+key, "", http.StatusOK).wantJSON(t, `{}`)
	w.call("GET", "/authorization/apikeys/"+key, "", http.StatusNotFound)
	w.call("DELETE", "/authorization/apikeys/"+key, "", http.StatusNotFound)

	// A key that removes itself is gone.
	w.call("DELETE", "/authorization/apikeys/"+w.acme.APIKey.Key, "", http.StatusOK)
	w.call("GET", "/", "", http.StatusUnauthorized)
}

func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	show := func(class, typ, id, kind string, status int) string {
		return fmt.Sprintf(`{"clientId":"%s:acme01:%s:%s","typeId":"%s","deviceId":"%s","classId":"%s","status":%d,"updatedDateTime":%s}`,
			class, typ, id, typ, id, kind, status, moment)
	}
	device := "/authorization/devices/" + url.PathEscape("d:acme01:sensor:d1")
	w.call("GET", device, "", http.StatusOK).wantJSON(t, show("d", "sensor", "d1", "Device", 1))
	w.call("GET", "/authorization/devices/d%3Aacme01%3Asensor%3Ad1", "", http.StatusOK)
	w.call("PUT", device, `{"status":0}`, http.StatusOK).wantJSON(t, show("d", "sensor", "d1", "Device", 0))
	if d, err := w.registry.Device(t.Context(), w.acme.Organisation.ID, "sensor", "d1"); err != nil || !d.Disabled {
		t.Errorf("the registry has %v, %v", d.Disabled, err)
	}
	w.call("PUT", device, `{"status":null}`, http.StatusOK).wantJSON(t, show("d", "sensor", "d1", "Device", 0))
	w.call("PUT", device, `{"status":1}`, http.StatusOK).wantJSON(t, show("d", "sensor", "d1", "Device", 1))
	for _, bad := range []string{`{"status":2}`, `{"status":"0"}`, `{"status":true}`} {
		w.call("PUT", device, bad, http.StatusBadRequest)
	}

	// A gateway answers to both forms, a device to one.
	for _, class := range []string{"g", "d"} {
		w.call("GET", "/authorization/devices/"+class+":acme01:hub:g1", "", http.StatusOK).wantJSON(t, show("g", "hub", "g1", "Gateway", 1))
	}
	for _, unknown := range []string{
		"g:acme01:sensor:d1", "d:acme01:sensor:absent", "d:other1:sensor:theirs", "a:acme01:app", "d:acme01:sensor", "d:acme01:sensor:d1:x",
		"d:acme01:sensor:d%2F1", "D:acme01:sensor:d1", "%00", "d::sensor:d1",
	} {
		w.call("GET", "/authorization/devices/"+unknown, "", http.StatusNotFound)
		w.call("PUT", "/authorization/devices/"+unknown, `{"status":0}`, http.StatusNotFound)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("POST", "/device/types", `{"id":"sensor"}`, http.StatusCreated)
	for i := range 30 {
		w.call("POST", "/device/types/sensor/devices", fmt.Sprintf(`{"deviceId":"d%02d"}`, i), http.StatusCreated)
	}
	const all = "/device/types/sensor/devices/?_sort=-deviceId"
	for _, limit := range []struct {
		query string
		pages []int
	}{
		{"", []int{25, 5}},
		{"&_limit=12", []int{12, 12, 6}},
		{"&_limit=30", []int{30}},
		{"&_limit=100", []int{30}},
	} {
		var pages []int
		seen := map[any]bool{}
		bookmark, more := "", true
		for more {
			page := w.call("GET", all+limit.query+"&_bookmark="+url.QueryEscape(bookmark), "", http.StatusOK).object(t)
			results := page["results"].([]any)
			for _, r := range results {
				seen[r.(map[string]any)["deviceId"]] = true
			}
			pages = append(pages, len(results))
			bookmark, more = page["bookmark"].(string)
		}
		if fmt.Sprint(pages) != fmt.Sprint(limit.pages) || len(seen) != 30 {
			t.Errorf("%q: pages %v of %d devices, want %v of 30", limit.query, pages, len(seen), limit.pages)
		}
	}
	for _, bad := range []string{"unknown=1", "_limit=0", "_limit=101", "_limit=-1", "_limit=x", "_bookmark=%21", "_bookmark=AAAA"} {
		got := w.call("GET", "/device/types/sensor/devices?"+bad, "", http.StatusBadRequest)
		name, _, _ := strings.Cut(bad, "=")
		if !strings.Contains(got.text, `"properties":["`+name+`"]`) {
			t.Errorf("%s: %s does not name it", bad, got.text)
		}
	}
	w.call("GET", "/device/types?_limit=1", "", http.StatusOK).object(t)
}

// Whoever registered a device is named by what is public of them.
func TestRegisteredBy(t *testing.T) {
	t.Parallel()
	org := mustOrg(t, "acme01")
	for _, test := range []struct {
		principal policy.Principal
		want      string
	}{
		{policy.Principal{Org: org, Kind: policy.KindApplication, APIKey: "a-acme01-0123456789"}, "{a-acme01-0123456789 app}"},
		{policy.Principal{Org: org, Kind: policy.KindUser, ID: "a-user"}, "{a-user@acme01 person}"},
		{policy.Principal{Org: org, Kind: policy.KindGateway, Type: "hub", ID: "g1"}, "{g:acme01:hub:g1 gateway}"},
	} {
		if got := fmt.Sprint(*registeredBy(publicName(&test.principal))); got != test.want {
			t.Errorf("registered by %s, want %s", got, test.want)
		}
	}
	if registeredBy("") != nil {
		t.Error("nobody has a name")
	}
}

func mustOrg(t *testing.T, s string) policy.OrgID {
	t.Helper()
	org, err := policy.ParseOrgID(s)
	if err != nil {
		t.Fatal(err)
	}
	return org
}
