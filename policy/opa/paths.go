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
	visitReads(c, rules, func(ref ast.Ref) { found[pathOf(ref)] = true }, func(string) {})
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
