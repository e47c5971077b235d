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
		Parameters  []struct{ Name, In string }
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
			if !slices.Equal(named, parameters(path)) || op.OperationID == "" {
				t.Errorf("%s: %q has parameters %v", name, op.OperationID, named)
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
