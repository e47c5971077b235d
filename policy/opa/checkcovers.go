package opa

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

const (
	coversTime = 10 * time.Second // of all proofs of one check
	maxAsked   = 4096             // inputs of tests that are looked at
)

// CheckCovers looks for a topic that covers states an answer to which the rules
// do not give. Load cannot: only a running broker knows who asks what. So here
// the bundle's tests say it: each input that they ask publish or receive about is
// a request, and the topics they ask about are tried beside those that are made
// from the filters, as Engine does. The problems have CodeCovers. A bundle that
// does not load has none.
func CheckCovers(ctx context.Context, fsys, schemas fs.FS) (problems []Problem) {
	tracer := newTestTracer()
	src, b, report := loadTraced(ctx, fsys, schemas, tracer)
	if b == nil {
		return nil
	}
	report.Problems = nil
	c := coversCheck{bundle: b, engine: New(Options{Log: slog.New(slog.DiscardHandler), Timeout: time.Second}), end: time.Now().Add(coversTime), at: time.Now(), done: map[string]bool{}}
	defer c.engine.Close()
	for _, asked := range tracer.asked {
		c.topics = append(c.topics, levelsIn(asked.input))
	}
	for _, asked := range tracer.asked {
		if message := c.check(ctx, asked); message != "" {
			report.problem(src, asked.rule, CodeCovers, message, "state only topics that every rule answers alike, or leave covers out")
		}
	}
	report.sort()
	return report.Problems
}

// testTracer notes what the tests ask the decisions that may state covers.
type testTracer struct {
	mu    sync.Mutex
	asked []askedByTest
	seen  map[string]bool
	refs  map[policy.Action]ast.Ref
}

type askedByTest struct {
	action policy.Action
	input  ast.Object
	rule   *ast.Location
}

func newTestTracer() *testTracer {
	refs := map[policy.Action]ast.Ref{}
	for _, action := range []policy.Action{policy.ActionPublish, policy.ActionReceive} {
		refs[action] = entryRef(packageOf[action], "decision")
	}
	return &testTracer{seen: map[string]bool{}, refs: refs}
}

// Enabled implements topdown.QueryTracer.
func (*testTracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*testTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (t *testTracer) TraceEvent(e topdown.Event) {
	rule, ok := e.Node.(*ast.Rule)
	if e.Op != topdown.EnterOp || !ok || rule.Head.Name != "decision" || e.Input() == nil {
		return
	}
	input, ok := e.Input().Value.(ast.Object)
	if !ok {
		return
	}
	path := rule.Ref()
	for action, ref := range t.refs {
		if path.Equal(ref) {
			t.note(askedByTest{action, input, rule.Location})
		}
	}
}

func (t *testTracer) note(a askedByTest) {
	key := a.action.String() + a.input.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.asked) < maxAsked && !t.seen[key] {
		t.seen[key] = true
		t.asked = append(t.asked, a)
	}
}

type coversCheck struct {
	bundle *Bundle
	engine *Engine
	at     time.Time // of every evaluation
	end    time.Time
	topics [][]string      // that the tests ask about
	done   map[string]bool // what differs only by its topic is proven once
}

// check is empty unless the answer to what a test asked states too much.
func (c *coversCheck) check(ctx context.Context, asked askedByTest) string {
	entry := c.bundle.entry(asked.action)
	levels := levelsIn(asked.input)
	if entry == nil || len(levels) == 0 {
		return ""
	}
	name, _ := topic.ParseName(textIn(asked.input, "topic")) // absent: the zero Name
	r := &policy.Request{Action: asked.action, Topic: name, Levels: levels}
	answer := func(r *policy.Request) answer { return c.answer(ctx, entry, asked.input, r) }
	first := answer(r)
	made := newCovering(&remembered{request: *r, decision: &first.Decision}, entry, r)
	if made == nil {
		return ""
	}
	same := fmt.Sprint(asked.action, withoutTopic(asked.input), made.filterTexts())
	if c.done[same] {
		return ""
	}
	c.done[same] = true

	p := prober{
		check: check{judge: &judge{}, entry: entry, covering: made, sample: *r}, ctx: ctx, answer: answer,
		end: time.Now().Add(min(proofTime, time.Until(c.end))), base: first,
	}
	found := p.quick()
	for _, levels := range c.topics {
		if found == agrees {
			found = p.try(levels)
		}
	}
	if found == agrees {
		found = p.full(c.words(asked.input))
	}
	if found != disagrees {
		return ""
	}
	return fmt.Sprintf("covers %s, and the rules differ: for %s they answer %s, for %s %s", made.filterTexts(),
		strings.Join(r.Levels, "/"), p.base.words(), strings.Join(p.differs.Levels, "/"), p.other.words())
}

// words are those of the bundle, and what names the asker.
func (c *coversCheck) words(input ast.Object) *words {
	w := *c.bundle.words
	t := input.Get(key.principal)
	if t == nil {
		return &w
	}
	principal, ok := t.Value.(ast.Object)
	if !ok {
		return &w
	}
	w.levels = slices.Clone(w.levels)
	principal.Foreach(func(_, v *ast.Term) {
		if s, ok := v.Value.(ast.String); ok && s != "" && !strings.ContainsAny(string(s), "/+#") {
			w.levels = append(w.levels, string(s))
		}
	})
	return &w
}

// answer asks about input with the topic of r.
func (c *coversCheck) answer(ctx context.Context, entry *entryPoint, input ast.Object, r *policy.Request) answer {
	changed := ast.NewObject()
	input.Foreach(func(k, v *ast.Term) { changed.Insert(k, v) })
	changed.Insert(key.levels, texts(r.Levels))
	if !r.Topic.IsZero() {
		changed.Insert(key.topic, ast.StringTerm(r.Topic.String()))
	}
	value, cause, err := c.engine.evaluate(ctx, entry, changed, c.at)
	if cause == policy.CauseNone {
		a, err := decode(r.Action, value)
		if err == nil {
			return a
		}
		return answer{Decision: policy.Decision{Cause: policy.CauseMalformed, Detail: err.Error()}}
	}
	return answer{Decision: policy.Decision{Cause: cause, Detail: err.Error()}}
}

// words is an answer for whoever wrote the policy.
func (a *answer) words() string {
	if a.Cause != policy.CauseNone && a.Cause != policy.CausePolicy {
		return "nothing (" + a.Detail + ")"
	}
	text := fmt.Sprintf("allow %v", a.Allow)
	if a.Reason != "" {
		text += fmt.Sprintf(", reason %q", a.Reason)
	}
	if a.hasTTL {
		text += ", ttl " + a.ttl.String()
	}
	return text
}

func withoutTopic(input ast.Object) ast.Object {
	left := ast.NewObject()
	input.Foreach(func(k, v *ast.Term) {
		if k.Value.Compare(key.levels.Value) != 0 && k.Value.Compare(key.topic.Value) != 0 {
			left.Insert(k, v)
		}
	})
	return left
}

// levelsIn is input.levels, if that is what it has to be.
func levelsIn(input ast.Object) (levels []string) {
	t := input.Get(key.levels)
	if t == nil {
		return nil
	}
	list, ok := t.Value.(*ast.Array)
	if !ok {
		return nil
	}
	list.Foreach(func(t *ast.Term) {
		s, isText := t.Value.(ast.String)
		ok = ok && isText
		levels = append(levels, string(s))
	})
	if !ok {
		return nil
	}
	return levels
}

func textIn(input ast.Object, field string) string {
	t := input.Get(ast.StringTerm(field))
	if t == nil {
		return ""
	}
	s, _ := t.Value.(ast.String)
	return string(s)
}
