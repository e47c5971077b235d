package opa

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// seenValues are the values of names, each once and not too many.
type seenValues struct {
	names map[string]bool
	list  []SeenValue
}

func (s *seenValues) add(name, value string) {
	if s.names[name] || len(s.list) >= maxValues {
		return
	}
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[name] = true
	s.list = append(s.list, SeenValue{Name: name, Value: value})
}

// seen collects what an expression saw.
type seen struct {
	*explainer
	seenValues
	attempt *attempt
	rules   []ast.Ref // of the bundle that it refers to
}

// expression looks at x and at the expressions of the same body that made the
// generated variables in it.
func (s *seen) expression(x *ast.Expr, depth int) {
	if depth > maxNested {
		return
	}
	local := map[ast.Var]bool{}
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if x.IsCall() && len(x.Terms.([]*ast.Term)) > 0 && t == x.Terms.([]*ast.Term)[0] {
				return true // the operator
			}
			s.reference(v)
			for _, below := range v[1:] {
				if name, ok := below.Value.(ast.Var); ok {
					local[name] = true
				}
			}
			return true
		case ast.Var:
			local[v] = true
		}
		return false
	})
	for _, v := range sortedVars(local) {
		s.variable(v, x, depth)
	}
}

func sortedVars(set map[ast.Var]bool) []ast.Var {
	all := make([]ast.Var, 0, len(set))
	for v := range set {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

func (s *seen) variable(v ast.Var, in *ast.Expr, depth int) {
	if name := s.written(v); name != "" {
		if value := s.value(ast.NewTerm(v)); value != nil {
			s.add(name, shortJSON(value))
		} else if s.restricted && s.bound(v) != nil {
			s.add(name, notShown)
		}
		return
	}
	if !v.IsGenerated() {
		return
	}
	for _, other := range s.attempt.rule.Body {
		if other.Index < in.Index && mentions(other, v) {
			s.expression(other, depth+1)
		}
	}
}

func mentions(x *ast.Expr, v ast.Var) bool {
	found := false
	ast.WalkVars(x, func(other ast.Var) bool {
		found = found || other == v
		return found
	})
	return found
}

// written is what the author calls a variable; empty: the compiler made it.
func (s *seen) written(v ast.Var) string {
	if m, ok := s.attempt.names[v]; ok && m.Name != "" && !m.Name.IsGenerated() && !m.Name.IsWildcard() && !strings.HasPrefix(string(m.Name), "__local") {
		return string(m.Name)
	}
	if name, ok := s.bundle.compiler.RewrittenVars[v]; ok && !name.IsGenerated() && !name.IsWildcard() && !strings.HasPrefix(string(name), "__local") {
		return string(name)
	}
	return ""
}

// value is what a term stands for; nil: nothing, or nothing that is known.
func (s *seen) value(t *ast.Term) ast.Value {
	switch v := t.Value.(type) {
	case ast.Var:
		if s.restricted && !fromInput(s.attempt.rule, v) {
			return nil
		}
		return s.bound(v)
	case ast.Ref:
		if !v.HasPrefix(ast.InputRootRef) {
			return nil
		}
		path := s.ground(v)
		if len(path) != len(v) || s.hidden(path) {
			return nil
		}
		found, err := s.input.Find(path[1:])
		if err != nil {
			return nil
		}
		return found
	}
	if t.Value.IsGround() {
		return t.Value
	}
	return nil
}

// bound is what a variable stood for; nil: nothing that is known.
func (s *seen) bound(v ast.Var) ast.Value {
	if s.attempt.locals == nil {
		return nil
	}
	bound := s.attempt.locals.Get(v)
	if bound == nil || !bound.IsGround() {
		return nil
	}
	return bound
}

// ground replaces the variables of a reference by their values, up to the first that
// has none.
func (s *seen) ground(ref ast.Ref) ast.Ref {
	out := ast.Ref{ref[0]}
	for _, t := range ref[1:] {
		if _, ok := t.Value.(ast.Var); ok {
			v := s.value(t)
			if v == nil {
				return out
			}
			t = ast.NewTerm(v)
		}
		out = append(out, t)
	}
	return out
}

func (s *seen) hidden(ref ast.Ref) bool {
	return concealed(s.event, "/input"+pathOf(ref))
}

// reference notes the value of what ref names in input, or which rules it names.
func (s *seen) reference(ref ast.Ref) {
	switch {
	case ref.HasPrefix(ast.InputRootRef):
		path := s.ground(ref)
		if len(path) == 1 {
			return // the whole of it
		}
		name := path.String()
		if s.hidden(path) {
			s.add(name, "(masked)")
			return
		}
		if v, err := s.input.Find(path[1:]); err == nil {
			s.add(name, shortJSON(v))
		} else {
			s.add(name, "undefined")
		}
	case ref.HasPrefix(ast.DefaultRootRef):
		ground := ref.GroundPrefix()
		if len(s.bundle.compiler.GetRules(ground)) > 0 {
			s.rules = append(s.rules, ground)
		}
	}
}

// mismatch says of two arrays that were to be equal where they first are not.
func (s *seen) mismatch(x *ast.Expr) {
	if !x.IsEquality() {
		return
	}
	a, b := x.Operand(0), x.Operand(1)
	pattern, ok := a.Value.(*ast.Array)
	other := b
	if !ok {
		pattern, ok = b.Value.(*ast.Array)
		other = a
	}
	if !ok {
		return
	}
	value, ok := s.value(other).(*ast.Array)
	if !ok {
		return
	}
	name := "value"
	if ref, ok := other.Value.(ast.Ref); ok {
		name = ref.String()
	} else if v, ok := other.Value.(ast.Var); ok && s.written(v) != "" {
		name = s.written(v)
	}
	if pattern.Len() != value.Len() {
		s.list = append(s.list, SeenValue{Name: "count(" + name + ")", Value: strconv.Itoa(value.Len()), Want: strconv.Itoa(pattern.Len())})
		return
	}
	for i := range pattern.Len() {
		want := s.value(pattern.Elem(i))
		if want == nil || ast.Compare(want, value.Elem(i).Value) == 0 {
			continue
		}
		if ref, ok := pattern.Elem(i).Value.(ast.Ref); ok && s.hidden(ref) {
			continue
		}
		s.list = append(s.list, SeenValue{Name: name + "[" + strconv.Itoa(i) + "]", Value: shortJSON(value.Elem(i).Value), Want: shortJSON(want)})
		return
	}
}

func shortJSON(v ast.Value) string {
	var b bytes.Buffer
	if err := writeJSON(&b, v); err != nil {
		return v.String()
	}
	text := b.String()
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
