package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordon-mq/cordon/policy"
)

const (
	// streamsMost bounds the streams that are open at once, of all callers,
	// streamsOfOrgs those of all organisations, and streamsOfOne those of one.
	streamsMost, streamsOfOrgs, streamsOfOne = 64, 56, 8
	// streamCheck is how long a reader is taken for the one that was let in.
	streamCheck = time.Second
	// streamWrite is how long a reader may take for one event.
	streamWrite = 20 * time.Second
)

// streams counts those that are open.
type streams struct {
	guarded struct {
		sync.Mutex
		all, ofOrgs int
		of          map[policy.OrgID]int
	}
}

// open counts one for org, which is zero for the operator, unless there are too many.
// Call closed.
func (s *streams) open(org policy.OrgID) (closed func(), ok bool) {
	g := &s.guarded
	g.Lock()
	defer g.Unlock()
	if g.all == streamsMost || !org.IsZero() && (g.ofOrgs == streamsOfOrgs || g.of[org] == streamsOfOne) {
		return nil, false
	}
	if g.of == nil {
		g.of = map[policy.OrgID]int{}
	}
	count := func(n int) {
		g.all += n
		if org.IsZero() {
			return
		}
		g.ofOrgs += n
		if g.of[org] += n; g.of[org] == 0 {
			delete(g.of, org)
		}
	}
	count(1)
	return func() {
		g.Lock()
		defer g.Unlock()
		count(-1)
	}, true
}

// events is the answer of one call as server-sent events. It is used by the
// handler alone, which runs on the request's goroutine.
type events struct {
	api     *API
	ctx     context.Context // of the request
	call    *call
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	checked time.Time // when the reader was last known to be allowed to
}

// send writes one event with v as JSON. Its error is a reader that has gone, is too
// slow or may no longer read, and ends the call.
func (e *events) send(name string, v any) error {
	if err := e.check(); err != nil {
		return err
	}
	return e.put(name, v)
}

// check looks now and then whether the reader may still read: its credential may be
// gone, or its roles.
func (e *events) check() error {
	now := e.api.now()
	if e.call.still == nil || now.Sub(e.checked) < streamCheck {
		return nil
	}
	if err := e.call.still(e.ctx); err != nil {
		return err
	}
	e.checked = now
	return nil
}

func (e *events) put(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("event: " + name + "\ndata: ")
	b.Write(data) // JSON has no line breaks
	b.WriteString("\n\n")
	return e.write(b.Bytes())
}

// ping writes a comment that readers skip.
func (e *events) ping() error {
	if err := e.check(); err != nil {
		return err
	}
	return e.write([]byte(":\n\n"))
}

func (e *events) write(b []byte) error {
	// A server whose connections have no deadlines has its own way.
	_ = e.control.SetWriteDeadline(time.Now().Add(streamWrite))
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no")
		e.w.WriteHeader(http.StatusOK)
	}
	_, err := e.w.Write(b)
	if err == nil {
		err = e.control.Flush()
	}
	if err == nil || errors.Is(err, errors.ErrUnsupported) { // who reads there gets it all at the end
		return nil
	}
	return &fault{status: http.StatusRequestTimeout, message: "the reader has gone, or is too slow"}
}

// stream registers op on s, whose answer is a stream of events. What h returns
// before the first event is answered as any failure is; afterwards it is the last
// event, named "error". The context ends with the request.
func stream[In any](s *surface, op operation, h func(context.Context, *call, *In, *events) error) {
	s.operations = append(s.operations, op)
	described := describe[In, none](s.huma.OpenAPI().Components.Schemas, &op)
	described.Responses[strconv.Itoa(op.status)] = &huma.Response{
		Description: "Server-sent events, each with one JSON object",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	s.huma.OpenAPI().AddOperation(described)
	s.huma.Adapter().Handle(described, func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		c, err := s.gate.admit(w, r, &op)
		if err != nil {
			s.gate.done(r, &op, nil, s.api.fail(w, r, err))
			return
		}
		closed, ok := s.api.streams.open(c.org)
		if !ok {
			s.gate.done(r, &op, c, s.api.fail(w, r, &fault{
				status: http.StatusTooManyRequests, message: "too many streams are open", header: http.Header{"Retry-After": {"10"}},
			}))
			return
		}
		defer closed()
		e := &events{api: s.api, ctx: r.Context(), call: c, w: w, control: http.NewResponseController(w), checked: s.api.now()}
		var in In
		err = decodeOptional(&op, c, &in)
		if err == nil {
			err = h(r.Context(), c, &in, e)
		}
		if err == nil && !e.begun {
			_ = e.ping() // an answer without events; the reader may have gone
		}
		switch {
		case err == nil:
			s.gate.done(r, &op, c, http.StatusOK)
		case !e.begun:
			s.gate.done(r, &op, c, s.api.fail(w, r, err))
		default:
			f := faultOf(err)
			s.api.note(r, f, err)
			if r.Context().Err() == nil {
				_ = e.put("error", f.body()) // the reader may have gone
			}
			s.gate.done(r, &op, c, f.status)
		}
	})
}

// decodeOptional reads the body of an admitted call, as perform does.
func decodeOptional[In any](op *operation, c *call, in *In) error {
	_, err := perform(context.Background(), op, c, func(_ context.Context, _ *call, got *In) (none, error) {
		*in = *got
		return none{}, nil
	})
	return err
}
