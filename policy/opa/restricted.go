package opa

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// notShown stands for a value of the platform's data where an organisation's
// administrator reads an explanation.
const notShown = "(of the platform's data)"

// fromInput reports whether what v stands for in a body of r can only have come from
// input. Comparing it with what is in input would not do: whoever describes a request
// could try every value. So the first expression that has v decides, which is what binds
// it: an equality with a reference into input, whose own variables come from input too.
// Whatever a caller or a look-up may have bound before, in the head of r, does not.
func fromInput(r *ast.Rule, v ast.Var) bool { return r != nil && comesFromInput(r, v, 0) }

func comesFromInput(r *ast.Rule, v ast.Var, depth int) bool {
	if depth > maxNested || inHead(r.Head, v) {
		return false
	}
	for _, x := range r.Body {
		if !mentions(x, v) {
			continue
		}
		if x.Negated || len(x.With) > 0 || !x.IsEquality() {
			return false
		}
		for i := range 2 {
			ref, ok := x.Operand(i).Value.(ast.Ref)
			if !ok || !ref.HasPrefix(ast.InputRootRef) {
				continue
			}
			return pathFromInput(r, ref, v, depth) && onlyVars(x.Operand(1-i))
		}
		return false
	}
	return false
}

// pathFromInput reports whether every level of ref is a constant, v itself, or comes
// from input.
func pathFromInput(r *ast.Rule, ref ast.Ref, v ast.Var, depth int) bool {
	for _, t := range ref[1:] {
		switch level := t.Value.(type) {
		case ast.String, ast.Number, ast.Boolean, ast.Null:
		case ast.Var:
			if level != v && !firstIn(r, level, ref) && !comesFromInput(r, level, depth+1) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// firstIn reports whether name is first mentioned in the expression that has ref, where
// it runs over what is in input.
func firstIn(r *ast.Rule, name ast.Var, ref ast.Ref) bool {
	if inHead(r.Head, name) {
		return false
	}
	for _, x := range r.Body {
		if mentions(x, name) {
			return x.IsEquality() && (x.Operand(0).Value.Compare(ref) == 0 || x.Operand(1).Value.Compare(ref) == 0)
		}
	}
	return false
}

// onlyVars reports whether t is made of variables and constants: a reference in it
// could bind them to something else.
func onlyVars(t *ast.Term) bool {
	only := true
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Var, ast.String, ast.Number, ast.Boolean, ast.Null, *ast.Array, ast.Object, ast.Set:
		default:
			only = false
		}
		return !only
	})
	return only
}

func inHead(h *ast.Head, v ast.Var) bool {
	terms := append(append([]*ast.Term{}, h.Args...), h.Reference...)
	if h.Key != nil {
		terms = append(terms, h.Key)
	}
	for _, t := range terms {
		found := false
		ast.WalkVars(t, func(other ast.Var) bool {
			found = found || other == v
			return found
		})
		if found {
			return true
		}
	}
	return false
}

// PublicDetail is what an organisation's administrator is told of what went wrong: all
// of it where it was the organisation's own bundle, and where it was the platform's, no
// value that its rules worked on.
func PublicDetail(cause policy.Cause, detail string) string {
	if strings.HasPrefix(detail, ownDetail) {
		return detail
	}
	if cause == policy.CauseError { // file:line:col, the class of the error, and the built-in
		if parts := strings.SplitN(detail, ": ", 4); len(parts) == 4 {
			detail = strings.Join(parts[:3], ": ")
		}
	}
	return withoutQuotes(detail)
}
