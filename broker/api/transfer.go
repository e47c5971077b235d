package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

const (
	// transferType is the media type of an export: JSON, one object on each line.
	transferType = "application/x-ndjson"
	// transferPatience is how long the other side may neither send nor take anything.
	transferPatience = time.Minute
)

// Transfers is what moves whole organisations.
type Transfers interface {
	Export(ctx context.Context, org policy.OrgID, out io.Writer, o registry.ExportOptions) (registry.Moved, error)
	Import(ctx context.Context, in io.Reader, o registry.ImportOptions) (registry.Moved, error)
}

// Imported says what an import was made of.
type Imported struct {
	Org     string         `json:"org"`
	Records map[string]int `json:"records" doc:"How many there were of each kind; in a merge, how many were added."`
	Skipped int            `json:"skipped" doc:"Records of a merge that were there already, and stayed as they are."`
	// Of an import without credentials, once.
	APIKey   string `json:"apiKey,omitempty"`
	APIToken string `json:"apiToken,omitempty"`
}

// ShowImported is what is told of an import.
func ShowImported(m registry.Moved) Imported {
	return Imported{Org: m.Org.String(), Records: m.Records, Skipped: m.Skipped, APIKey: m.APIKey, APIToken: m.APIToken}
}

func (a *API) transferRoutes(s *surface) {
	transfer(s, operation{
		method: "GET", path: "/organisations/{org}/export", id: "export_organisation", status: http.StatusOK,
		summary: "A whole organisation", queries: []parameter{{"credentials", "false leaves the hashes of its secrets out."}},
	}, a.exportOrganisation)
	transfer(s, operation{
		method: "POST", path: "/organisations/import", id: "import_organisation", status: http.StatusCreated, conflict: true,
		summary: "An organisation from an export", queries: []parameter{{"merge", "true adds to one that exists."}},
	}, a.importOrganisation)
}

// exchange is the connection of one call whose body or answer is of any size.
type exchange struct {
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool // something of the answer was written
}

// Read reads the body. Each call gets transferPatience.
func (x *exchange) Read(b []byte) (int, error) {
	_ = x.control.SetReadDeadline(time.Now().Add(transferPatience)) // a server that has no deadlines has its own way
	n, err := x.r.Body.Read(b)
	if err != nil {
		_ = x.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Write writes some of the answer. Each call gets transferPatience.
func (x *exchange) Write(b []byte) (int, error) {
	_ = x.control.SetWriteDeadline(time.Now().Add(transferPatience)) // likewise
	if !x.begun {
		x.begun = true
		x.w.Header().Set("Content-Type", transferType)
		x.w.WriteHeader(http.StatusOK)
	}
	return x.w.Write(b)
}

// transfer registers op on s, whose body and answer are no JSON and of any size. It
// goes through the same gate as all others. An error after the answer has begun cuts
// the connection, so that nobody takes what came for the whole.
func transfer(s *surface, op operation, h func(context.Context, *call, *exchange) (any, error)) {
	s.operations = append(s.operations, op)
	described := describe[none, none](s.huma.OpenAPI().Components.Schemas, &op)
	described.Responses[strconv.Itoa(op.status)] = &huma.Response{Description: http.StatusText(op.status)}
	s.huma.OpenAPI().AddOperation(described)
	s.huma.Adapter().Handle(described, func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		c, err := s.gate.admit(w, r, &op)
		if err != nil {
			s.gate.done(r, &op, nil, s.api.fail(w, r, err))
			return
		}
		x := &exchange{r: r, w: w, control: http.NewResponseController(w)}
		// The server also watches for a caller that goes away, and would take its own
		// deadline for one.
		_ = x.control.SetReadDeadline(time.Time{})
		answer, err := h(r.Context(), c, x)
		if !x.begun {
			_ = x.control.SetWriteDeadline(time.Now().Add(transferPatience))
		}
		switch {
		case err != nil && x.begun:
			s.gate.done(r, &op, c, faultOf(err).status)
			panic(http.ErrAbortHandler) // the server's own way to drop a connection
		case err != nil:
			w.Header().Set("Connection", "close") // the rest of the body is not read
			s.gate.done(r, &op, c, s.api.fail(w, r, err))
		case x.begun:
			s.gate.done(r, &op, c, op.status)
		default:
			s.api.write(w, r, op.status, answer)
			s.gate.done(r, &op, c, op.status)
		}
	})
}

func (a *API) exportOrganisation(ctx context.Context, c *call, x *exchange) (any, error) {
	credentials, err := c.flag("credentials", true)
	if err != nil {
		return nil, err
	}
	_, err = a.registry.Export(ctx, c.org, x, registry.ExportOptions{WithoutCredentials: !credentials})
	return nil, err
}

func (a *API) importOrganisation(ctx context.Context, c *call, x *exchange) (any, error) {
	merge, err := c.flag("merge", false)
	if err != nil {
		return nil, err
	}
	if x.r.Header.Get("Content-Type") != transferType {
		return nil, &fault{status: http.StatusUnsupportedMediaType, message: "the body must be " + transferType + ", as it was exported"}
	}
	moved, err := a.registry.Import(ctx, x, registry.ImportOptions{Merge: merge})
	if err != nil {
		return nil, brokenOff(err)
	}
	c.org = moved.Org
	return ShowImported(moved), nil
}

// brokenOff tells a body that did not arrive from a fault of ours.
func brokenOff(err error) error {
	if _, ok := errors.AsType[*policy.Error](err); ok && policy.KindOf(err) != policy.KindInternal {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled) {
		return invalid("body", "ended before it was complete")
	}
	return err
}

// flag is a query parameter that is true or false.
func (c *call) flag(name string, absent bool) (bool, error) {
	text := c.query.Get(name)
	if text == "" {
		return absent, nil
	}
	set, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalid(name, "must be true or false")
	}
	return set, nil
}
