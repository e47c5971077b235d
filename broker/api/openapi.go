package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// parameters are the names in a pattern, such as "typeId" of "/device/types/{typeId}".
func parameters(path string) (names []string) {
	for level := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(level, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// frame is what an OpenAPI document says of its surface as a whole.
type frame struct {
	title, description string
	security           map[string]*huma.SecurityScheme // any of them opens the door
}

func frameOf(prefix string) frame {
	if prefix == operatorPrefix {
		return frame{
			"Cordon operator", "Organisations, and the policy of the platform. Whoever reaches the control socket needs no token.",
			map[string]*huma.SecurityScheme{"operator": {Type: "http", Scheme: "bearer", Description: "The operator's token, which lies in the data folder."}},
		}
	}
	return frame{
		"Cordon", "Device types, devices, API keys, users and access of one organisation: that of the credential.",
		map[string]*huma.SecurityScheme{
			"basic":  {Type: "http", Scheme: "basic", Description: "API key and token, or NAME@ORG and password."},
			"bearer": {Type: "http", Scheme: "bearer", Description: "A token that a plugin verifies; " + pluginHeader + " names the plugin."},
		},
	}
}

// documentConfig is the frame of an OpenAPI 3.1 document, without any of the
// routes huma would add.
func documentConfig(version, prefix string) huma.Config {
	f := frameOf(prefix)
	var security []map[string][]string
	for _, scheme := range slices.Sorted(maps.Keys(f.security)) {
		security = append(security, map[string][]string{scheme: {}})
	}
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	cfg := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       f.title,
				Version:     version,
				Description: f.description,
			},
			Components: &huma.Components{
				Schemas:         schemas,
				SecuritySchemes: f.security,
			},
			Security: security,
		},
		Formats: huma.DefaultFormats,
	}
	cfg.AllowAdditionalPropertiesByDefault = true
	return cfg
}

// mountDocument renders the OpenAPI document of s, once, and serves it to whoever g
// lets in. It holds nothing of any organisation, so that of an organisation's
// administrators has no gate: nil.
func (a *API) mountDocument(s *surface, mux *http.ServeMux, g gate) ([]byte, error) {
	document, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("render the OpenAPI document: %w", err)
	}
	op := &operation{method: http.MethodGet, path: "/openapi.json", id: "read_document"}
	mux.HandleFunc("GET "+s.prefix+op.path, func(w http.ResponseWriter, r *http.Request) {
		if g != nil {
			c, err := g.admit(w, r, op)
			if err != nil {
				g.done(r, op, nil, a.fail(w, r, err))
				return
			}
			defer g.done(r, op, c, http.StatusOK)
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document) // the client may be gone
	})
	return document, nil
}

// describe is op in the words of OpenAPI.
func describe[In, Out any](schemas huma.Registry, op *operation) *huma.Operation {
	d := &huma.Operation{
		OperationID: op.id,
		Method:      op.method,
		Path:        op.path,
		Summary:     op.summary,
		Responses:   map[string]*huma.Response{},
	}
	for _, name := range parameters(op.path) {
		d.Parameters = append(d.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	for _, p := range op.queries {
		d.Parameters = append(d.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	if op.list {
		one, most := 1.0, float64(maxLimit)
		d.Parameters = append(d.Parameters,
			&huma.Param{
				Name: "_limit", In: "query", Description: "Largest number of results.",
				Schema: &huma.Schema{Type: huma.TypeInteger, Default: defaultLimit, Minimum: &one, Maximum: &most},
			},
			&huma.Param{
				Name: "_bookmark", In: "query", Description: "Where the page before ended.",
				Schema: &huma.Schema{Type: huma.TypeString},
			})
	}
	if op.body {
		d.RequestBody = &huma.RequestBody{
			Required: !op.optional,
			Content:  map[string]*huma.MediaType{"application/json": {Schema: schemaOf[In](schemas, op.id+"Request")}},
		}
	}
	if op.archive {
		d.RequestBody.Content[archiveMedia] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "A bundle as OPA builds it, not signed."}}
	}
	success := &huma.Response{Description: http.StatusText(op.status)}
	if op.status != http.StatusNoContent {
		success.Content = map[string]*huma.MediaType{"application/json": {Schema: schemaOf[Out](schemas, op.id+"Response")}}
	}
	d.Responses[strconv.Itoa(op.status)] = success
	if op.partly != 0 {
		d.Responses[strconv.Itoa(op.partly)] = &huma.Response{Description: "Some entries failed", Content: success.Content}
	}

	failure := map[string]*huma.MediaType{"application/json": {Schema: schemaOf[ErrorBody](schemas, "ErrorBody")}}
	for _, status := range failuresOf(op) {
		d.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: failure}
	}
	d.Responses["default"] = &huma.Response{Description: "Any other failure", Content: failure}
	return d
}

func schemaOf[T any](schemas huma.Registry, hint string) *huma.Schema {
	return schemas.Schema(reflect.TypeFor[T](), true, hint)
}

// failuresOf lists the statuses that say something about the request.
func failuresOf(op *operation) []int {
	f := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}
	if op.body || op.list {
		f = append(f, http.StatusBadRequest)
	}
	if op.body {
		f = append(f, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if len(parameters(op.path)) > 0 {
		f = append(f, http.StatusNotFound)
	}
	if op.conflict {
		f = append(f, http.StatusConflict)
	}
	return f
}
