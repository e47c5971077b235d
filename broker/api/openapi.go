package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
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

// documentConfig is the frame of an OpenAPI 3.1 document, without any of the
// routes huma would add.
func documentConfig(version string) huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	cfg := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Cordon",
				Version:     version,
				Description: "Device types, devices, API keys and access of one organisation: that of the credential.",
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"basic":  {Type: "http", Scheme: "basic", Description: "API key and token, or NAME@ORG and password."},
					"bearer": {Type: "http", Scheme: "bearer", Description: "A token that a plugin verifies; " + pluginHeader + " names the plugin."},
				},
			},
			Security: []map[string][]string{{"basic": {}}, {"bearer": {}}},
		},
		Formats: huma.DefaultFormats,
	}
	cfg.AllowAdditionalPropertiesByDefault = true
	return cfg
}

// mountDocument renders the OpenAPI document of s, once, and serves it. It holds
// nothing of any organisation, so it asks for no credential.
func (a *API) mountDocument(s *surface, mux *http.ServeMux) error {
	document, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("render the OpenAPI document: %w", err)
	}
	a.document = document
	mux.HandleFunc("GET "+s.prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(a.document)
	})
	return nil
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
	for _, name := range op.queries {
		d.Parameters = append(d.Parameters, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
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
