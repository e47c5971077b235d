package confined

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// OPA's compiler writes the type of [x, x] with the type of x in it twice, and
// compares and prints types as trees: thirty lines, each of which holds the one
// before twice, keep it busy for ever. typeSizes finds out before, from the text
// alone, how large the types of rules and variables can become. It errs to the side
// of more.
type typeSizes struct {
	rules map[string][]*ruleType // by path, and by each beginning of a path
	known map[*ruleType]int
}

type ruleType struct {
	module *ast.Module
	rule   *ast.Rule
	levels int // of its path
}

func checkTypes(modules map[string]*ast.Module) (found []Excess) {
	s := &typeSizes{rules: map[string][]*ruleType{}, known: map[*ruleType]int{}}
	var all []*ruleType
	for _, name := range util.KeysSorted(modules) {
		m := modules[name]
		for _, r := range m.Rules {
			path := append(m.Package.Path.Copy(), r.Head.Ref()...)
			t := &ruleType{module: m, rule: r, levels: len(path)}
			all = append(all, t)
			for n := 2; n <= len(path); n++ {
				if key, ok := pathKey(path, n); ok {
					s.rules[key] = append(s.rules[key], t)
				}
			}
		}
	}
	for _, t := range all {
		if s.rule(t) >= maxType {
			return []Excess{{t.rule.Location, fmt.Sprintf("the type of this rule has more than %d parts", maxType)}}
		}
	}
	return nil
}

// pathKey is the first n levels of a path, which begins with data; false where
// one of them is no constant.
func pathKey(path ast.Ref, n int) (string, bool) {
	levels := make([]string, 0, n-1)
	for i, t := range path[1:n] {
		switch v := t.Value.(type) {
		case ast.String:
			levels = append(levels, string(v))
		case ast.Var:
			if i+1 != len(path)-1 && len(levels) == 0 {
				return "", false
			}
			levels = append(levels, string(v)) // the name of a rule, in a head
		default:
			return "", false
		}
	}
	return joinPath(levels), true
}

func saturated(n int) int { return min(n, maxType) }

// rule is the size of what t answers, and of the largest variable in it.
func (s *typeSizes) rule(t *ruleType) int {
	if n, ok := s.known[t]; ok {
		return n
	}
	s.known[t] = 1 // where rules refer to each other in a circle, the compiler says so
	total := 0
	for r := t.rule; r != nil; r = r.Else {
		in := &ruleScope{sizes: s, of: t, terms: map[ast.Var][]*ast.Term{}, known: map[ast.Var]int{}}
		in.collect(r)
		n := 1
		for _, part := range []*ast.Term{r.Head.Key, r.Head.Value} {
			if part != nil {
				n += in.term(part)
			}
		}
		for name := range in.terms {
			n = max(n, in.local(name))
		}
		ast.WalkTerms(r, func(part *ast.Term) bool {
			n = max(n, in.term(part))
			return false
		})
		total = saturated(total + n)
	}
	s.known[t] = total
	return total
}

// ruleScope knows what the variables of one rule are bound to.
type ruleScope struct {
	sizes *typeSizes
	of    *ruleType
	terms map[ast.Var][]*ast.Term
	known map[ast.Var]int
}

func (in *ruleScope) collect(r *ast.Rule) {
	bind := func(to, from *ast.Term) {
		ast.WalkVars(to, func(v ast.Var) bool {
			in.terms[v] = append(in.terms[v], from)
			return false
		})
	}
	ast.WalkExprs(r, func(x *ast.Expr) bool {
		switch terms := x.Terms.(type) {
		case *ast.SomeDecl:
			for _, t := range terms.Symbols {
				if call, ok := t.Value.(ast.Call); ok { // member(k, v, collection)
					for _, to := range call[1 : len(call)-1] {
						bind(to, call[len(call)-1])
					}
				}
			}
		case *ast.Every:
			bind(terms.Value, terms.Domain)
			if terms.Key != nil {
				bind(terms.Key, terms.Domain)
			}
		case []*ast.Term:
			if len(terms) == 3 && (x.IsEquality() || x.IsAssignment()) {
				bind(terms[1], terms[2])
				if x.IsEquality() {
					bind(terms[2], terms[1])
				}
			} else if len(terms) > 2 { // a call may bind its last operand
				bind(terms[len(terms)-1], ast.CallTerm(terms[:len(terms)-1]...))
			}
		}
		return false
	})
}

func (in *ruleScope) local(name ast.Var) int {
	if n, ok := in.known[name]; ok {
		return n
	}
	in.known[name] = 1
	n := 1
	for _, t := range in.terms[name] {
		n = saturated(n + in.term(t))
	}
	in.known[name] = n
	return n
}

func (in *ruleScope) term(t *ast.Term) int {
	n := 1
	add := func(t *ast.Term) { n = saturated(n + in.term(t)) }
	switch v := t.Value.(type) {
	case ast.Var:
		if _, bound := in.terms[v]; bound {
			return in.local(v)
		}
		return in.reference(ast.Ref{t})
	case ast.Ref:
		return in.reference(v)
	case ast.Call:
		if operator, ok := v[0].Value.(ast.Ref); ok {
			n = in.reference(operator)
		}
		for _, operand := range v[1:] {
			if !isScalar(operand) {
				n = max(n, in.term(operand))
			}
		}
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) {
			add(k)
			add(x)
		})
	case *ast.ArrayComprehension:
		add(v.Term)
	case *ast.SetComprehension:
		add(v.Term)
	case *ast.ObjectComprehension:
		add(v.Key)
		add(v.Value)
	}
	return n
}

func isScalar(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// reference is the size of what a reference leads to: a variable, a rule, or all
// the rules below a path.
func (in *ruleScope) reference(ref ast.Ref) int {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return 1
	}
	if _, bound := in.terms[head]; bound {
		return in.local(head)
	}
	path := ref
	if head != ast.DefaultRootDocument.Value {
		path = in.resolve(head, ref)
	}
	if path == nil {
		return 1
	}
	for n := len(path); n >= 2; n-- {
		key, ok := pathKey(path, n)
		if !ok {
			continue
		}
		total := 1
		for _, t := range in.sizes.rules[key] {
			if n == len(path) || t.levels == n { // what is below the path, or the path is below
				total = saturated(total + in.sizes.rule(t))
			}
		}
		if total > 1 {
			return total
		}
	}
	return 1
}

// resolve is the whole path of a name that an import or the package gives; nil for
// any other.
func (in *ruleScope) resolve(head ast.Var, ref ast.Ref) ast.Ref {
	for _, i := range in.of.module.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok && i.Name() == head {
			if path[0].Value.Compare(ast.DefaultRootDocument.Value) != 0 {
				return nil
			}
			return append(path.Copy(), ref[1:]...)
		}
	}
	return append(append(in.of.module.Package.Path.Copy(), ast.StringTerm(string(head))), ref[1:]...)
}
