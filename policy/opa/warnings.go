package opa

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// warnOfInput finds where the rules read input so that neither the schema nor
// the memory of answers can follow. It looks at the text as it was written: the
// compiler takes such terms apart.
func warnOfInput(src *source, modules map[string]*ast.Module, report *Report) {
	for name, m := range modules {
		if !strings.HasSuffix(name, "_test.rego") {
			w := inputWarnings{src: src, report: report}
			for _, rule := range m.Rules {
				w.walk(rule)
			}
		}
	}
}

type inputWarnings struct {
	src    *source
	report *Report
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
	if operator.String() != ast.ObjectGet.Name || len(operands) == 0 {
		return false
	}
	object, ok := inputRef(operands[0])
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
	if !ref.HasPrefix(ast.InputRootRef) {
		return false
	}
	if len(ref) < 2 {
		w.whole(at)
		return true
	}
	if _, named := ref[1].Value.(ast.String); !named {
		w.whole(at)
	}
	for _, t := range ref[1:] {
		w.walk(t)
	}
	return true
}

func (w inputWarnings) whole(at *ast.Location) {
	w.report.warning(w.src, at, CodeWhole, "which fields of input are read here is only known while the rule runs: no name is checked, and an answer is remembered only for a request that is equal in all of them",
		"name the fields that are meant, such as input.topic")
}

// inputRef is t as a reference that starts at input.
func inputRef(t *ast.Term) (ast.Ref, bool) {
	switch v := t.Value.(type) {
	case ast.Var:
		return ast.InputRootRef, v == ast.InputRootDocument.Value
	case ast.Ref:
		return v, v.HasPrefix(ast.InputRootRef)
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
