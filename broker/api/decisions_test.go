package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// What is asked for wrongly is refused before anybody looks anything up.
func TestDecisionQueries(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for _, query := range []string{
		"action=fly", "action=Publish", "allow=maybe", "since=yesterday", "since=-1", "until=1.5", "org=UPPER1", "org=" + strings.Repeat("x", 99),
		"_limit=0", "_limit=101", "_limit=x",
	} {
		for _, path := range []string{"/policy/decisions", "/policy/decisions/stream"} {
			if strings.HasPrefix(query, "_") && path != "/policy/decisions" {
				continue
			}
			for _, operator := range []bool{true, false} {
				w.asked(operator, "GET", path+"?"+query, "").wantError(t, 400, "CUDRS0007E")
			}
		}
	}
	if call := j.last(); call != "" {
		t.Errorf("asked %q", call)
	}
	// The operator may look at one organisation.
	if w.asked(true, "GET", "/policy/decisions?org=acme01", ""); !strings.HasPrefix(j.last(), "operator decisions acme01 ") {
		t.Error("the operator's org is lost")
	}
	// A bookmark that the log did not give is the caller's mistake.
	j.fail(&policy.Error{Kind: policy.KindInvalid, Field: "cursor", Public: "is none that a list returned"})
	got := w.asked(false, "GET", "/policy/decisions?_bookmark=zz", "")
	if got.wantError(t, 400, "CUDRS0007E"); !strings.Contains(got.text, "_bookmark") {
		t.Errorf("%s", got.text)
	}
}

func TestExplainBodies(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for body, want := range map[string]int{
		"": 400, `{}`: 400, `[]`: 400, `{"input":`: 400, `{"input":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}`: 400,
		`{"input":1e999999}`: 400, `{"input":"` + strings.Repeat("x", 64<<10) + `"}`: 413, `{"input":{}}`: 200,
	} {
		for _, operator := range []bool{true, false} {
			if got := w.asked(operator, "POST", "/policy/explain", body); got.status != want {
				t.Errorf("%.30q: %d %s, want %d", body, got.status, got.text, want)
			}
		}
	}
	j.fail(&policy.Error{Kind: policy.KindInvalid, Field: "input.principal.org", Public: "has to be acme01"})
	got := w.asked(false, "POST", "/policy/explain", `{"input":{"principal":{"org":"other1"}}}`)
	if got.wantError(t, 400, "CUDRS0007E"); !strings.Contains(got.text, "input.principal.org: has to be acme01") {
		t.Errorf("%s", got.text)
	}
}

// No path, query, header or body of an organisation's caller reaches the decisions,
// sessions or shadow of another one: each attempt answers as if that did not exist, or
// about the caller's own.
func TestDecisionsAreOnesOwn(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	for _, a := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"their decision", "GET", "/policy/decisions/theirs", "", 404},
		{"their decision explained", "GET", "/policy/decisions/theirs/explain", "", 404},
		{"with their organisation", "GET", "/policy/decisions/theirs?org=other1&organisation=other1&tenant=other1", "", 404},
		{"a path above", "GET", "/policy/decisions/../../other1/policy/decisions/theirs", "", 404},
		{"an encoded path above", "GET", "/policy/decisions/..%2F..%2Fother1%2Ftheirs", "", 404},
		{"an encoded separator", "GET", "/policy/decisions/other1%2Ftheirs", "", 404},
		{"an encoded null", "GET", "/policy/decisions/%00theirs", "", 404},
		{"an encoded pair", "GET", "/policy/decisions/other1@%00%01theirs/explain", "", 404},
		{"a long one", "GET", "/policy/decisions/" + strings.Repeat("x", 5000), "", 404},
		{"an organisation in front", "GET", "/other1/policy/decisions", "", 404},
		{"the operator's path", "GET", "/../operator/v1/policy/decisions", "", 404},
		{"a list of theirs", "GET", "/policy/decisions?org=other1", "", 200},
		{"a bookmark of theirs", "GET", "/policy/decisions?_bookmark=74686569727374686569727a", "", 200},
		{"a list by their client", "GET", "/policy/decisions?client=d%3Aother1%3Asensor%3Atheirs", "", 200},
		{"their principal in an input", "POST", "/policy/explain", `{"input":{"action":"connect","principal":{"org":"other1"}}}`, 200},
		{"impact on them", "POST", "/policy/impact", `{` + oneFile + `,"org":"other1","tenant":"other1"}`, 200},
		{"replay of theirs", "POST", "/policy/replay", `{` + oneFile + `,"org":"other1"}`, 200},
		{"a shadow of theirs", "PUT", "/policy/shadow", `{` + oneFile + `,"org":"other1","orgs":["other1"]}`, 200},
		{"their shadow", "GET", "/policy/shadow?org=other1", "", 200},
		{"the end of their shadow", "DELETE", "/policy/shadow?org=other1", "", 200},
		{"a canary over them", "PUT", "/policy/canary", `{` + oneFile + `,"orgs":["other1"]}`, 404},
		{"a promotion", "POST", "/policy/canary/promote", `{}`, 404},
	} {
		r := w.request(a.method, v0002Prefix+a.path, a.body)
		r.Header["X-Org-Id"] = []string{"other1"}
		got := w.do(r)
		if got.status != a.want {
			t.Errorf("%s: %d %s, want %d", a.name, got.status, got.text, a.want)
		}
		if strings.Contains(got.text, "theirs") || strings.Contains(got.text, "other1") {
			t.Errorf("%s: %s", a.name, got.text)
		}
		for call := j.last(); call != ""; call = j.last() {
			if !strings.HasPrefix(call, "acme01 ") {
				t.Errorf("%s asked %q", a.name, call)
			}
		}
	}
	for _, q := range w.decider.Asked(policy.ActionAdminister) {
		if q.Facts.Principal.Org != w.acme.Organisation.ID || q.Request.Target["org"] != "" {
			t.Errorf("%s %s was judged for %v", q.Request.Method, q.Request.Route, q.Facts.Principal.Org)
		}
	}
}

// The policy says who may see decisions, by the route.
func TestDecisionsAskThePolicy(t *testing.T) {
	t.Parallel()
	w, j := newJudged(t)
	w.decider.Deny(policy.ActionAdminister, "not you")
	for path, method := range map[string]string{
		"/policy/decisions": "GET", "/policy/decisions/stream": "GET", "/policy/decisions/{decision}": "GET", "/policy/decisions/{decision}/explain": "GET",
		"/policy/explain": "POST", "/policy/impact": "POST", "/policy/replay": "POST", "/policy/shadow": "PUT", "/policy/shadow/events": "GET",
	} {
		body := ""
		if method != "GET" {
			body = `{` + oneFile + `}`
		}
		w.decider.Forget()
		got := w.asked(false, method, strings.ReplaceAll(path, "{decision}", "mine"), body)
		if got.status != http.StatusForbidden || !strings.Contains(got.text, "not you") {
			t.Errorf("%s %s = %d %s", method, path, got.status, got.text)
		}
		asked := w.decider.Asked(policy.ActionAdminister)
		if len(asked) != 1 || asked[0].Request.Route != path || asked[0].Request.Method != method {
			t.Errorf("%s %s: judged %+v", method, path, asked)
		}
	}
	if call := j.last(); call != "" {
		t.Errorf("asked %q", call)
	}
}
