package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// judged are decisions and reviews that are scripted. Each call is noted with the
// organisation that it is about.
type judged struct {
	orgs map[string]policy.OrgID // whose a decision is, by its ID

	state struct {
		sync.Mutex
		asked []string
		err   error              // of the next call, and of those after it
		feed  chan DecisionEvent // what WatchDecisions passes on; nil: it returns at once
	}
}

var (
	_ Decisions = (*judged)(nil)
	_ Reviews   = (*judged)(nil)
)

// note remembers a call, and is the error that it ends with.
func (j *judged) note(org policy.OrgID, call string, args ...any) error {
	j.state.Lock()
	defer j.state.Unlock()
	who := org.String()
	if org.IsZero() {
		who = "operator"
	}
	j.state.asked = append(j.state.asked, strings.TrimSpace(who+" "+call+" "+fmt.Sprintln(args...)))
	return j.state.err
}

func (j *judged) fail(err error) {
	j.state.Lock()
	defer j.state.Unlock()
	j.state.err = err
}

// last is the last call, and forgets them all.
func (j *judged) last() string {
	j.state.Lock()
	defer j.state.Unlock()
	if len(j.state.asked) == 0 {
		return ""
	}
	last := j.state.asked[len(j.state.asked)-1]
	j.state.asked = nil
	return last
}

func (j *judged) Decision(_ context.Context, org policy.OrgID, id string) (DecisionEvent, error) {
	if err := j.note(org, "decision", id); err != nil {
		return nil, err
	}
	if of, ok := j.orgs[id]; !ok || !org.IsZero() && of != org {
		return nil, &policy.Error{Kind: policy.KindNotFound, Public: "no such decision is recorded"}
	}
	return json.RawMessage(`{"decision_id":"` + id + `"}`), nil
}

func (j *judged) Decisions(_ context.Context, org policy.OrgID, f *DecisionFilter, p registry.Page) ([]DecisionEvent, string, error) {
	allow := "-"
	if f.Allow != nil {
		allow = fmt.Sprint(*f.Allow)
	}
	if err := j.note(org, "decisions", f.Org, f.Action, allow, f.Client, f.Since.UnixMilli(), f.Until.UnixMilli(), p.Limit, p.After); err != nil {
		return nil, "", err
	}
	return []DecisionEvent{json.RawMessage(`{"decision_id":"one"}`)}, "6f6e65", nil
}

func (j *judged) WatchDecisions(ctx context.Context, org policy.OrgID, f *DecisionFilter, tell func(DecisionEvent) error, quiet func() error) error {
	if err := j.note(org, "watch", f.Org, f.Action); err != nil {
		return err
	}
	if err := quiet(); err != nil {
		return err
	}
	j.state.Lock()
	feed := j.state.feed
	j.state.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, open := <-feed:
			if !open {
				return nil
			}
			if err := tell(d); err != nil {
				return err
			}
		}
	}
}

func (j *judged) Explain(ctx context.Context, org policy.OrgID, id string) (Explanation, error) {
	_, err := j.Decision(ctx, org, id)
	if err != nil {
		return nil, err
	}
	return json.RawMessage(`{"action":"publish"}`), j.note(org, "explain", id)
}

func (j *judged) ExplainRequest(_ context.Context, org policy.OrgID, r *ExplainRequest) (Explanation, error) {
	return json.RawMessage(`{"action":"connect"}`), j.note(org, "explain request", string(r.Input))
}

func (j *judged) Impact(_ context.Context, org policy.OrgID, r *ImpactRequest, tell func(ReviewProgress) error) (*Impact, error) {
	if err := j.note(org, "impact", candidateOf(&r.Candidate), value(r.Org), value(r.Since), value(r.Examples)); err != nil {
		return nil, err
	}
	if err := tell(ReviewProgress{Phase: "sessions", Done: 1, Total: 2}); err != nil {
		return nil, err
	}
	return &Impact{Revision: "new", Live: "old"}, nil
}

func (j *judged) Replay(_ context.Context, org policy.OrgID, r *ReplayRequest, tell func(ReviewProgress) error) (*Replay, error) {
	if err := tell(ReviewProgress{Phase: "decisions", Done: 5}); err != nil {
		return nil, err
	}
	if err := j.note(org, "replay", candidateOf(&r.Candidate), value(r.Org), value(r.Since), value(r.Until), value(r.Differences)); err != nil {
		return nil, err
	}
	return &Replay{Revision: "new"}, nil
}

func (j *judged) StartShadow(_ context.Context, org policy.OrgID, r *ShadowRequest) (*ShadowReport, error) {
	if err := j.note(org, "start shadow", candidateOf(&r.Candidate), value(r.StopAfter), value(r.PromoteAfter)); err != nil {
		return nil, err
	}
	return &ShadowReport{Revision: "new", State: "running"}, nil
}

func (j *judged) Shadow(org policy.OrgID) (*ShadowReport, error) {
	return &ShadowReport{State: "running"}, j.note(org, "shadow")
}

func (j *judged) EndShadow(org policy.OrgID) (*ShadowReport, error) {
	return &ShadowReport{State: "ended"}, j.note(org, "end shadow")
}

func (j *judged) WatchShadow(_ context.Context, org policy.OrgID, tell func(*DecisionDifference) error, quiet func() error) error {
	if err := j.note(org, "watch shadow"); err != nil {
		return err
	}
	if err := quiet(); err != nil {
		return err
	}
	return tell(&DecisionDifference{Before: "allow", After: "deny"})
}

func (j *judged) StartCanary(_ context.Context, r *CanaryRequest) (*CanaryReport, error) {
	if err := j.note(policy.OrgID{}, "start canary", candidateOf(&r.Candidate), value(r.Percent), r.Orgs, r.Types, r.Groups); err != nil {
		return nil, err
	}
	return &CanaryReport{State: "running"}, nil
}

func (j *judged) Canary() (*CanaryReport, error) {
	return &CanaryReport{State: "running"}, j.note(policy.OrgID{}, "canary")
}

func (j *judged) EndCanary() (*CanaryReport, error) {
	return &CanaryReport{State: "ended"}, j.note(policy.OrgID{}, "end canary")
}

func (j *judged) PromoteCanary(_ context.Context, who, why string) (*CanaryReport, error) {
	return &CanaryReport{State: "promoted"}, j.note(policy.OrgID{}, "promote canary", who, why)
}

func candidateOf(c *Candidate) string {
	if c.Revision != nil {
		return *c.Revision
	}
	return fmt.Sprintf("%d files", len(c.Files))
}

// newJudged is a world with scripted decisions: "mine" is of acme01, "theirs" of other1.
func newJudged(t *testing.T) (*world, *judged) {
	t.Helper()
	j := &judged{}
	w := newWorld(t, func(_ *Config, d *Deps) { d.Decisions, d.Reviews = j, j })
	j.orgs = map[string]policy.OrgID{"mine": w.acme.Organisation.ID, "theirs": w.other.Organisation.ID}
	return w, j
}

// asked is one call over one of the two surfaces.
func (w *world) asked(operator bool, method, path, body string) reply {
	w.t.Helper()
	if operator {
		r := w.request(method, operatorPrefix+path, body)
		r.Header.Del("Authorization")
		return serve(w.api.OperatorHandler(), r)
	}
	return w.do(w.request(method, v0002Prefix+path, body))
}

const oneFile = `"files":{"cordon/publish/publish.rego":"package cordon.publish\n"}`

// Every route asks about the caller's own organisation, or on the operator's surface
// about everybody.
func TestJudgedRoutes(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for _, test := range []struct {
		method, path, body string
		call, answer       string // of both surfaces
	}{
		{"GET", "/policy/decisions", "", "decisions   -  ", `{"results":[{"decision_id":"one"}],"bookmark":"6f6e65","meta":{}}`},
		{
			"GET", "/policy/decisions?action=publish&allow=false&client=a%3Ab&since=1000&until=2000&_limit=7&_bookmark=00", "",
			"publish false a:b 1000 2000 7 00", `{"results":[{"decision_id":"one"}],"bookmark":"6f6e65","meta":{}}`,
		},
		{"GET", "/policy/decisions/mine", "", "decision mine", `{"decision_id":"mine"}`},
		{"GET", "/policy/decisions/mine/explain", "", "explain mine", `{"action":"publish"}`},
		{"POST", "/policy/explain", `{"input":{"action":"connect"}}`, `explain request {"action":"connect"}`, `{"action":"connect"}`},
		{
			"POST", "/policy/impact", `{` + oneFile + `,"since":5,"examples":0}`, "impact 1 files  5 0",
			"event: progress\ndata: {\"phase\":\"sessions\",\"done\":1,\"total\":2}\n\nevent: result\ndata: {\"revision\":\"new\",\"live\":\"old\"",
		},
		{
			"POST", "/policy/replay", `{"revision":"0123456789abcdef","since":1,"until":2,"differences":1000}`, "replay 0123456789abcdef  1 2 1000",
			"event: progress\ndata: {\"phase\":\"decisions\",\"done\":5}\n\nevent: result\ndata: {\"revision\":\"new\"",
		},
		{"PUT", "/policy/shadow", `{` + oneFile + `,"stopAfter":3,"promoteAfter":4}`, "start shadow 1 files 3 4", `{"revision":"new","state":"running"`},
		{"GET", "/policy/shadow", "", "shadow", `{"revision":"","state":"running"`},
		{"DELETE", "/policy/shadow", "", "end shadow", `{"revision":"","state":"ended"`},
		{"GET", "/policy/shadow/events", "", "watch shadow", ":\n\nevent: difference\ndata: {\"at\":"},
	} {
		for _, operator := range []bool{true, false} {
			who := "acme01 "
			if operator {
				who = "operator "
			}
			got := w.asked(operator, test.method, test.path, test.body)
			if got.status != http.StatusOK || !strings.HasPrefix(got.text, test.answer) && strings.TrimSpace(got.text) != test.answer {
				t.Errorf("%s%s %s = %d %q, want %q", who, test.method, test.path, got.status, got.text, test.answer)
			}
			if call := j.last(); !strings.HasPrefix(call, who) || !strings.Contains(call, test.call) {
				t.Errorf("%s%s %s asked %q, want %q", who, test.method, test.path, call, test.call)
			}
			if strings.HasPrefix(test.answer, "event: ") && got.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%s%s: Content-Type %q", who, test.path, got.header.Get("Content-Type"))
			}
		}
	}
}

// A canary is of the platform's policy, and the operator's alone.
func TestCanaryRoutes(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for _, test := range []struct{ method, path, body, call string }{
		{"PUT", "/policy/canary", `{"revision":"0123456789abcdef","percent":2.5,"orgs":["acme01"],"types":["sensor"],"groups":["pilot"]}`, "start canary 0123456789abcdef 2.5 [acme01] [sensor] [pilot]"},
		{"GET", "/policy/canary", "", "canary"},
		{"DELETE", "/policy/canary", "", "end canary"},
		{"POST", "/policy/canary/promote", "", "promote canary"},
		{"POST", "/policy/canary/promote", `{"who":"alice","why":"well behaved"}`, "promote canary alice well behaved"},
	} {
		if got := w.asked(true, test.method, test.path, test.body); got.status != http.StatusOK {
			t.Errorf("%s %s = %d %s", test.method, test.path, got.status, got.text)
		}
		if call := j.last(); call != "operator "+test.call {
			t.Errorf("%s %s asked %q, want %q", test.method, test.path, call, test.call)
		}
		if got := w.asked(false, test.method, test.path, test.body); got.status != http.StatusNotFound || j.last() != "" {
			t.Errorf("an organisation: %s %s = %d %s", test.method, test.path, got.status, got.text)
		}
	}
}

// Where nothing is recorded and nobody judges, there is nothing to ask.
func TestWithoutDecisionsAndReviews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/policy/decisions", "/policy/shadow", "/policy/canary"} {
		for _, operator := range []bool{true, false} {
			w.asked(operator, "GET", path, "").wantError(t, 404, "CDNHT0404E")
		}
	}
}

// refused is what the gate says of a candidate.
func refused() error {
	return fmt.Errorf("load candidate: %w", &revision.Refusal{Findings: []revision.Finding{
		{Position: "a.rego:1:1", Line: "broken", Code: "rego_parse_error", Message: "it is broken", Hint: "mend it"},
		{Code: "rego_compile_error", Message: "and more"},
	}})
}
