package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// ownPolicies keeps bundles; one that has "broken" in it does not pass.
type ownPolicies struct {
	kept    map[policy.OrgID]Narrowing
	checked int
}

func (p *ownPolicies) Narrowing(_ context.Context, org policy.OrgID) (Narrowing, error) {
	n, ok := p.kept[org]
	if !ok {
		return n, notFound("policy")
	}
	return n, nil
}

func (p *ownPolicies) CheckNarrowing(_ context.Context, _ policy.OrgID, files []revision.File) (NarrowingCheck, error) {
	p.checked++
	for _, f := range files {
		if bytes.Contains(f.Text, []byte("broken")) {
			return NarrowingCheck{}, &revision.Refusal{Findings: []revision.Finding{
				{Position: f.Path + ":1:7", Line: "broken", Code: "rego_parse_error", Message: "it is broken", Hint: "mend it"},
				{Code: "narrow_error", Message: "and more"},
			}}
		}
	}
	return NarrowingCheck{Revision: "r1", Passed: 2, Warnings: []revision.Finding{{Code: "policy_without_tests", Message: "none"}}}, nil
}

func (p *ownPolicies) SetNarrowing(ctx context.Context, org policy.OrgID, who string, files []revision.File) (NarrowingCheck, error) {
	c, err := p.CheckNarrowing(ctx, org, files)
	if err == nil {
		c.Updated = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
		p.kept[org] = Narrowing{c.Revision, files, who, c.Updated}
	}
	return c, err
}

func (p *ownPolicies) DeleteNarrowing(ctx context.Context, org policy.OrgID) error {
	_, err := p.Narrowing(ctx, org)
	delete(p.kept, org)
	return err
}

func (p *ownPolicies) UnpackNarrowing(archive []byte) ([]revision.File, error) {
	if !bytes.HasPrefix(archive, []byte("tar")) {
		return nil, &policy.Error{Kind: policy.KindTooLarge, Public: "the archive unpacks to more than 512 KiB"}
	}
	return []revision.File{{Path: "a.rego", Text: archive}}, nil
}

func newOwnPolicies(t *testing.T) (*world, *ownPolicies) {
	t.Helper()
	p := &ownPolicies{kept: map[policy.OrgID]Narrowing{}}
	return newWorld(t, func(_ *Config, d *Deps) { d.Narrowings = p }), p
}

func TestOwnPolicy(t *testing.T) {
	t.Parallel()
	w, p := newOwnPolicies(t)
	call := func(method, path, body string, want int) reply {
		t.Helper()
		got := w.do(w.request(method, v0002Prefix+path, body))
		if got.status != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, got.status, got.text, want)
		}
		return got
	}
	call("GET", "/policy", "", http.StatusNotFound)
	call("DELETE", "/policy", "", http.StatusNotFound)
	call("POST", "/policy/check", `{"files":{"a.rego":"package a"}}`, http.StatusOK).wantJSON(t,
		`{"revision":"r1","testsPassed":2,"warnings":[{"code":"policy_without_tests","message":"none"}]}`)
	call("GET", "/policy", "", http.StatusNotFound)
	call("PUT", "/policy", `{"files":{"a.rego":"package a"}}`, http.StatusOK)
	call("GET", "/policy", "", http.StatusOK).wantJSON(t,
		`{"revision":"r1","updated":"2026-01-31T12:00:00.000Z","who":"`+w.acme.APIKey.Key+`","files":{"a.rego":"package a"}}`)
	call("PUT", "/policy", `{"files":{"b/b.rego":"broken"}}`, http.StatusBadRequest).wantJSON(t,
		`{"message":"the policy does not pass the gate: b/b.rego:1:7: rego_parse_error: it is broken (and 1 more)","exception":{"id":"CUDRS0007E","properties":[]},"problems":[`+
			`{"position":"b/b.rego:1:7","code":"rego_parse_error","message":"it is broken","line":"broken","hint":"mend it"},{"code":"narrow_error","message":"and more"}]}`)
	call("PUT", "/policy", `{"files":{}}`, http.StatusBadRequest)
	call("PUT", "/policy", `{"files":{"a.rego":7}}`, http.StatusBadRequest)
	if n := p.kept[w.acme.Organisation.ID]; n.Revision != "r1" || string(n.Files[0].Text) != "package a" {
		t.Errorf("kept %+v", n)
	}
	call("DELETE", "/policy", "", http.StatusNoContent)
	call("GET", "/policy", "", http.StatusNotFound)
}

// A bundle may come as OPA builds it; whatever is beyond a bound is not looked at.
func TestOwnPolicyArchives(t *testing.T) {
	t.Parallel()
	w, p := newOwnPolicies(t)
	put := func(media, body string) reply {
		r := httptest.NewRequest("PUT", v0002Prefix+"/policy", strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		r.SetBasicAuth(w.acme.APIKey.Key, w.acme.APIToken)
		return w.do(r)
	}
	if got := put("application/gzip", "tar of it"); got.status != http.StatusOK || string(p.kept[w.acme.Organisation.ID].Files[0].Text) != "tar of it" {
		t.Errorf("%d %s", got.status, got.text)
	}
	checked := p.checked
	for body, want := range map[string]int{
		"bomb": http.StatusRequestEntityTooLarge, strings.Repeat("x", maxPolicyBody+1): http.StatusRequestEntityTooLarge,
	} {
		if got := put("application/gzip", body); got.status != want {
			t.Errorf("%.10s: %d %s", body, got.status, got.text)
		}
	}
	if got := put("application/json", `{"files":{"a.rego":"`+strings.Repeat("x", maxPolicyBody)+`"}}`); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := put("application/zip", "PK"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", got.status, got.text)
	}
	if p.checked != checked {
		t.Error("it was looked at")
	}
}

// An organisation's policy is its own, and its administrators' alone.
func TestOwnPolicyIsTheOrganisations(t *testing.T) {
	t.Parallel()
	w, p := newOwnPolicies(t)
	p.kept[w.other.Organisation.ID] = Narrowing{Revision: "theirs", Files: []revision.File{{Path: "a.rego", Text: []byte("their rules")}}}
	for _, call := range [][3]string{
		{"GET", "/policy", ""}, {"PUT", "/policy", `{"files":{"a.rego":"package a"}}`}, {"DELETE", "/policy", ""}, {"POST", "/policy/check", `{"files":{"a.rego":"package a"}}`},
	} {
		r := w.request(call[0], v0002Prefix+call[1]+"?org=other1", call[2])
		r.SetBasicAuth(w.acme.APIKey.Key, "wrong-token-000000000000")
		if got := w.do(r); got.status != http.StatusUnauthorized {
			t.Errorf("%v with a wrong token: %d", call, got.status)
		}
		w.decider.Deny(policy.ActionAdminister, "no")
		if got := w.do(w.request(call[0], v0002Prefix+call[1], call[2])); got.status != http.StatusForbidden {
			t.Errorf("%v for whom the policy denies: %d", call, got.status)
		}
		w.decider.On(policy.ActionAdminister, nil)
		if got := w.do(w.request(call[0], v0002Prefix+call[1]+"?org=other1", call[2])); strings.Contains(got.text, "theirs") || strings.Contains(got.text, "their rules") {
			t.Errorf("%v: %s", call, got.text)
		}
	}
	if p.kept[w.other.Organisation.ID].Revision != "theirs" {
		t.Error("another organisation's policy was touched")
	}
}

// The document has the routes, and says that a bundle may be an archive.
func TestOwnPolicyIsDocumented(t *testing.T) {
	t.Parallel()
	w, _ := newOwnPolicies(t)
	d, _ := readDocument(t, w)
	for path, methods := range map[string][]string{"/policy": {"get", "put", "delete"}, "/policy/check": {"post"}} {
		for _, method := range methods {
			op, ok := d.Paths[path][method]
			if !ok || op.OperationID == "" {
				t.Errorf("%s %s is not described", method, path)
			}
			if op.RequestBody == nil {
				continue
			}
			if _, ok := op.RequestBody.Content[archiveMedia]; !ok {
				t.Errorf("%s %s takes no archive", method, path)
			}
		}
	}
}
