package opa

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// inputPaths are what rules can read of input, each a prefix such as "/principal/kind".
// The empty one is the whole of it.
type inputPaths []string

// pathsOf finds them. It errs to the side of more.
func pathsOf(c *ast.Compiler, rules []*ast.Rule) inputPaths {
	found := map[string]bool{}
	reached := map[*ast.Rule]bool{}
	queue := slices.Clone(rules)
	var visit func(x any) bool
	visit = func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			if x == ast.InputRootDocument.Value {
				found[""] = true
			}
		case ast.Ref:
			switch {
			case x.HasPrefix(ast.InputRootRef):
				found[pathOf(x)] = true
			case x.HasPrefix(ast.DefaultRootRef):
				queue = append(queue, c.GetRulesDynamicWithOpts(x, ast.RulesOptions{IncludeHiddenModules: true})...)
			default:
				ast.NewGenericVisitor(visit).Walk(x[0])
			}
			for _, t := range x[1:] {
				ast.NewGenericVisitor(visit).Walk(t)
			}
			return true
		}
		return false
	}
	for len(queue) > 0 {
		rule := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if reached[rule] {
			continue
		}
		reached[rule] = true
		for dependency := range c.Graph.Dependencies(rule) {
			if r, ok := dependency.(*ast.Rule); ok {
				queue = append(queue, r)
			}
		}
		ast.NewGenericVisitor(visit).Walk(rule)
	}
	paths := make(inputPaths, 0, len(found))
	for p := range found {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// pathOf is the constant part of a reference below input.
func pathOf(ref ast.Ref) string {
	var b strings.Builder
	for _, t := range ref[1:] {
		switch v := t.Value.(type) {
		case ast.String:
			b.WriteString("/" + string(v))
		case ast.Number:
			b.WriteString("/" + string(v))
		default:
			return b.String()
		}
	}
	return b.String()
}

// reads reports whether the rules can read something at, above or below path.
func (ps inputPaths) reads(path string) bool {
	return slices.ContainsFunc(ps, func(p string) bool {
		return p == path || p == "" || path == "" || strings.HasPrefix(p, path+"/") || strings.HasPrefix(path, p+"/")
	})
}
