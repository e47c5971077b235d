package opa

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// denyRule is what the built-in rules look for in each package, and need not find.
const denyRule = "deny"

// warnOfReferences finds what is spelt in two ways: data that rules read and
// nothing in the bundle defines, and packages that nobody asks. For the language
// neither is an error. A rule that takes something away and reads such data takes
// nothing away. The modules have their references resolved.
func warnOfReferences(src *source, modules map[string]*ast.Module, report *Report) {
	n := newNamespace(modules, parseData(src, &Report{}))
	for _, m := range modules {
		n.walk(m, func(ref ast.Ref) {
			path := constantPath(ref)
			if missing := n.missing(path); missing >= 0 && path[missing] != denyRule {
				report.warning(src, ref[0].Location, CodeUndefined, "data."+strings.Join(path[:missing+1], ".")+" is defined nowhere in the bundle: whatever reads it is undefined",
					nearest(path[missing], n.names(path[:missing])))
			}
		})
		if name := constantPath(m.Package.Path); !n.asked(name) {
			report.warning(src, m.Package.Location, CodeUnasked, "nobody asks package "+strings.Join(name, "."), nearest(strings.Join(name, "."), decisionPackages()))
		}
	}
}

func decisionPackages() []string {
	var all []string
	for _, pkg := range packageOf {
		all = append(all, "cordon."+pkg)
	}
	slices.Sort(all)
	return all
}

// namespace is what there is below data, as far as its names are constants.
type namespace struct {
	packages, rules [][]string // their paths
	data            map[string]any
	refs            map[string][][]string // what each package refers to
}

func newNamespace(modules map[string]*ast.Module, data map[string]any) *namespace {
	n := &namespace{data: data, refs: map[string][][]string{}}
	for _, m := range modules {
		n.packages = append(n.packages, constantPath(m.Package.Path))
		for _, rule := range m.Rules {
			n.rules = append(n.rules, constantPath(rule.Ref().GroundPrefix()))
		}
		name := m.Package.Path.String()
		n.walk(m, func(ref ast.Ref) { n.refs[name] = append(n.refs[name], constantPath(ref)) })
	}
	return n
}

// walk calls f with every reference to data, but for the targets of with, which are
// replaced and need not be there.
func (n *namespace) walk(m *ast.Module, f func(ast.Ref)) {
	var visit func(x any) bool
	visit = func(x any) bool {
		switch x := x.(type) {
		case *ast.Package, *ast.Import:
			return true
		case *ast.With:
			ast.NewGenericVisitor(visit).Walk(x.Value)
			return true
		case ast.Ref:
			if x.HasPrefix(ast.DefaultRootRef) {
				f(x)
			}
		}
		return false
	}
	for _, rule := range m.Rules {
		ast.NewGenericVisitor(visit).Walk(rule)
	}
}

// constantPath is the path of ref below data, up to the first name that is none.
func constantPath(ref ast.Ref) (path []string) {
	for _, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(name))
	}
	return path
}

// missing is the place of the first name in path that nothing defines; -1: there
// is none.
func (n *namespace) missing(path []string) int {
	var value any = n.data
	for i, name := range path {
		object, ok := value.(map[string]any)
		if !ok && value != nil {
			return -1 // inside a value that is no object
		}
		value = object[name]
		_, known := object[name]
		begins := func(of []string) bool { return len(of) > i && slices.Equal(of[:i+1], path[:i+1]) }
		if known = known || slices.ContainsFunc(n.packages, begins) || slices.ContainsFunc(n.rules, begins); !known {
			return i
		}
		if slices.ContainsFunc(n.rules, func(rule []string) bool { return slices.Equal(rule, path[:i+1]) }) {
			return -1 // inside what a rule gives
		}
	}
	return -1
}

// names are those that follow path.
func (n *namespace) names(path []string) []string {
	all := map[string]bool{}
	var value any = n.data
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	if object, ok := value.(map[string]any); ok {
		for name := range object {
			all[name] = true
		}
	}
	for _, rule := range slices.Concat(n.packages, n.rules) {
		if len(rule) > len(path) && slices.Equal(rule[:len(path)], path) && !strings.HasPrefix(rule[len(path)], "_") {
			all[rule[len(path)]] = true
		}
	}
	var list []string
	for name := range all {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// asked reports whether the program asks a package, or the rules of another do.
func (n *namespace) asked(name []string) bool {
	if name[0] == "system" {
		return true
	}
	for action := policy.ActionConnect; action <= policy.ActionAdminister; action++ {
		if slices.Equal(name, []string{"cordon", packageOf[action]}) {
			return true
		}
	}
	self := "data." + strings.Join(name, ".")
	for pkg, refs := range n.refs {
		if pkg == self {
			continue
		}
		for _, ref := range refs {
			if k := min(len(ref), len(name)); slices.Equal(ref[:k], name[:k]) {
				return true
			}
		}
	}
	return false
}
