package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// A story is a bundle and what comes of it: "problems" and "warnings" list the
// positions and codes that Load reports, "ask.json" the questions and answers.
func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tell(t, archive)
		})
	}
}

func tell(t *testing.T, archive *txtar.Archive) {
	bundle := fstest.MapFS{}
	var problems, warnings []string
	var asks []ask
	for _, f := range archive.Files {
		switch f.Name {
		case "problems":
			problems = lines(f.Data)
		case "warnings":
			warnings = lines(f.Data)
		case "ask.json":
			d := json.NewDecoder(bytes.NewReader(f.Data))
			d.DisallowUnknownFields()
			if err := d.Decode(&asks); err != nil {
				t.Fatalf("ask.json: %v", err)
			}
		default:
			bundle[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	if problems == nil && warnings == nil && asks == nil {
		t.Fatal("the story tells nothing")
	}

	b, report := Load(context.Background(), bundle, builtinSchemas())
	if got := positions(report.Problems); !slices.Equal(got, problems) {
		var out strings.Builder
		_, _ = report.WriteTo(&out)
		t.Fatalf("problems:\n%s\nwant:\n%s\n\n%s", strings.Join(got, "\n"), strings.Join(problems, "\n"), out.String())
	}
	if got := positions(report.Warnings); warnings != nil && !slices.Equal(got, warnings) {
		t.Fatalf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(warnings, "\n"))
	}
	if (b == nil) != (report.Err() != nil) {
		t.Fatalf("bundle %v and error %v", b, report.Err())
	}
	if b == nil {
		return
	}
	e := New(Options{Timeout: 10 * time.Second})
	e.Activate(b)
	for i, a := range asks {
		a.check(t, e, i)
	}
}

func positions(list []Problem) (all []string) {
	for _, p := range list {
		all = append(all, strings.TrimSpace(p.Position+" "+p.Code))
	}
	return all
}

func lines(text []byte) []string {
	all := []string{}
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		if line != "" {
			all = append(all, line)
		}
	}
	return all
}

// ask is one question of a story.
type ask struct {
	Action   string
	Kind     string
	Roles    []string
	Claims   map[string]any
	Topic    string
	Filter   string
	QoS      byte
	Size     int
	User     map[string]string
	Method   string
	Route    string
	Target   map[string]string
	Username string
	Want     map[string]any
}

func (a ask) facts(t *testing.T) *policy.Facts {
	kinds := map[string]policy.PrincipalKind{
		"": policy.KindDevice, "device": policy.KindDevice, "gateway": policy.KindGateway,
		"application": policy.KindApplication, "user": policy.KindUser,
	}
	org := mustOrg(t, "acme01")
	p := &policy.Principal{Org: org, Kind: kinds[a.Kind], Roles: a.Roles, Claims: a.Claims, Verifier: "token", Registered: true}
	if p.Kind == policy.KindDevice || p.Kind == policy.KindGateway {
		p.Type, p.ID = "sensor", "d1"
	}
	return &policy.Facts{
		Principal: p, Org: &policy.Organisation{ID: org, ConnectionLevel: "tls"},
		Client: &policy.Client{ID: "c1", Username: a.Username, Listener: "mqtts", Protocol: "5", Address: netip.MustParseAddr("192.0.2.1")},
	}
}

func (a ask) request(t *testing.T) *policy.Request {
	t.Helper()
	r := &policy.Request{QoS: a.QoS, Size: a.Size, Method: a.Method, Route: a.Route, Target: a.Target}
	for action := policy.ActionConnect; action <= policy.ActionAdminister; action++ {
		if action.String() == a.Action {
			r.Action = action
		}
	}
	var err error
	if a.Topic != "" {
		if r.Topic, err = topic.ParseName(a.Topic); err != nil {
			t.Fatal(err)
		}
		r.Levels = strings.Split(a.Topic, "/")
	}
	if a.Filter != "" {
		if r.Filter, err = topic.ParseFilter(a.Filter); err != nil {
			t.Fatal(err)
		}
		r.Levels = strings.Split(a.Filter, "/")
	}
	for k, v := range a.User {
		if r.Properties == nil {
			r.Properties = &policy.Properties{}
		}
		r.Properties.User = append(r.Properties.User, policy.UserProperty{Key: k, Value: v})
	}
	return r
}

// check compares what the story names of the answer, and only that.
func (a ask) check(t *testing.T, e *Engine, i int) {
	t.Helper()
	if a.Action == "verifiers" {
		refs, err := e.Verifiers(context.Background(), &policy.Client{Username: a.Username}, nil)
		got := map[string]any{"refused": err != nil}
		for _, ref := range refs {
			got["order"] = strings.TrimSpace(strings.Join([]string{text(got["order"]), ref.Verifier + ref.Name + ref.Org.String()}, " "))
		}
		a.compare(t, i, got)
		return
	}
	d := e.Judge(a.facts(t)).Decide(context.Background(), a.request(t))
	mounts := []string{}
	for _, m := range d.Mounts.List() {
		mounts = append(mounts, m.Client+" > "+m.Org)
	}
	got := map[string]any{
		"allow": d.Allow, "cause": string(d.Cause), "reason": d.Reason, "detail": d.Detail,
		"roles": strings.Join(d.Roles, " "), "mounts": strings.Join(mounts, ", "),
		"retain": d.Retain.String(), "on_deny": d.OnDeny.String(), "qos": float64(d.MaxQoS),
		"covers": float64(len(d.Covers)), "share": d.Share, "payload_max": float64(d.Limits.PayloadMax),
		"queue_overflow": d.Limits.QueueOverflow.String(), "publish_rate": d.Limits.PublishRate,
		"keepalive_max": d.Limits.KeepAliveMax.String(),
	}
	if d.Revision != e.Revision() || len(d.ID) != 16 {
		t.Errorf("question %d: revision %q and ID %q", i, d.Revision, d.ID)
	}
	if d.Allow != (d.Cause == policy.CauseNone) {
		t.Errorf("question %d: allow %v with cause %q", i, d.Allow, d.Cause)
	}
	a.compare(t, i, got)
}

func (a ask) compare(t *testing.T, i int, got map[string]any) {
	t.Helper()
	if len(a.Want) == 0 {
		t.Errorf("question %d wants nothing", i)
	}
	for _, k := range sortedKeys(a.Want) {
		g, ok := got[k]
		if !ok {
			t.Fatalf("question %d wants %q, which no answer has", i, k)
		}
		if k == "detail" {
			if !strings.Contains(text(g), text(a.Want[k])) {
				t.Errorf("question %d: detail is %q, want %q in it", i, g, a.Want[k])
			}
		} else if g != a.Want[k] {
			t.Errorf("question %d: %s is %v, want %v (detail %v)", i, k, g, a.Want[k], got["detail"])
		}
	}
}

func text(v any) string { s, _ := v.(string); return s }
