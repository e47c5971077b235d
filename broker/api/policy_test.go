package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy/revision"
)

// policies is a book with what went live, and a gate that refuses a bundle that
// says so.
type policies struct {
	book *revision.Book
	live []string
	dir  string
}

func newPolicies(t *testing.T) *policies {
	t.Helper()
	p := &policies{dir: t.TempDir()}
	files, err := revision.OpenFiles(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	if p.book, err = revision.Open(files, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *policies) gate(context.Context) revision.Check {
	return func(bundle fs.FS) (func(), error) {
		text, err := fs.ReadFile(bundle, "a.rego")
		if err != nil || bytes.Contains(text, []byte("broken")) {
			return nil, errors.Join(err, &revision.Refusal{Findings: []revision.Finding{
				{Position: "a.rego:1:1", Line: "broken", Code: "rego_parse_error", Message: "it is broken", Hint: "mend it"},
				{Code: "rego_compile_error", Message: "and more"},
			}})
		}
		return func() { p.live = append(p.live, string(text)) }, nil
	}
}

func (p *policies) offer(t *testing.T, text string) revision.ID {
	t.Helper()
	out, err := p.book.Offer(revision.Offering{
		Files: []revision.File{{Path: "a.rego", Text: []byte(text)}}, By: revision.Author{Who: "folder", Why: "edited"},
	}, func() { p.live = append(p.live, text) })
	if err != nil {
		t.Fatal(err)
	}
	return out.ID
}

func TestOperatorPolicy(t *testing.T) {
	t.Parallel()
	p := newPolicies(t)
	w := newWorld(t, func(_ *Config, d *Deps) { d.Revisions, d.Gate = p.book, p.gate })
	get := func(path string, want int) reply { t.Helper(); return w.operator("GET", path, "", want) }
	wantLive := func(text string) {
		t.Helper()
		if len(p.live) == 0 || p.live[len(p.live)-1] != text {
			t.Errorf("live is %q, want %q", p.live, text)
		}
	}

	get("/policy", 200).wantJSON(t, `{"revision":"","pinned":false,"log":{"number":0,"hash":""}}`)
	get("/policy/revisions", 200).wantJSON(t, `{"results":[],"meta":{}}`)
	w.operator("POST", "/policy/rollback", "", http.StatusConflict)
	one, broken, two := p.offer(t, "one\n"), p.offer(t, "broken\n"), p.offer(t, "two\n")

	status := func(id revision.ID, pinned bool) string {
		h := p.book.Head()
		return fmt.Sprintf(`{"revision":%q,"pinned":%v,"log":{"number":%d,"hash":%q}}`, id, pinned, h.Number, h.Hash)
	}
	list := get("/policy/revisions?_limit=1", 200).object(t)
	if r := list["results"].([]any)[0].(map[string]any); r["revision"] != string(two) || r["live"] != true || r["pinned"] != false || r["who"] != "folder" || r["why"] != "edited" || len(r["digest"].(string)) != 64 {
		t.Errorf("list %v", list)
	}
	rest := get("/policy/revisions?_bookmark="+list["bookmark"].(string), 200).object(t)
	if n := len(rest["results"].([]any)); n != 2 || rest["bookmark"] != nil {
		t.Errorf("the second page is %v", rest)
	}
	get("/policy/revisions?_bookmark=nonsense", 400).wantError(t, 400, "CUDRS0007E")

	diff := get("/policy/revisions/"+string(one)+"/diff", 200).object(t)
	if text := diff["diff"].(string); diff["to"] != string(two) || !strings.Contains(text, "\n-one\n+two\n") {
		t.Errorf("diff %v", diff)
	}
	if diff := get("/policy/revisions/"+string(one)+"/diff?to="+string(one), 200).object(t); diff["diff"] != "" {
		t.Errorf("diff with itself: %v", diff)
	}
	get("/policy/revisions/0123456789abcdef/diff", 404).wantError(t, 404, "CDNHT0404E")
	for _, path := range []string{"/policy/revisions/x/diff", "/policy/revisions/" + string(one) + "/diff?to=..%2f..%2fetc"} {
		get(path, 400).wantError(t, 400, "CUDRS0007E")
	}

	activate := func(body string, want int) reply {
		t.Helper()
		return w.operator("POST", "/policy/activate", body, want)
	}
	activate(`{"revision":"`+string(one)+`","why":"because","who":"alice"}`, 200).wantJSON(t, status(one, true))
	wantLive("one\n")
	refused := activate(`{"revision":"`+string(broken)+`"}`, 409)
	if refused.wantError(t, 409, "CDNHT0409E"); !strings.Contains(refused.text, "a.rego:1:1: rego_parse_error") {
		t.Errorf("the refusal does not say why: %s", refused.text)
	}
	const problems = `"problems":[{"position":"a.rego:1:1","code":"rego_parse_error","message":"it is broken","line":"broken","hint":"mend it"},{"code":"rego_compile_error","message":"and more"}]`
	for _, body := range []string{`{"revision":"` + string(broken) + `"}`, `{"revision":"` + string(broken) + `","unpin":true}`} {
		if refused := activate(body, 409); !strings.Contains(refused.text, problems) || !strings.Contains(refused.text, "(and 1 more)") {
			t.Errorf("the refusal does not say everything: %s", refused.text)
		}
	}
	activate(`{"revision":"`+string(two)+`","unpin":true}`, 200).wantJSON(t, status(two, false))
	wantLive("two\n")
	w.operator("POST", "/policy/rollback", `{"why":"back"}`, 200).wantJSON(t, status(one, true))
	wantLive("one\n")
	activate(`{"unpin":true}`, 200).wantJSON(t, status(two, false))
	activate(`{"unpin":true}`, 409)
	for _, bad := range []string{`{}`, `{"revision":"x"}`, `{"revision":null,"unpin":false}`, `{"revision":"` + string(one) + `","why":"a\u0007"}`, `{"revision":"` + string(one) + `","who":"` + strings.Repeat("x", 300) + `"}`} {
		activate(bad, 400).wantError(t, 400, "CUDRS0007E")
	}

	entries := get("/policy/log?_limit=100", 200).object(t)["results"].([]any)
	var told []string
	for _, e := range entries {
		e := e.(map[string]any)
		told = append(told, fmt.Sprint(e["number"], " ", e["action"], " ", e["who"], " ", cmp.Or(e["why"], any(""))))
	}
	want := []string{
		"1 activated folder edited", "2 activated folder edited", "3 activated folder edited", "4 pinned operator alice because",
		"5 unpinned operator ", "6 activated operator ", "7 rolled_back operator back", "8 unpinned operator ", "9 activated operator ",
	}
	slices.Reverse(want)
	if !slices.Equal(told, want) {
		t.Errorf("log\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	if v := get("/policy/log/verify", 200).object(t); v["valid"] != true || v["problem"] != nil {
		t.Errorf("%v", v)
	}
	w.operator("DELETE", "/policy/log", "", 405)
}

// Without a book there is nothing to ask about.
func TestOperatorWithoutPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.operator("GET", "/policy", "", 404)
}

// A command that has the folder to itself gets the routes of the policy alone.
func TestPolicyHandler(t *testing.T) {
	t.Parallel()
	p := newPolicies(t)
	id := p.offer(t, "one\n")
	h := PolicyHandler(p.book, p.gate)
	w := newWorld(t)
	ask := func(method, path, body string) reply {
		return serve(h, w.request(method, operatorPrefix+path, body))
	}
	if got := ask("GET", "/policy", ""); got.status != 200 || !strings.Contains(got.text, string(id)) {
		t.Errorf("%+v", got)
	}
	if got := ask("POST", "/policy/activate", `{"revision":"`+string(id)+`"}`); got.status != 200 {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{"/status", "/organisations"} {
		if got := ask("GET", path, ""); got.status != 404 {
			t.Errorf("%s: %+v", path, got)
		}
	}
}
