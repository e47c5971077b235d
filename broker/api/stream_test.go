package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// reader is somebody who reads a stream from a real server.
type reader struct {
	t      *testing.T
	status int
	body   io.ReadCloser
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// server serves h over loopback.
func server(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func read(t *testing.T, rq *http.Request) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	rs, err := http.DefaultTransport.RoundTrip(rq.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t, rs.StatusCode, rs.Body, bufio.NewScanner(rs.Body), cancel}
	t.Cleanup(r.leave)
	return r
}

func (r *reader) leave() {
	r.cancel()
	_ = r.body.Close()
}

// line is the next one that is not empty, or "end".
func (r *reader) line() string {
	for r.lines.Scan() {
		if text := r.lines.Text(); text != "" {
			return text
		}
	}
	return "end"
}

func (r *reader) want(lines ...string) {
	r.t.Helper()
	for _, want := range lines {
		if got := r.line(); !strings.HasPrefix(got, want) {
			r.t.Fatalf("read %q, want %q", got, want)
		}
	}
}

// watching asks for the live decisions.
func (w *world) watching(url, user, password string) *http.Request {
	w.t.Helper()
	rq, err := http.NewRequestWithContext(w.t.Context(), "GET", url+v0002Prefix+"/policy/decisions/stream", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	rq.SetBasicAuth(user, password)
	return rq
}

func newFeed(t *testing.T) (*world, *judged, chan DecisionEvent) {
	t.Helper()
	w, j := newJudged(t)
	feed := make(chan DecisionEvent)
	j.state.feed = feed
	return w, j, feed
}

func decisionOf(id string) DecisionEvent { return json.RawMessage(`{"decision_id":"` + id + `"}`) }

func TestStream(t *testing.T) {
	t.Parallel()
	w, j, feed := newFeed(t)
	r := read(t, w.watching(server(t, w.api.Handler()), w.acme.APIKey.Key, w.acme.APIToken))
	r.want(":") // at once, so that the reader knows that it is heard
	for _, id := range []string{"one", "two"} {
		feed <- decisionOf(id)
		r.want("event: decision", `data: {"decision_id":"`+id+`"}`)
	}
	close(feed)
	r.want("end")
	if call := j.last(); call != "acme01 watch" {
		t.Errorf("asked %q", call)
	}
}

// A reader that goes ends the stream, and its place is free again.
func TestStreamWithoutAReader(t *testing.T) {
	t.Parallel()
	w, _, _ := newFeed(t)
	url := server(t, w.api.Handler())
	for range 3 * streamsOfOne {
		r := read(t, w.watching(url, w.acme.APIKey.Key, w.acme.APIToken))
		if r.want(":"); r.status != http.StatusOK {
			t.Fatalf("status %d", r.status)
		}
		r.leave()
		w.untilStreams(0)
	}
}

// untilStreams waits for so many to be open.
func (w *world) untilStreams(n int) {
	w.t.Helper()
	deadline, look := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		w.api.streams.guarded.Lock()
		open := w.api.streams.guarded.all
		w.api.streams.guarded.Unlock()
		if open == n {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			w.t.Fatalf("%d streams are open, want %d", open, n)
		}
	}
}

// One organisation has a part of the streams, all of them leave some to the operator,
// and there are so many in all.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	var s streams
	var closers []func()
	open := func(org policy.OrgID) bool {
		closed, ok := s.open(org)
		if ok {
			closers = append(closers, closed)
		}
		return ok
	}
	fill := func(org policy.OrgID) (n int) {
		for open(org) {
			n++
		}
		return n
	}
	org := func(name string) policy.OrgID {
		id, err := policy.ParseOrgID(name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if n := fill(org("acme01")); n != streamsOfOne {
		t.Errorf("one organisation has %d", n)
	}
	all := streamsOfOne
	for _, name := range []string{"org001", "org002", "org003", "org004", "org005", "org006", "org007", "org008", "org009"} {
		all += fill(org(name))
	}
	if all != streamsOfOrgs {
		t.Errorf("all organisations have %d", all)
	}
	if n := fill(policy.OrgID{}); all+n != streamsMost {
		t.Errorf("the operator has %d beside %d", n, all)
	}
	for _, closed := range closers {
		closed()
	}
	if g := &s.guarded; g.all != 0 || g.ofOrgs != 0 || len(g.of) != 0 {
		t.Errorf("left: %d, %d, %v", g.all, g.ofOrgs, g.of)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	w, _, _ := newFeed(t)
	for range streamsOfOne {
		if _, ok := w.api.streams.open(w.acme.Organisation.ID); !ok {
			t.Fatal("there is no place")
		}
	}
	got := w.asked(false, "GET", "/policy/decisions/stream", "")
	if got.wantError(t, http.StatusTooManyRequests, "CDNHT0429E"); got.header.Get("Retry-After") != "10" {
		t.Errorf("%v", got.header)
	}
	// Others, and what is no stream, are not held up.
	r := read(t, w.watching(server(t, w.api.Handler()), w.other.APIKey.Key, w.other.APIToken))
	r.want(":")
	if got := w.asked(false, "GET", "/policy/decisions", ""); got.status != http.StatusOK {
		t.Errorf("%d", got.status)
	}
}

// What fails before the first event is answered as everywhere; afterwards it is the
// last event. What is nobody's business is not told.
func TestStreamsThatFail(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	j.fail(errors.New("the disk is on fire"))
	got := w.asked(false, "POST", "/policy/impact", `{`+oneFile+`}`)
	if got.wantError(t, 500, "CDNHT0500E"); strings.Contains(got.text, "fire") {
		t.Errorf("%s", got.text)
	}
	got = w.asked(false, "POST", "/policy/replay", `{`+oneFile+`}`) // after its first progress
	if got.status != 200 || !strings.Contains(got.text, "event: error\ndata: {\"message\":\"internal server error\"") || strings.Contains(got.text, "fire") {
		t.Errorf("%d %s", got.status, got.text)
	}
	if logged := w.logs.lines(t, "request failed"); len(logged) != 2 || logged[1]["error"] != "the disk is on fire" {
		t.Errorf("log = %v", logged)
	}
}

// A stream lasts for long, and the credential that opened it may not: it ends with the
// next thing that would be told.
func TestStreamEndsWithItsReader(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *world){
		"the key is deleted": func(t *testing.T, w *world) {
			if err := w.registry.DeleteAPIKey(t.Context(), w.acme.Organisation.ID, w.acme.APIKey.Key); err != nil {
				t.Fatal(err)
			}
		},
		"the organisation is suspended": func(_ *testing.T, w *world) {
			w.operator("POST", "/organisations/acme01/suspend", "", http.StatusOK)
		},
		"the organisation is deleted": func(_ *testing.T, w *world) {
			w.operator("DELETE", "/organisations/acme01", "", http.StatusNoContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, feed := newFeed(t)
			r := read(t, w.watching(server(t, w.api.Handler()), w.acme.APIKey.Key, w.acme.APIToken))
			r.want(":")
			feed <- decisionOf("one")
			r.want("event: decision", "data:")
			end(t, w)
			w.clock.set(w.clock.now().Add(2 * streamCheck))
			feed <- decisionOf("two")
			r.want("event: error", "data:", "end")
			w.untilStreams(0)
		})
	}
	// Roles that no longer permit it end it, too.
	w, _, feed := newFeed(t)
	r := read(t, w.watching(server(t, w.api.Handler()), w.acme.APIKey.Key, w.acme.APIToken))
	r.want(":")
	w.decider.Deny(policy.ActionAdminister, "no longer")
	w.decider.Activate()
	w.clock.set(w.clock.now().Add(2 * streamCheck))
	feed <- decisionOf("one")
	r.want("event: error", `data: {"message":"no longer`, "end")
}
