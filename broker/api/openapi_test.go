package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// document is as much of an OpenAPI document as the tests look at.
type document struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Servers []struct{ URL string }
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
		Parameters  []struct{ Name, In, Description string }
		RequestBody *struct {
			Required bool
			Content  map[string]struct {
				Schema struct {
					Ref   string `json:"$ref"`
					Items struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
		Responses map[string]struct {
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				}
			}
		}
	}
	Components struct{ Schemas map[string]json.RawMessage }
}

func readDocument(t *testing.T, w *world) (document, reply) {
	t.Helper()
	got := w.do(httptest.NewRequest("GET", "/api/v0002/openapi.json", nil)) // no credential
	var d document
	if err := json.Unmarshal([]byte(got.text), &d); err != nil || got.status != http.StatusOK {
		t.Fatalf("%d %s: %v", got.status, got.text, err)
	}
	return d, got
}

// The document and the routes agree, and every route says how it fails.
func TestDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, raw := readDocument(t, w)
	if !strings.HasPrefix(d.OpenAPI, "3.1") || d.Info.Version != "1.2.3" || len(d.Servers) != 1 || d.Servers[0].URL != "/api/v0002" {
		t.Errorf("document = %s %+v %+v", d.OpenAPI, d.Info, d.Servers)
	}
	if got := raw.header.Get("Content-Type"); got != "application/openapi+json" {
		t.Errorf("Content-Type = %q", got)
	}
	d.check(t, routes)
}

// check holds the document against the routes that there are, and every route
// against what a client has to know.
func (d *document) check(t *testing.T, routes []string) {
	t.Helper()
	const errorBody = "#/components/schemas/ErrorBody"
	var described []string
	for path, methods := range d.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + " " + path
			described = append(described, name)
			var named []string
			for _, p := range op.Parameters {
				if p.In == "path" {
					named = append(named, p.Name)
				}
			}
			if !slices.Equal(named, parameters(path)) || op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s: %q (%s) has parameters %v", name, op.OperationID, op.Summary, named)
			}
			for _, p := range op.Parameters {
				if p.In == "query" && p.Description == "" {
					t.Errorf("%s: the parameter %s is not described", name, p.Name)
				}
			}
			for _, status := range []string{"401", "403", "default"} {
				if got := op.Responses[status].Content["application/json"].Schema.Ref; got != errorBody {
					t.Errorf("%s: %s is described by %q", name, status, got)
				}
			}
			for status, response := range op.Responses {
				if failed := status >= "400"; failed != (response.Content["application/json"].Schema.Ref == errorBody) {
					t.Errorf("%s: %s is described by %+v", name, status, response.Content)
				}
			}
			if op.RequestBody == nil {
				continue
			}
			if body := op.RequestBody.Content["application/json"].Schema; body.Ref == "" && body.Items.Ref == "" {
				t.Errorf("%s: the body is not described", name)
			}
		}
	}
	want := slices.Clone(routes)
	slices.Sort(want)
	slices.Sort(described)
	if !slices.Equal(described, want) {
		t.Errorf("described = %q\nwant %q", described, want)
	}
}

// What a route answers when it succeeds is a status that the document has.
func TestDocumentedStatuses(t *testing.T) {
	t.Parallel()
	d, _ := readDocument(t, newWorld(t))
	for path, method := range map[string]string{
		"/device/types": "post 201", "/device/types/{typeId}": "delete 204", "/authorization/apikeys": "post 200",
		"/authorization/apikeys/{key}": "delete 200", "/device/types/{typeId}/devices": "post 201", "/authorization/devices/{clientId}": "put 200",
		"/bulk/devices/add": "post 202", "/bulk/devices/remove": "post 201",
	} {
		m, status, _ := strings.Cut(method, " ")
		if _, ok := d.Paths[path][m].Responses[status]; !ok {
			t.Errorf("%s %s does not say %s", m, path, status)
		}
	}
}

// The document tells that null is accepted where it is.
func TestDocumentedNulls(t *testing.T) {
	t.Parallel()
	d, _ := readDocument(t, newWorld(t))
	for schema, want := range map[string]string{
		"DeviceInfoPatch": `"type":["object","null"]`,
		"DevicePatch":     `"metadata":{"additionalProperties":{},"type":["object","null"]}`,
		"AccessPatch":     `"type":["integer","null"]`,
		"NewDevice":       `"required":["deviceId"]`,
		"TypeObject":      `"format":"date-time"`,
	} {
		if got := string(d.Components.Schemas[schema]); !strings.Contains(got, want) {
			t.Errorf("%s = %s, want %s in it", schema, got, want)
		}
	}
}

// operatorRoutesThereAre are all of /api/operator/v1.
var operatorRoutesThereAre = []string{
	"GET /status",
	"GET /organisations",
	"POST /organisations",
	"GET /organisations/{org}",
	"DELETE /organisations/{org}",
	"POST /organisations/{org}/suspend",
	"POST /organisations/{org}/resume",
	"PUT /organisations/{org}/quotas",
	"GET /organisations/{org}/export",
	"GET /organisations/{org}/servernames",
	"PUT /organisations/{org}/servernames",
	"POST /organisations/import",
	"GET /policy",
	"GET /policy/revisions",
	"GET /policy/revisions/{revision}/diff",
	"GET /policy/log",
	"GET /policy/log/verify",
	"POST /policy/activate",
	"POST /policy/rollback",
	"GET /policy/decisions",
	"GET /policy/decisions/stream",
	"GET /policy/decisions/{decision}",
	"GET /policy/decisions/{decision}/explain",
	"POST /policy/explain",
	"POST /policy/impact",
	"POST /policy/replay",
	"GET /policy/shadow",
	"PUT /policy/shadow",
	"DELETE /policy/shadow",
	"GET /policy/shadow/events",
	"GET /policy/canary",
	"PUT /policy/canary",
	"DELETE /policy/canary",
	"POST /policy/canary/promote",
}

// The operator's routes have a document of their own, for the operator alone.
func TestOperatorDocument(t *testing.T) {
	t.Parallel()
	j, p := &judged{}, newPolicies(t)
	w := newWorld(t, func(_ *Config, d *Deps) { d.Decisions, d.Reviews, d.Revisions, d.Gate = j, j, p.book, p.gate })
	const path = operatorPrefix + "/openapi.json"
	got := w.operator("GET", "/openapi.json", "", http.StatusOK)
	var d document
	if err := json.Unmarshal([]byte(got.text), &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || d.Info.Title != "Cordon operator" || d.Info.Version != "1.2.3" || len(d.Servers) != 1 || d.Servers[0].URL != operatorPrefix ||
		got.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("document = %s %+v %+v", d.OpenAPI, d.Info, d.Servers)
	}
	d.check(t, operatorRoutesThereAre)

	for token, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer " + operatorToken: 200} {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		if remote := w.do(r); remote.status != want || want == 200 && remote.text != got.text {
			t.Errorf("with %q: %d %.80s, want %d", token, remote.status, remote.text, want)
		}
	}
	w.do(w.request("GET", path, "")).wantError(t, http.StatusUnauthorized, "CDNHT0401E") // an API key is no operator's token
	if org, _ := readDocument(t, w); org.Info.Title != "Cordon" || len(org.Paths["/organisations"]) != 0 {
		t.Errorf("the organisations' document is %+v", org.Info)
	}
}

// Every parameter that a list can be restricted by is in the document. That handlers
// read no other is seen by every test that calls them: see undescribed.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	j := &judged{}
	w := newWorld(t, func(_ *Config, d *Deps) { d.Decisions, d.Reviews = j, j })
	d, _ := readDocument(t, w)
	for path, want := range map[string]string{
		"/policy/decisions":              "org action client allow since until _limit _bookmark",
		"/policy/decisions/stream":       "org action client allow since until",
		"/clientconnectionstates":        "_sort connectionStatus connectedAfter deviceType deviceId _limit _bookmark",
		"/logs/connection":               "typeId deviceId",
		"/usage/data-traffic":            "start end detail",
		"/device/types":                  "_sort classId description id _limit _bookmark",
		"/authorization/users":           "_limit _bookmark",
		"/bulk/devices":                  "_sort classId deviceId deviceInfo.description deviceInfo.descriptiveLocation deviceInfo.deviceClass deviceInfo.fwVersion deviceInfo.hwVersion deviceInfo.manufacturer deviceInfo.model deviceInfo.serialNumber gatewayId gatewayTypeId status.alert.enabled typeId metadata.{name} _limit _bookmark",
		"/device/types/{typeId}/devices": "_sort classId deviceId deviceInfo.description deviceInfo.descriptiveLocation deviceInfo.deviceClass deviceInfo.fwVersion deviceInfo.hwVersion deviceInfo.manufacturer deviceInfo.model deviceInfo.serialNumber gatewayId gatewayTypeId status.alert.enabled typeId metadata.{name} _limit _bookmark",
	} {
		var got []string
		for _, p := range d.Paths[path]["get"].Parameters {
			if p.In == "query" {
				got = append(got, p.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has %v, want %s", path, got, want)
		}
	}
}
