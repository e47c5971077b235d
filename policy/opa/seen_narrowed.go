package opa

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy/opa/confined"
)

// ownSeen collects what an expression saw.
type ownSeen struct {
	*ownExplainer
	seenValues
	rule  *ownRule
	rules []string // that it refers to
}

func (s *ownSeen) expression(x *ast.Expr) {
	replaced := false
	calls := map[string][]confined.Call{} // of this expression, by name
	if at := s.at(beginOf(x.Loc())); at != nil {
		replaced = at.replaced
		for _, c := range at.calls {
			calls[c.Name] = append(calls[c.Name], c)
		}
	}
	operands := func(terms []*ast.Term) {
		name := terms[0].Value.String()
		if len(calls[name]) == 0 {
			return
		}
		c := calls[name][0]
		calls[name] = calls[name][1:]
		for i, t := range terms[1:] {
			if i < len(c.Operands) && c.Operands[i] != nil && !isConstant(t) {
				s.add(t.String(), shortJSON(c.Operands[i].Value))
			}
		}
	}
	var names []ast.Ref
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			names = append(names, v)
			for _, level := range v[1:] {
				if name, ok := level.Value.(ast.Var); ok {
					names = append(names, ast.Ref{ast.NewTerm(name)})
				}
			}
			return true
		case ast.Var:
			names = append(names, ast.Ref{t})
		}
		return false
	})
	for _, ref := range names {
		s.reference(ref, replaced)
	}
	if terms, ok := x.Terms.([]*ast.Term); ok && x.IsCall() && !x.IsEquality() {
		operands(terms)
	}
	ast.WalkTerms(x, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			operands(call)
		}
		return false
	})
}

func beginOf(at *ast.Location) confined.Place {
	if at == nil {
		return confined.Place{}
	}
	return confined.Place{File: at.File, Row: at.Row, Col: at.Col}
}

// reference notes what a name stands for: a part of input, a variable that is one, or
// rules.
func (s *ownSeen) reference(ref ast.Ref, replaced bool) {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return
	}
	if ref[0].Equal(ast.InputRootDocument) {
		path := s.ground(ref)
		if len(path) == 1 || replaced {
			return
		}
		if v, err := s.input.Find(path[1:]); err == nil {
			s.add(path.String(), shortJSON(v))
		} else {
			s.add(path.String(), "undefined")
		}
		return
	}
	if v := s.variable(head, 0); v != nil {
		if !replaced && len(ref) == 1 {
			s.add(string(head), shortJSON(v))
		}
		return
	}
	path := ref
	if !ref[0].Equal(ast.DefaultRootDocument) {
		path = append(append(s.rule.pkg.Copy(), ast.StringTerm(string(head))), ref[1:]...)
		for _, i := range s.rule.imports {
			if of, ok := i.Path.Value.(ast.Ref); ok && i.Name() == head {
				path = append(of.Copy(), ref[1:]...)
			}
		}
	}
	for n := len(path); n > 1; n-- {
		if name := path[:n].String(); len(s.named[name]) > 0 {
			if !slices.Contains(s.rules, name) {
				s.rules = append(s.rules, name)
			}
			return
		}
	}
}

// variable is what the body makes equal to a variable, where that is a constant or a
// part of input.
func (s *ownSeen) variable(v ast.Var, depth int) ast.Value {
	for _, x := range s.rule.body {
		if !x.IsEquality() && !x.IsAssignment() || depth > maxNested {
			continue
		}
		for i := range 2 {
			if x.Operand(i).Value.Compare(v) != 0 {
				continue
			}
			other := x.Operand(1 - i)
			if name, ok := other.Value.(ast.Var); ok {
				return s.variable(name, depth+1)
			}
			if ref, ok := other.Value.(ast.Ref); ok && ref.HasPrefix(ast.InputRootRef) {
				if path := s.ground(ref); len(path) == len(ref) {
					if found, err := s.input.Find(path[1:]); err == nil {
						return found
					}
				}
				return nil
			}
			if isConstant(other) {
				return other.Value
			}
		}
	}
	return nil
}

func isConstant(t *ast.Term) bool { return onlyVars(t) && t.Value.IsGround() }

// ground replaces the variables of a reference by their values, up to the first that
// has none.
func (s *ownSeen) ground(ref ast.Ref) ast.Ref {
	out := ast.Ref{ref[0]}
	for _, t := range ref[1:] {
		if name, ok := t.Value.(ast.Var); ok {
			v := s.variable(name, 1)
			if v == nil {
				return out
			}
			t = ast.NewTerm(v)
		} else if !t.Value.IsGround() {
			return out
		}
		out = append(out, t)
	}
	return out
}
