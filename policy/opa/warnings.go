package opa

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// warnOfInput finds where the rules read input so that neither the schema nor
// the memory of answers can follow. It looks at the text as it was written, but for
// names that stand for something: what is imported or assigned is what it is. What
// the compiler does beyond that takes such terms apart.
func warnOfInput(src *source, modules map[string]*ast.Module, report *Report) {
	live := map[string]*ast.Module{}
	for name, m := range modules {
		if !strings.HasSuffix(name, "_test.rego") {
			live[name] = m
		}
	}
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithOnlyStagesUpTo(ast.StageRewriteLocalVars)
	if c.Compile(live); c.Failed() { // it did not, a moment ago
		return
	}
	warnOfReferences(src, c.Modules, report)
	for _, m := range c.Modules {
		for _, rule := range m.Rules {
			for r := rule; r != nil; r = r.Else {
				w := inputWarnings{src: src, report: report, names: namesOfInput(r)}
				w.walk(r.Head)
				w.walk(r.Body)
			}
		}
	}
}

// namesOfInput are the variables of a rule that stand for input or for something
// below. The compiler gave each variable of a rule a name of its own.
func namesOfInput(rule *ast.Rule) map[ast.Var]ast.Ref {
	names := map[ast.Var]ast.Ref{}
	w := inputWarnings{names: names}
	for more := true; more; {
		more = false
		ast.WalkExprs(rule, func(x *ast.Expr) bool {
			if !x.IsEquality() && !x.IsAssignment() {
				return false
			}
			for i, t := range x.Operands() {
				name, ok := t.Value.(ast.Var)
				if !ok || names[name] != nil || name == ast.InputRootDocument.Value {
					continue
				}
				if ref, ok := w.inputRef(x.Operand(1 - i)); ok {
					names[name], more = ref, true
				}
			}
			return false
		})
	}
	return names
}

type inputWarnings struct {
	src    *source
	report *Report
	names  map[ast.Var]ast.Ref
}

func (w inputWarnings) walk(x any) { ast.NewGenericVisitor(w.visit).Walk(x) }

// visit returns true where it has looked below x itself.
func (w inputWarnings) visit(x any) bool {
	switch x := x.(type) {
	case *ast.With:
		w.walk(x.Value) // its target is replaced, not read
		return true
	case *ast.Expr:
		if x.IsCall() {
			return w.call(x.Location, x.Operator(), x.Operands())
		}
	case *ast.Term:
		switch v := x.Value.(type) {
		case ast.Call:
			if operator, ok := v[0].Value.(ast.Ref); ok {
				return w.call(x.Location, operator, v[1:])
			}
		case ast.Var:
			if v == ast.InputRootDocument.Value {
				w.whole(x.Location)
			}
		case ast.Ref:
			return w.ref(x.Location, v)
		}
	}
	return false
}

func (w inputWarnings) call(at *ast.Location, operator ast.Ref, operands []*ast.Term) bool {
	if operator.String() == ast.Print.Name {
		return true // the live rules do without
	}
	if operator.String() != ast.ObjectGet.Name || len(operands) == 0 {
		return false
	}
	object, ok := w.inputRef(operands[0])
	if !ok {
		return false
	}
	if !isOpen(object) {
		w.report.warning(w.src, at, CodeUntyped, "object.get on "+object.String()+" is not checked: of a misspelt name it gives the default",
			"write the field itself, such as input.topic, and a rule with default for where it is absent")
	}
	for _, t := range operands[1:] {
		w.walk(t)
	}
	return true
}

func (w inputWarnings) ref(at *ast.Location, ref ast.Ref) bool {
	full, ok := w.resolve(ref)
	if !ok {
		return false
	}
	if len(ref) < 2 && len(full) == 1 {
		w.whole(at)
		return true
	}
	below := ref[1:]
	if ref = full; len(ref) < 2 {
		return true
	}
	if _, named := ref[1].Value.(ast.String); !named {
		w.whole(at)
	}
	for _, t := range below {
		w.walk(t)
	}
	return true
}

func (w inputWarnings) whole(at *ast.Location) {
	w.report.warning(w.src, at, CodeWhole, "which fields of input are read here is only known while the rule runs: no name is checked, and an answer is remembered only for a request that is equal in all of them",
		"name the fields that are meant, such as input.topic")
}

// inputRef is t as a reference that starts at input.
func (w inputWarnings) inputRef(t *ast.Term) (ast.Ref, bool) {
	switch v := t.Value.(type) {
	case ast.Var:
		if v == ast.InputRootDocument.Value {
			return ast.InputRootRef, true
		}
		ref, ok := w.names[v]
		return ref, ok
	case ast.Ref:
		return w.resolve(v)
	}
	return nil, false
}

// resolve puts what a name stands for in its place.
func (w inputWarnings) resolve(ref ast.Ref) (ast.Ref, bool) {
	if ref.HasPrefix(ast.InputRootRef) {
		return ref, true
	}
	if name, ok := ref[0].Value.(ast.Var); ok {
		if of, ok := w.names[name]; ok {
			return of.Concat(ref[1:]), true
		}
	}
	return nil, false
}

// isOpen reports whether ref leads to where any name may stand, so that no schema
// could check it.
func isOpen(ref ast.Ref) bool {
	for _, open := range []string{"input.principal.claims", "input.principal.metadata", "input.org.data", "input.target"} {
		if text := ref.String(); text == open || strings.HasPrefix(text, open+".") || strings.HasPrefix(text, open+"[") {
			return true
		}
	}
	return false
}
