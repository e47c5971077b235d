package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordon-mq/cordon/policy"
)

// operation is one route of a surface.
type operation struct {
	method  string
	path    string // the pattern below the surface's prefix, such as "/device/types/{typeId}"
	id      string // its name in the OpenAPI document and the operator's log
	summary string
	status  int // of success

	body     bool        // a body is read
	optional bool        // and may be absent
	list     bool        // takes _limit and _bookmark
	queries  []parameter // other parameters of the query
	conflict bool        // may answer 409
	most     int64       // bytes of the body; 0: as many as of any other
	archive  bool        // the body may be a .tar.gz instead of JSON

	// roles finds the roles that the call would hand out or take over; the policy
	// sees them as target.roles. Nil where it can do neither.
	roles func(context.Context, *target) ([]string, error)
	// permissions finds what a role of the organisation permits, or is to permit; the
	// policy sees it as target.permissions, with what the roles of target.roles do.
	permissions func(context.Context, *target) ([]string, error)
	// types finds the device types that a bulk call is about. The policy is asked
	// about each, as target.typeId. Nil for any other call.
	types func(*target) ([]policy.ID, error)
	// partly is the status of a success that is not one of everything; see partial.
	partly int
}

// partial is an answer that may tell of a success in part.
type partial interface{ whole() bool }

// bodyMost is how many bytes the body may have.
func (op *operation) bodyMost(a *API) int64 {
	if op.most > 0 {
		return op.most
	}
	return a.maxBody
}

// target is what a call is about, before the policy is asked about it.
type target struct {
	org    policy.OrgID
	params func(name string) string
	body   []byte
}

// call is one admitted request: all that a handler may know of it.
type call struct {
	org    policy.OrgID // of the credential; for the operator the one worked on
	caller string       // public name of who calls, such as an API key's
	params func(name string) string
	query  query
	body   []byte
	packed bool                // the body is a .tar.gz
	denied map[policy.ID]error // device types that a bulk call may not touch, and why
	// groups are those whose devices the call is about; nil: it is about all devices.
	groups []string
	// still says whether the call would be admitted now: one may last for long. Nil
	// where that does not change.
	still func(context.Context) error
}

// gate admits requests to a surface, and reads their bodies.
type gate interface {
	admit(w http.ResponseWriter, r *http.Request, op *operation) (*call, error)
	// done is told how a request ended; c is nil where it was not admitted.
	done(r *http.Request, op *operation, c *call, status int)
}

// surface is a set of routes under one prefix behind one gate.
type surface struct {
	api        *API
	huma       huma.API
	prefix     string
	gate       gate
	operations []operation
}

func newSurface(a *API, mux *http.ServeMux, prefix string, g gate) *surface {
	return &surface{api: a, huma: humago.NewWithPrefix(mux, prefix, documentConfig(a.version, prefix)), prefix: prefix, gate: g}
}

// none is the body of a request that has none, or of an empty answer.
type none struct{}

// handle registers op on s. The gate runs before anything else, and h only with
// the call that it made.
func handle[In, Out any](s *surface, op operation, h func(context.Context, *call, *In) (Out, error)) {
	s.operations = append(s.operations, op)
	described := describe[In, Out](s.huma.OpenAPI().Components.Schemas, &op)
	s.huma.OpenAPI().AddOperation(described)

	routed := *described
	routed.Path = strings.TrimSuffix(op.path, "/") // the prefix itself has no slash after it
	s.huma.Adapter().Handle(&routed, func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		c, err := s.gate.admit(w, r, &op)
		if err != nil {
			s.gate.done(r, &op, nil, s.api.fail(w, r, err))
			return
		}
		out, err := perform(r.Context(), &op, c, h)
		if err != nil {
			s.gate.done(r, &op, c, s.api.fail(w, r, err))
			return
		}
		status := op.status
		if p, ok := any(out).(partial); ok && !p.whole() {
			status = op.partly
		}
		s.api.write(w, r, status, out)
		s.gate.done(r, &op, c, status)
	})
}

// perform decodes the body of an admitted call and hands it to h.
func perform[In, Out any](ctx context.Context, op *operation, c *call, h func(context.Context, *call, *In) (Out, error)) (out Out, err error) {
	var in In
	switch {
	case !op.body, c.packed:
	case len(c.body) > 0:
		if err := decode(c.body, &in); err != nil {
			return out, err
		}
	case !op.optional:
		return out, invalid("body", "is required")
	}
	return h(ctx, c, &in)
}

// write answers with v as JSON, or with no body for status 204.
func (a *API) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		a.log.LogAttrs(r.Context(), slog.LevelError, "answer cannot be encoded", slog.String("route", r.Pattern), slog.String("error", err.Error()))
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"message":"internal server error","exception":{"id":"` + exceptionID(status) + `","properties":[]}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone; nothing is left to tell it
}

// front stands before a mux: it gives the mux's own failures the error body, and
// keeps a fault in one request from the others.
type front struct {
	api *API
	mux *http.ServeMux
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v) // the server's own way to drop a connection
		default:
			f.api.log.LogAttrs(r.Context(), slog.LevelError, "request panicked",
				slog.String("method", r.Method), slog.String("route", r.Pattern), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			f.api.fail(w, r, &fault{status: http.StatusInternalServerError, message: "internal server error"})
		}
	}()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")

	r = withoutTrailingSlash(r)
	if p := r.URL.EscapedPath(); path.Clean(p) != p {
		f.api.fail(w, r, notFound("path")) // the mux would redirect, and nobody needs that
		return
	}
	handler, pattern := f.mux.Handler(r)
	if pattern != "" {
		f.mux.ServeHTTP(w, r)
		return
	}
	refusal := &discard{header: http.Header{}}
	handler.ServeHTTP(refusal, r)
	if allow := refusal.header.Values("Allow"); len(allow) > 0 {
		f.api.fail(w, r, &fault{
			status:  http.StatusMethodNotAllowed,
			message: "method not allowed; allowed: " + strings.Join(allow, ", "),
			header:  http.Header{"Allow": allow},
		})
		return
	}
	f.api.fail(w, r, notFound("path"))
}

// withoutTrailingSlash makes /devices/ mean /devices: some clients of the
// platform write lists that way.
func withoutTrailingSlash(r *http.Request) *http.Request {
	if p := r.URL.EscapedPath(); len(p) < 2 || !strings.HasSuffix(p, "/") {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	r2 := *r
	r2.URL = &u
	return &r2
}

// discard keeps the headers of an answer that is replaced by another.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
