package opa

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa/confined"
	"github.com/cordon-mq/cordon/policy/revision"
)

// OwnExplanation is what the organisation's own bundle had to say about what the
// platform's allowed.
type OwnExplanation struct {
	Revision string       `json:"revision"`
	Allow    bool         `json:"allow"`
	Reason   string       `json:"reason,omitempty"`
	Cause    policy.Cause `json:"cause,omitempty"`
	Detail   string       `json:"detail,omitempty"`
	Fired    []FiredRule  `json:"fired,omitempty"`
	Tried    []TriedRule  `json:"tried,omitempty"`
}

// decides is the rule for an action; nil: nothing is narrowed.
func (n *Narrowing) decides(action policy.Action) *narrowRule {
	if n == nil {
		return nil
	}
	return n.decisions[action]
}

// explainOwn has the organisation's bundle asked about what the platform allowed, and
// makes a the answer of both. alone: it was asked then, and cannot be now.
func (b *Bundle) explainOwn(ctx context.Context, action policy.Action, ev *audit.Event, input ast.Object, how Explaining, a *answer, x *Explanation) (alone bool, err error) {
	recorded, narrowed := ev.Bundles[audit.BundleOrganisation]
	if described := ev.DecisionID == ""; !narrowed && !described {
		return false, nil
	}
	rule := how.Own.decides(action)
	unable := ""
	switch {
	case !narrowed && rule == nil || !a.Allow && !narrowed:
		return false, nil
	case !a.Allow:
		x.note("the organisation's own policy, revision %s, answered then; it is not asked about what the platform's refuses", recorded.Revision)
		return false, nil
	case rule == nil:
		unable = "the organisation has no such policy any more"
	case masked(ev):
		unable = "a mask hides input, and the organisation's rules may read it"
	}
	if unable != "" {
		x.note("the organisation's own policy, revision %s, was asked after the platform's, and cannot be asked again: %s", recorded.Revision, unable)
		if narrowed && !ev.Custom.Allow {
			x.note("the platform's policy allows it, and the organisation's refused: %s", cmp.Or(ev.Custom.Reason, ev.Custom.Detail, ev.Custom.Cause.Public()))
		}
		return true, nil
	}
	if recorded.Revision != "" && recorded.Revision != how.Own.revision {
		x.note("the organisation's own policy was revision %s, and is explained with %s", recorded.Revision, how.Own.revision)
	}
	n, trace := rule.explain(ctx, action, input, a, timeOf(ev))
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	*a = n
	x.Organisation = &OwnExplanation{Revision: how.Own.revision, Allow: n.Allow, Reason: n.Reason, Cause: n.Cause, Detail: n.Detail}
	if trace != nil {
		w, err := newOwnExplainer(how.Own, trace, input)
		if err != nil {
			return false, err
		}
		x.Organisation.Fired = w.fired()
		if !n.Allow {
			x.Organisation.Tried = w.tried(w.candidates(rule.ref), 0)
		}
	}
	return false, nil
}

// ownExplainer reads one trace of rules that run confined. It sees less than explainer
// does: the plan that is carried out has positions and no names of variables.
type ownExplainer struct {
	files []revision.File
	trace *confined.Trace
	input ast.Object

	rules     []*ownRule // in the order of the source
	named     map[string][]*ownRule
	places    map[string][]ownPlace // by file, in order
	described map[*ownRule]bool
	lines     map[string][]string // of files
	left      int                 // attempts that may still be looked at
}

// maxOwnAttempts bounds the work of explaining rules that nobody vouches for.
const maxOwnAttempts = 4096

type ownRule struct {
	FiredRule
	rule    *ast.Rule
	pkg     ast.Ref
	imports []*ast.Import
	body    []*ast.Expr // as its author wrote it
	reached []int       // in body, in the order of the first time
	order   int         // of having given a value; 0: it has not
}

// ownPlace is where an expression begins, or with -1 the head of its rule.
type ownPlace struct {
	row, col int
	rule     *ownRule
	expr     int
	replaced bool // with was around it
	calls    []confined.Call
}

func newOwnExplainer(n *Narrowing, trace *confined.Trace, input ast.Object) (*ownExplainer, error) {
	w := &ownExplainer{
		files: n.files, trace: trace, input: input,
		named: map[string][]*ownRule{}, places: map[string][]ownPlace{}, described: map[*ownRule]bool{},
		lines: map[string][]string{}, left: maxOwnAttempts,
	}
	for _, f := range n.files {
		if !strings.HasSuffix(f.Path, ".rego") || strings.HasSuffix(f.Path, "_test.rego") {
			continue
		}
		m, err := ast.ParseModuleWithOpts(f.Path, string(f.Text), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		if err != nil {
			return nil, fmt.Errorf("read %s again: %w", f.Path, err)
		}
		w.module(m)
	}
	for _, all := range w.places {
		slices.SortStableFunc(all, func(a, b ownPlace) int {
			return cmp.Or(cmp.Compare(a.row, b.row), cmp.Compare(a.col, b.col), cmp.Compare(a.expr, b.expr))
		})
	}
	for i, s := range trace.Steps {
		p := w.at(s.Place)
		if p == nil {
			continue
		}
		p.replaced = p.replaced || s.Replaced
		switch {
		case p.expr >= 0 && !slices.Contains(p.rule.reached, p.expr):
			p.rule.reached = append(p.rule.reached, p.expr)
		case p.expr < 0 && s.Gave && s.Row == p.row && s.Col == p.col && p.rule.order == 0:
			p.rule.order = i + 1
		}
	}
	for _, c := range trace.Calls {
		if p := w.at(c.Place); p != nil {
			p.calls = append(p.calls, c)
		}
	}
	return w, nil
}

func (w *ownExplainer) module(m *ast.Module) {
	titles := map[int]string{} // by the row that they are about
	for _, a := range m.Annotations {
		if a.Title != "" && (a.Scope == "rule" || a.Scope == "document") && a.EndLoc() != nil {
			titles[a.EndLoc().Row+1] = a.Title
		}
	}
	for _, first := range m.Rules {
		name := append(m.Package.Path.Copy(), first.Head.Ref()...)
		if len(name) > len(m.Package.Path) {
			name[len(m.Package.Path)] = ast.StringTerm(strings.Trim(name[len(m.Package.Path)].Value.String(), `"`))
		}
		path := name.GroundPrefix().String()
		for r := first; r != nil; r = r.Else {
			at := r.Head.Loc()
			if at == nil {
				at = r.Loc()
			}
			own := &ownRule{rule: r, pkg: m.Package.Path, imports: m.Imports}
			own.FiredRule = FiredRule{Rule: path, Position: positionOf(at), Title: titles[first.Loc().Row]}
			w.rules = append(w.rules, own)
			w.named[path] = append(w.named[path], own)
			w.places[at.File] = append(w.places[at.File], ownPlace{row: at.Row, col: at.Col, rule: own, expr: -1})
			for _, x := range r.Body {
				if x.Loc() == nil || len(r.Body) == 1 && ast.NewExpr(ast.BooleanTerm(true)).Equal(x) {
					continue // the body of a rule that has none
				}
				w.places[at.File] = append(w.places[at.File], ownPlace{row: x.Loc().Row, col: x.Loc().Col, rule: own, expr: len(own.body)})
				own.body = append(own.body, x)
			}
		}
	}
}

// at is the expression or the head that p is in: the last that begins before.
func (w *ownExplainer) at(p confined.Place) *ownPlace {
	all := w.places[p.File]
	i, found := slices.BinarySearchFunc(all, p, func(o ownPlace, p confined.Place) int {
		return cmp.Or(cmp.Compare(o.row, p.Row), cmp.Compare(o.col, p.Col))
	})
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	return &all[i]
}

func (w *ownExplainer) fired() []FiredRule {
	var gave []*ownRule
	for _, r := range w.rules {
		if r.order > 0 {
			gave = append(gave, r)
		}
	}
	slices.SortStableFunc(gave, func(a, b *ownRule) int { return a.order - b.order })
	list := make([]FiredRule, len(gave))
	for i, r := range gave {
		list[i] = r.FiredRule
	}
	return list
}

// candidates are the rules of a decision that would have allowed.
func (w *ownExplainer) candidates(ref string) (found []*ownRule) {
	for _, r := range w.named[ref] {
		if allow := w.allowOf(r); allow != nil && !ast.Boolean(false).Equal(allow.Value) {
			found = append(found, r)
		}
	}
	return found
}

// allowOf is what a rule has for allow, as it is written.
func (w *ownExplainer) allowOf(r *ownRule) *ast.Term {
	v := r.rule.Head.Value
	for range maxNested {
		if v == nil {
			return nil
		}
		switch value := v.Value.(type) {
		case ast.Object:
			return value.Get(key.allow)
		case ast.Var:
			v = assignedTo(r.rule, value)
		default:
			return v
		}
	}
	return nil
}

// tried orders rules that did not allow by how far they got.
func (w *ownExplainer) tried(rules []*ownRule, depth int) []TriedRule {
	type ranked struct {
		TriedRule
		far float64
	}
	var all []ranked
	for _, r := range rules {
		if w.left--; w.left < 0 {
			break
		}
		if r.rule.Default || depth > 0 && r.order > 0 {
			continue
		}
		t := TriedRule{FiredRule: r.FiredRule, Of: len(r.body)}
		switch {
		case r.order > 0: // it gave an answer, which does not allow
			t.Passed = t.Of
			if allow := w.allowOf(r); allow != nil && !w.described[r] {
				w.described[r] = true
				t.Failed = w.failed(r, ast.NewExpr(allow).SetLocation(allow.Location), depth)
			}
		case len(r.reached) == 0 && len(r.body) > 0:
			continue // another was enough
		case len(r.reached) > 0:
			t.Passed = len(r.reached) - 1
			if !w.described[r] {
				w.described[r] = true
				t.Failed = w.failed(r, r.body[r.reached[t.Passed]], depth)
			}
		}
		far := float64(t.Passed)
		if t.Failed != nil && len(t.Failed.Because) > 0 {
			best := t.Failed.Because[0]
			far += float64(best.Passed+1) / float64(best.Of+2)
		}
		all = append(all, ranked{t, far})
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.far, a.far) })
	out := make([]TriedRule, 0, min(len(all), maxTried))
	for _, r := range all[:min(len(all), maxTried)] {
		out = append(out, r.TriedRule)
	}
	return out
}

func (w *ownExplainer) failed(r *ownRule, x *ast.Expr, depth int) *FailedExpression {
	f := &FailedExpression{Position: positionOf(x.Loc())}
	if x.Loc() != nil {
		f.Text = oneLine(string(x.Loc().Text))
		if !strings.Contains(string(x.Loc().Text), "\n") {
			f.Text = cmp.Or(oneLine(w.line(x.Loc())), f.Text)
		}
	}
	s := ownSeen{ownExplainer: w, rule: r}
	s.expression(x)
	f.Values = s.list
	if depth >= maxNested {
		return f
	}
	for _, path := range s.rules {
		rules := w.named[path]
		gave := slices.ContainsFunc(rules, func(r *ownRule) bool { return r.order > 0 && !r.rule.Default })
		switch {
		case x.Negated:
			for _, other := range rules {
				if other.order > 0 && !slices.Contains(f.Since, other.FiredRule) {
					f.Since = append(f.Since, other.FiredRule)
				}
			}
		case !gave:
			f.Because = append(f.Because, w.tried(rules, depth+1)...)
		}
	}
	return f
}

func (w *ownExplainer) line(at *ast.Location) string {
	lines, known := w.lines[at.File]
	if !known {
		for _, f := range w.files {
			if f.Path == at.File {
				lines = strings.Split(string(f.Text), "\n")
			}
		}
		w.lines[at.File] = lines
	}
	if at.Row < 1 || at.Row > len(lines) {
		return ""
	}
	return strings.TrimSpace(lines[at.Row-1])
}

// explain is replay by somebody who looks on. The trace is nil where there is none.
func (r *narrowRule) explain(ctx context.Context, action policy.Action, input ast.Object, a *answer, at time.Time) (answer, *confined.Trace) {
	return r.answer(ctx, action, input, a, at, r.program.Explain)
}
