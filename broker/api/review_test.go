package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// A candidate is named in one way, and bounds are kept.
func TestReviewBodies(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for _, test := range []struct{ method, path, body string }{
		{"POST", "/policy/impact", ``},
		{"POST", "/policy/impact", `{}`},
		{"POST", "/policy/impact", `[]`},
		{"POST", "/policy/impact", `{"files":{}}`},
		{"POST", "/policy/impact", `{"files":{"a.rego":5}}`},
		{"POST", "/policy/impact", `{"revision":"x",` + oneFile + `}`},
		{"POST", "/policy/impact", `{` + oneFile + `,"examples":-1}`},
		{"POST", "/policy/impact", `{` + oneFile + `,"examples":101}`},
		{"POST", "/policy/impact", `{` + oneFile + `,"since":"yesterday"}`},
		{"POST", "/policy/replay", `{}`},
		{"POST", "/policy/replay", `{` + oneFile + `,"differences":1001}`},
		{"POST", "/policy/replay", `{` + oneFile + `,"differences":-1}`},
		{"POST", "/policy/replay", `{` + oneFile + `,"until":1.5}`},
		{"PUT", "/policy/shadow", `{}`},
		{"PUT", "/policy/shadow", `{` + oneFile + `,"stopAfter":"many"}`},
		{"PUT", "/policy/canary", `{}`},
		{"PUT", "/policy/canary", `{` + oneFile + `}`},
		{"PUT", "/policy/canary", `{` + oneFile + `,"percent":0}`},
		{"PUT", "/policy/canary", `{` + oneFile + `,"percent":-1}`},
		{"PUT", "/policy/canary", `{` + oneFile + `,"percent":100.5}`},
		{"PUT", "/policy/canary", `{` + oneFile + `,"types":[""]}`},
		{"PUT", "/policy/canary", `{` + oneFile + `,"groups":["x"` + strings.Repeat(`,"x"`, 1000) + `]}`},
		{"PUT", "/policy/canary", `{"percent":5}`},
		{"POST", "/policy/canary/promote", `{"who":5}`},
	} {
		for _, operator := range []bool{true, false} {
			if !operator && strings.Contains(test.path, "canary") {
				continue
			}
			got := w.asked(operator, test.method, test.path, test.body)
			if got.wantError(t, 400, "CUDRS0007E"); t.Failed() {
				t.Fatalf("%s %s %.60s", test.method, test.path, test.body)
			}
		}
	}
	if call := j.last(); call != "" {
		t.Errorf("asked %q", call)
	}
}

// An operator's candidate is as large as a platform's policy may be, an organisation's
// no larger than the policy that it may upload.
func TestReviewBodiesHaveBounds(t *testing.T) {
	t.Parallel()
	w, _ := newJudged(t)
	sized := func(n int) string {
		const around = `{"files":{"a.rego":""}}`
		return `{"files":{"a.rego":"` + strings.Repeat("x", n-len(around)) + `"}}`
	}
	for _, test := range []struct {
		operator bool
		size     int
		want     int
	}{
		{true, maxCandidate, 200},
		{true, maxCandidate + 1, http.StatusRequestEntityTooLarge},
		{false, maxPolicyBody, 200},
		{false, maxPolicyBody + 1, http.StatusRequestEntityTooLarge},
	} {
		for path, method := range map[string]string{"/policy/impact": "POST", "/policy/replay": "POST", "/policy/shadow": "PUT"} {
			if got := w.asked(test.operator, method, path, sized(test.size)); got.status != test.want {
				t.Errorf("operator %v, %s of %d bytes: %d %s, want %d", test.operator, path, test.size, got.status, got.text, test.want)
			}
		}
	}
}

// Whoever sends a candidate that does not pass the gate hears all that is wrong with
// it, as with one that is to go live.
func TestRefusedCandidates(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	j.fail(refused())
	const problems = `"problems":[{"position":"a.rego:1:1","code":"rego_parse_error","message":"it is broken","line":"broken","hint":"mend it"},{"code":"rego_compile_error","message":"and more"}]`
	for path, method := range map[string]string{"/policy/impact": "POST", "/policy/shadow": "PUT", "/policy/canary": "PUT"} {
		for _, operator := range []bool{true, false} {
			if path == "/policy/canary" && !operator {
				continue
			}
			got := w.asked(operator, method, path, `{`+oneFile+`,"percent":5}`)
			if got.wantError(t, 409, "CDNHT0409E"); !strings.Contains(got.text, problems) {
				t.Errorf("%s: %s", path, got.text)
			}
		}
	}
	// Found only after the stream began, it is its last event.
	got := w.asked(true, "POST", "/policy/replay", `{`+oneFile+`}`)
	if got.status != 200 || !strings.Contains(got.text, "\n\nevent: error\ndata: {") || !strings.Contains(got.text, problems) {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// What may not be now is told with the time to come again.
func TestBusyReviews(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	j.fail(&policy.Error{Kind: policy.KindLimit, Public: "too many reviews are running; try again later"})
	got := w.asked(false, "POST", "/policy/impact", `{`+oneFile+`}`)
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || !strings.Contains(got.text, "too many reviews") {
		t.Errorf("%d %v %s", got.status, got.header, got.text)
	}
	j.fail(&policy.Error{Kind: policy.KindNotFound, Public: "there is no shadow"})
	for _, path := range []string{"/policy/shadow", "/policy/shadow/events"} {
		w.asked(false, "GET", path, "").wantError(t, 404, "CDNHT0404E")
	}
	w.asked(true, "POST", "/policy/canary/promote", "").wantError(t, 404, "CDNHT0404E")
}

// The document has the routes of an organisation, and says what they stream.
func TestDocumentHasReviews(t *testing.T) {
	t.Parallel()
	w, _ := newJudged(t)
	d, _ := readDocument(t, w)
	for path, methods := range map[string]string{
		"/policy/decisions": "get", "/policy/decisions/{decision}": "get", "/policy/decisions/{decision}/explain": "get", "/policy/explain": "post",
		"/policy/decisions/stream": "get", "/policy/impact": "post", "/policy/replay": "post", "/policy/shadow": "get put delete", "/policy/shadow/events": "get",
	} {
		for method := range strings.FieldsSeq(methods) {
			op, ok := d.Paths[path][method]
			if !ok {
				t.Errorf("%s %s is not described", method, path)
				continue
			}
			_, streams := op.Responses["200"].Content["text/event-stream"]
			if want := strings.HasSuffix(path, "/stream") || strings.HasSuffix(path, "/events") || strings.HasSuffix(path, "/impact") || strings.HasSuffix(path, "/replay"); streams != want {
				t.Errorf("%s %s: streams %v", method, path, streams)
			}
			if method == "post" || method == "put" {
				if op.RequestBody == nil || !op.RequestBody.Required || op.Responses["413"].Content == nil {
					t.Errorf("%s %s: the body is not described: %+v", method, path, op)
				}
			}
		}
	}
	if got := string(d.Components.Schemas["ImpactRequest"]); !strings.Contains(got, `"files"`) || !strings.Contains(got, `"revision"`) {
		t.Errorf("ImpactRequest = %s", got)
	}
}
