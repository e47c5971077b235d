package opa

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/revision"
)

// explainer reads one trace.
type explainer struct {
	bundle *Bundle
	trace  *tracer
	event  *audit.Event
	input  ast.Object
	// restricted: whoever reads it sees values of input, and none of the bundle's data.
	restricted bool

	described map[*ast.Rule]bool // with what failed: once is enough
	heads     map[*ast.Rule]*ast.Rule
}

// head is the rule that r is an else of, which has what its author wrote above it.
func (w *explainer) head(r *ast.Rule) *ast.Rule {
	if w.heads == nil {
		w.heads = map[*ast.Rule]*ast.Rule{}
		for _, m := range w.bundle.compiler.Modules {
			for _, first := range m.Rules {
				for next := first.Else; next != nil; next = next.Else {
					w.heads[next] = first
				}
			}
		}
	}
	if first := w.heads[r]; first != nil {
		return first
	}
	return r
}

func (w *explainer) rule(r *ast.Rule) FiredRule {
	f := FiredRule{Rule: r.Ref().String(), Position: positionOf(r.Location)}
	set := w.bundle.compiler.GetAnnotationSet()
	if set == nil {
		return f
	}
	for _, a := range set.Chain(w.head(r)) {
		if a.Annotations != nil && a.Annotations.Title != "" && (a.Annotations.Scope == "rule" || a.Annotations.Scope == "document") {
			f.Title = a.Annotations.Title
			break
		}
	}
	return f
}

func positionOf(at *ast.Location) string {
	if at == nil || at.File == "" {
		return ""
	}
	return at.File + ":" + strconv.Itoa(at.Row) + ":" + strconv.Itoa(at.Col)
}

// candidates are the attempts that would have allowed: those of the entry point whose
// answer is not a plain denial, and where its allow is another rule, those of that.
func (w *explainer) candidates(ref ast.Ref) (found []*attempt) {
	for _, a := range w.trace.of(ref) {
		allow := allowOf(a.rule)
		switch {
		case allow == nil || ast.Boolean(false).Equal(allow.Value):
		case !a.worked:
			found = append(found, a)
		default:
			refs := w.rulesBehind(a.rule, allow, 0)
			if x := madeBy(a.rule, allow); x != nil && len(refs) == 0 { // the head says when
				no := *a
				no.worked, no.failed = false, x
				found = append(found, &no)
			}
			for _, ref := range refs {
				for _, below := range w.trace.of(ref) {
					if v := below.rule.Head.Value; v == nil || !ast.Boolean(false).Equal(v.Value) {
						found = append(found, below)
					}
				}
			}
		}
	}
	return found
}

// allowOf is the term that a rule of an entry point has for allow; nil: none. The
// compiler moves what is no constant from the head into the body.
func allowOf(r *ast.Rule) *ast.Term {
	v := r.Head.Value
	for range maxNested {
		if v == nil {
			return nil
		}
		switch value := v.Value.(type) {
		case ast.Object:
			return value.Get(key.allow)
		case ast.Var:
			v = assignedTo(r, value)
		default:
			return v
		}
	}
	return v
}

// assignedTo is what the body of r makes equal to v; nil: nothing.
func assignedTo(r *ast.Rule, v ast.Var) *ast.Term {
	for _, x := range r.Body {
		if !x.IsEquality() {
			continue
		}
		if ast.Compare(x.Operand(0).Value, v) == 0 {
			return x.Operand(1)
		}
		if ast.Compare(x.Operand(1).Value, v) == 0 {
			return x.Operand(0)
		}
	}
	return nil
}

// madeBy is the call in the body of r whose result t is; nil: it is none.
func madeBy(r *ast.Rule, t *ast.Term) *ast.Expr {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return nil
	}
	for _, x := range r.Body {
		if !x.IsCall() || x.IsEquality() {
			continue
		}
		if operands := x.Operands(); len(operands) > 0 && ast.Compare(operands[len(operands)-1].Value, v) == 0 {
			return x
		}
	}
	return nil
}

// rulesBehind are the rules that a term of r gets its value from.
func (w *explainer) rulesBehind(r *ast.Rule, t *ast.Term, depth int) (refs []ast.Ref) {
	if t == nil || depth > maxNested {
		return nil
	}
	switch v := t.Value.(type) {
	case ast.Var:
		return w.rulesBehind(r, assignedTo(r, v), depth+1)
	case ast.Ref:
		if v.HasPrefix(ast.DefaultRootRef) && len(w.bundle.compiler.GetRules(v.GroundPrefix())) > 0 {
			refs = append(refs, v.GroundPrefix())
		}
	}
	return refs
}

// tried orders attempts by how far they got, what they refer to included.
func (w *explainer) tried(attempts []*attempt, depth int) []TriedRule {
	type ranked struct {
		rule TriedRule
		far  float64
	}
	var all []ranked
	seen := map[*ast.Rule]bool{}
	for _, a := range attempts {
		if a.worked || a.rule == nil || a.rule.Default || seen[a.rule] {
			continue
		}
		seen[a.rule] = true
		r, far := w.attempt(a, depth)
		all = append(all, ranked{r, far})
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		switch {
		case a.far > b.far:
			return -1
		case a.far < b.far:
			return 1
		}
		return 0
	})
	var out []TriedRule
	for _, r := range all {
		if len(out) == maxTried {
			break
		}
		out = append(out, r.rule)
	}
	return out
}

// attempt describes how far a got. An expression of the source may be several after
// compilation; they count once.
func (w *explainer) attempt(a *attempt, depth int) (TriedRule, float64) {
	t := TriedRule{FiredRule: w.rule(a.rule)}
	last := map[string]int{} // index of the last part, by where it was written
	for _, x := range a.rule.Body {
		if !x.Generated {
			last[sourceOf(x)] = x.Index
		}
	}
	t.Of = len(last)
	for _, index := range last {
		if a.failed == nil && index <= a.reached || a.failed != nil && index < a.failed.Index {
			t.Passed++
		}
	}
	far := float64(t.Passed)
	if a.failed == nil {
		return t, far
	}
	if w.described[a.rule] {
		return t, far
	}
	if w.described == nil {
		w.described = map[*ast.Rule]bool{}
	}
	w.described[a.rule] = true
	t.Failed = w.failed(a, depth)
	if len(t.Failed.Because) > 0 {
		best := t.Failed.Because[0]
		far += float64(best.Passed+1) / float64(best.Of+2)
	}
	return t, far
}

// sourceOf names the line that an expression was written on: what the compiler took
// apart stays together.
func sourceOf(x *ast.Expr) string {
	if x.Location == nil {
		return ""
	}
	return x.Location.File + ":" + strconv.Itoa(x.Location.Row)
}

func (w *explainer) failed(a *attempt, depth int) *FailedExpression {
	x := a.failed
	f := &FailedExpression{Position: positionOf(x.Location), Text: w.textOf(x)}
	values := seen{explainer: w, attempt: a}
	values.expression(x, 0)
	values.mismatch(x)
	f.Values = values.list
	if depth >= maxNested {
		return f
	}
	for _, ref := range values.rules {
		attempts := w.trace.of(ref)
		if x.Negated {
			for _, other := range attempts {
				if r := w.rule(other.rule); other.worked && !slices.Contains(f.Since, r) {
					f.Since = append(f.Since, r)
				}
			}
			continue
		}
		if !slices.ContainsFunc(attempts, func(o *attempt) bool { return o.worked }) {
			f.Because = append(f.Because, w.tried(attempts, depth+1)...)
		}
	}
	return f
}

// textOf is the source of an expression, on one line.
func (w *explainer) textOf(x *ast.Expr) string {
	if x.Location == nil {
		return ""
	}
	text := string(x.Location.Text)
	if strings.HasPrefix(text, "else") || !strings.Contains(text, "\n") {
		if line := lineAt(w.bundle.files, x.Location); line != "" {
			text = line
		}
	}
	return oneLine(text)
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func lineAt(files []revision.File, at *ast.Location) string {
	for _, f := range files {
		if f.Path == at.File {
			lines := strings.Split(string(f.Text), "\n")
			if at.Row >= 1 && at.Row <= len(lines) {
				return strings.TrimSpace(lines[at.Row-1])
			}
		}
	}
	return ""
}
