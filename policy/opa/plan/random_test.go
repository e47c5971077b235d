package plan

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

var (
	programs  = flag.Int("programs", 200, "how many random programs are compared")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

// author writes random policies: rules that refer to those before them.
type author struct {
	*rand.Rand
	vars  []string // in scope
	names []string // of rules so far
	funcs []string
	trees []string // of rules below one name
	next  int
}

func (a *author) pick(of ...string) string { return of[a.IntN(len(of))] }

func (a *author) fresh(prefix string) string {
	a.next++
	return fmt.Sprint(prefix, a.next)
}

func (a *author) literal() string {
	return a.pick("0", "1", "2", "1.0", `"a"`, `"b"`, `"c"`, "true", "false", "null", "[]", "[1, 2]", `["a", "b"]`, `{"a": 1}`, "{1, 2}", "set()", "{}")
}

// ref is a reference, whose parts may be variables.
func (a *author) ref() string {
	roots := []string{"input", "input.s", "input.o", "input.l", "data.base", "data.base.o", "data.base.l", "input.n"}
	for _, n := range append(a.names, a.names...) {
		roots = append(roots, "data.r."+n)
	}
	for _, n := range append(a.trees, a.trees...) {
		roots = append(roots, "data.r."+n, "data.r."+n)
	}
	ref := a.pick(roots...)
	for range a.IntN(3) {
		switch a.IntN(4) {
		case 0:
			ref += a.pick(".a", ".b", ".c", ".n", ".s")
		case 1:
			ref += a.pick("[0]", "[1]", `["a"]`, "[2]", "[input.s]", "[input.n]")
		default:
			if len(a.vars) > 0 {
				ref += "[" + a.pick(a.vars...) + "]"
			}
		}
	}
	return ref
}

func (a *author) expression(depth int) string {
	if depth <= 0 {
		if len(a.vars) > 0 && a.IntN(2) == 0 {
			return a.pick(a.vars...)
		}
		return a.pick(a.literal(), a.ref(), a.ref())
	}
	e := func() string { return a.expression(depth - 1) }
	switch a.IntN(16) {
	case 0:
		return "[" + e() + ", " + e() + "]"
	case 1:
		return "{" + a.pick(`"a"`, `"b"`, e()) + ": " + e() + ", " + a.pick(`"c"`, `"a"`) + ": " + e() + "}"
	case 2:
		return "count(" + e() + ")"
	case 3:
		return "object.get(" + a.pick("input", "data.base", e()) + ", " + e() + ", " + e() + ")"
	case 4:
		return `sprintf("%v-%v", [` + e() + ", " + e() + "])"
	case 5:
		if len(a.funcs) > 0 {
			return a.pick(a.funcs...) + "(" + e() + ")"
		}
		return e()
	case 6, 7, 8:
		return a.comprehension(depth - 1)
	case 9:
		return "{" + e() + ", " + e() + "}"
	case 10:
		return "(" + a.pick("1", "input.n") + " " + a.pick("+", "/", "-") + " " + a.pick("input.n", "2", "data.base.n") + ")"
	}
	return a.expression(0)
}

func (a *author) comprehension(depth int) string {
	scope := len(a.vars)
	defer func() { a.vars = a.vars[:scope] }()
	body := a.body(depth, 1+a.IntN(2))
	switch a.IntN(3) {
	case 0:
		return "[z | " + body + "; z := " + a.expression(0) + "]"
	case 1:
		return "{z | " + body + "; z := " + a.expression(0) + "}"
	}
	return "{z: y | " + body + "; z := " + a.expression(0) + "; y := " + a.expression(0) + "}"
}

func (a *author) body(depth, n int) string {
	var all []string
	for range n {
		all = append(all, a.statement(depth))
	}
	return strings.Join(all, "; ")
}

func (a *author) condition(depth int) string {
	l, r := a.expression(depth-1), a.expression(depth-1)
	switch a.IntN(5) {
	case 0:
		return l
	case 1:
		return l + " == " + r
	case 2:
		return l + " != " + r
	case 3:
		return l + " in " + r
	}
	return a.ref()
}

func (a *author) statement(depth int) string {
	switch a.IntN(11) {
	case 0, 1:
		e := a.expression(depth)
		v := a.fresh("v")
		a.vars = append(a.vars, v)
		return v + " := " + e
	case 2, 3:
		e := a.expression(depth - 1)
		v := a.fresh("x")
		a.vars = append(a.vars, v)
		return "some " + v + " in " + e
	case 4:
		e := a.ref()
		k, v := a.fresh("k"), a.fresh("x")
		a.vars = append(a.vars, k, v)
		return "some " + k + ", " + v + " in " + e
	case 5, 6:
		return "not " + a.condition(depth)
	case 7:
		e := a.expression(depth - 1)
		v := a.fresh("x")
		scope := len(a.vars)
		a.vars = append(a.vars, v)
		body := a.body(depth-1, 1)
		a.vars = a.vars[:scope]
		return "every " + v + " in " + e + " { " + body + " }"
	case 8:
		v := a.fresh("u")
		e := a.ref()
		a.vars = append(a.vars, v)
		return a.pick("["+v+", _]", `{"a": `+v+"}", "["+v+", 2]") + " = " + e
	case 9:
		targets := []string{"input.s", "input", "input.o.a", "data.base.o", "data.base"}
		for _, n := range a.names {
			targets = append(targets, "data.r."+n)
		}
		return a.condition(depth-1) + " with " + a.pick(targets...) + " as " + a.expression(0)
	}
	return a.condition(depth)
}

// rule is one definition, or several of one name.
func (a *author) rule() string {
	a.vars = nil
	name := a.fresh("p")
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	body := func() string { a.vars = nil; return a.body(2, 1+a.IntN(3)) }
	switch a.IntN(9) {
	case 0:
		for range 1 + a.IntN(3) {
			say("%s if { %s }", name, body())
		}
	case 1:
		if a.IntN(2) == 0 {
			say("default %s := %s", name, a.literal())
		}
		for range 1 + a.IntN(2) {
			b := body()
			say("%s := %s if { %s }", name, a.expression(1), b)
		}
	case 2:
		b := body()
		say("%s := %s if { %s }", name, a.expression(1), b)
		for range 1 + a.IntN(2) {
			b := body()
			say("else := %s if { %s }", a.expression(1), b)
		}
	case 3:
		for range 1 + a.IntN(2) {
			b := body()
			say("%s contains %s if { %s }", name, a.expression(1), b)
		}
	case 4:
		for range 1 + a.IntN(2) {
			b := body()
			k := a.fresh("k")
			say("%s[%s] := %s if { %s; %s := %s }", name, k, a.expression(1), b, k, a.expression(0))
		}
	case 5:
		b := body()
		k := a.fresh("k")
		a.vars = append(a.vars, k)
		say("%s[%s][l] := %s if { %s; %s := %s; l := %s }", name, k, a.expression(1), b, k, a.pick(`"a"`, `"b"`, a.expression(0)), a.expression(0))
	case 6:
		for _, child := range []string{"a", "b.c", "b.d", "s"} {
			if a.IntN(3) > 0 {
				say("%s.%s := %s if { %s }", name, child, a.expression(1), body())
			}
		}
		say("%s.n := %s", name, a.literal())
		a.trees = append(a.trees, name)
		return text.String()
	default:
		for range 1 + a.IntN(2) {
			a.vars = []string{"arg"}
			b := a.body(1, 1+a.IntN(2))
			say("%s(%s) := %s if { %s }", name, a.pick("arg", "arg", `"a"`), a.expression(1), b)
		}
		a.funcs = append(a.funcs, name)
		return text.String()
	}
	a.names = append(a.names, name)
	return text.String()
}

// A Program of any rule gives what topdown gives, whatever the planner made of it.
func TestRandomPrograms(t *testing.T) {
	t.Parallel()
	data := map[string]any{"base": map[string]any{
		"o": map[string]any{"a": 1, "b": map[string]any{"c": "a"}}, "l": []any{"a", "b", 2}, "n": 2, "s": "a", "a": false,
	}}
	store := inmem.NewFromObjectWithOpts(data, inmem.OptReturnASTValuesOnRead(true))
	var inputs []ast.Value
	for _, text := range []string{
		`{"n": 1, "s": "a", "o": {"a": 1, "b": [1, 2]}, "l": ["a", "b", 2]}`,
		`{"n": 2, "s": "b", "o": {"a": false, "c": {"a": 1}}, "l": [1, 2]}`,
		`{"n": 0, "s": "n", "o": [], "a": 1, "b": "b"}`,
	} {
		inputs = append(inputs, ast.MustParseTerm(text).Value)
	}
	compared, refused, asked := 0, 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(*programs); seed++ {
		a := &author{Rand: rand.New(rand.NewPCG(seed, 0))}
		text := "package r\n\n"
		for range 6 {
			rule := a.rule()
			names, funcs, trees := len(a.names), len(a.funcs), len(a.trees)
			if _, err := ast.CompileModules(map[string]string{"r.rego": text + rule}); err == nil {
				text += rule
				continue
			}
			// Without what this one added.
			a.names, a.funcs, a.trees = trimmed(a.names, names, text), trimmed(a.funcs, funcs, text), trimmed(a.trees, trees, text)
		}
		c, err := ast.CompileModules(map[string]string{"r.rego": text})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(a.names, a.trees...) {
			ref := ast.MustParseRef("data.r." + name)
			p, err := Compile(context.Background(), c, store, ref)
			if errors.Is(err, ErrUnsupported) {
				refused++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, input := range inputs {
				how, asks := differ(p, c, store, ref, input)
				compared++
				if asks {
					asked++
				}
				if how != "" {
					t.Errorf("seed %d: %v of %v: %s\n%s", seed, ref, input, how, text)
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d answers compared, %d left to topdown, %d rules refused", compared, asked, refused)
}

// trimmed are the names that the text defines.
func trimmed(names []string, _ int, text string) (kept []string) {
	for _, n := range names {
		if strings.Contains(text, "\n"+n) {
			kept = append(kept, n)
		}
	}
	return kept
}
