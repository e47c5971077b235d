package confined

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Every built-in of this OPA version is either allowed or refused with a reason. One
// that a later version adds fails here until somebody has looked at it.
func TestEveryBuiltinIsClassified(t *testing.T) {
	t.Parallel()
	all := map[string]bool{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		all[b.Name] = true
		_, ok := allowed[b.Name]
		if why := WhyNot(b.Name); ok == (why != "") {
			t.Errorf("%s: allowed %v, refused because it %q", b.Name, ok, why)
		}
	}
	for name := range allowed {
		if !all[name] {
			t.Errorf("%s is allowed and does not exist", name)
		}
	}
	for name := range refused {
		known := all[name]
		for b := range all {
			known = known || strings.HasSuffix(name, ".") && strings.HasPrefix(b, name) || strings.HasSuffix(name, "_") && strings.HasPrefix(b, name)
		}
		if !known {
			t.Errorf("%s is refused and does not exist", name)
		}
	}
	if c := Capabilities(); c.AllowNet == nil || len(c.AllowNet) != 0 || len(c.Builtins) != len(Allowed()) {
		t.Errorf("AllowNet is %#v, %d built-ins", c.AllowNet, len(c.Builtins))
	}
}

// hostile are operands of each kind, as large as an evaluation can have them, or
// short and meant to become large.
func hostile() map[string][]*ast.Term {
	text := strings.Repeat("a/", 60<<10)
	var numbers, words []*ast.Term
	for i := range 10_000 {
		numbers = append(numbers, ast.IntNumberTerm(i))
		words = append(words, ast.StringTerm(fmt.Sprint("w", i)))
	}
	deep := ast.IntNumberTerm(1)
	for range 5_000 {
		deep = ast.ArrayTerm(deep)
	}
	object := ast.NewObject()
	for i, w := range words {
		object.Insert(w, numbers[i])
	}
	number := func(s string) *ast.Term { return ast.NumberTerm(json.Number(s)) }
	return map[string][]*ast.Term{
		"string": {
			ast.StringTerm(""), ast.StringTerm(text), ast.StringTerm(text[:60<<10]), ast.StringTerm(strings.Repeat("é", 30<<10)),
			ast.StringTerm("1e999999999"), ast.StringTerm("%99999999d"), ast.StringTerm("%[1]v%[1]v"), ast.StringTerm("%v%v"), ast.StringTerm("0.0.0.0/0"),
			ast.StringTerm("../../../etc/passwd"), ast.StringTerm("9999-12-31T23:59:59Z"),
		},
		"number": {
			number("0"), number("-1"), number("1e308"), number("1e999999999"), number("-1e-999999999"), number(strings.Repeat("9", 1<<17)),
			number("0." + strings.Repeat("3", 1<<17)), number("9223372036854775807"), number("99999999999"),
		},
		"array":   {ast.ArrayTerm(), ast.ArrayTerm(numbers...), ast.ArrayTerm(words...), deep, ast.ArrayTerm(number("1e999999999"), number("1")), ast.ArrayTerm(ast.StringTerm(text), ast.StringTerm(text))},
		"set":     {ast.SetTerm(), ast.SetTerm(numbers...), ast.SetTerm(words...), ast.SetTerm(ast.SetTerm(numbers...), ast.SetTerm(words...))},
		"object":  {ast.ObjectTerm(), ast.NewTerm(object)},
		"boolean": {ast.BooleanTerm(true)},
		"null":    {ast.NullTerm()},
	}
}

// Whatever it is given, an allowed built-in is done soon, and what it gives is not
// much larger than what it was given.
func TestAllowedBuiltinsWithHostileOperands(t *testing.T) {
	t.Parallel()
	kinds := hostile()
	var all []*ast.Term
	for _, kind := range []string{"string", "number", "array", "set", "object", "boolean", "null"} {
		all = append(all, kinds[kind]...)
	}
	sizes := map[*ast.Term]int{}
	for _, o := range all {
		sizes[o] = -1 // what cannot be measured, Run does not let in
		if n := measure(o.Value, 1<<30); n >= 0 {
			sizes[o] = 1<<30 - n
		}
	}
	decls := map[string]*ast.Builtin{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		decls[b.Name] = b
	}
	if testing.Short() {
		t.Skip("it takes a while")
	}
	for _, name := range Allowed() {
		call := topdown.GetBuiltin(name)
		if call == nil {
			if !slices.Contains([]string{"assign", "print", "eq"}, name) {
				t.Errorf("%s has no function", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arity := len(decls[name].Decl.FuncArgs().Args)
			all := all
			if arity > 2 {
				all = []*ast.Term{kinds["string"][1], kinds["string"][4], kinds["number"][3], kinds["array"][1], kinds["object"][1], kinds["set"][2]}
			}
			indexes := make([]int, arity)
			for {
				operands := make([]*ast.Term, arity)
				for i, at := range indexes {
					operands[i] = all[at]
				}
				tryBuiltin(t, name, call, operands, sizes)
				i := 0
				for ; i < arity; i++ {
					if indexes[i]++; indexes[i] < len(all) {
						break
					}
					indexes[i] = 0
				}
				if i == arity {
					return
				}
			}
		})
	}
}

func tryBuiltin(t *testing.T, name string, call topdown.BuiltinFunc, operands []*ast.Term, sizes map[*ast.Term]int) {
	t.Helper()
	given := 4096
	for _, o := range operands {
		if sizes[o] < 0 {
			return
		}
		given += sizes[o]
	}
	began := time.Now()
	if guard := allowed[name]; guard != nil && guard(operands, 1<<20) != nil {
		return
	}
	made := 0
	defer func() { _ = recover() }() // numbers out of range, compared deep inside: Run recovers as well
	_ = call(topdown.BuiltinContext{Context: context.Background(), Cache: map[any]any{}, Time: ast.IntNumberTerm(1)}, operands, func(r *ast.Term) error {
		if n := measure(r.Value, 1<<34); n >= 0 { // else the evaluation ends
			made = 1<<34 - n
		}
		return nil
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("%s took %v", name, took)
	}
	// A text that is split has a value for each byte, and a number its digits twice.
	if made > (perValue+1)*given {
		t.Errorf("%s made %d of %d", name, made, given)
	}
}

type flag struct{ atomic.Bool }

func (f *flag) Cancel()         { f.Store(true) }
func (f *flag) Cancelled() bool { return f.Load() }

// Rules that are meant to take all the time, memory or stack there is.
func TestBombs(t *testing.T) {
	t.Parallel()
	doubling := func(n int, line string) string {
		var b strings.Builder
		for i := n; i > 0; i-- {
			fmt.Fprintf(&b, strings.NewReplacer("THIS", "%[1]d", "LAST", "%[2]d").Replace(line)+"\n", i, i-1)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		rules string
		want  error // nil: any, or none
	}{
		"shared values": {"p := r40 == s40\nr0 := [input]\ns0 := [input]\n" +
			doubling(40, "rTHIS := [x | some k in [1, 2]; x := rLAST]") + doubling(40, "sTHIS := [x | some k in [1, 2]; x := sLAST]"), ErrBounds},
		"joined texts":   {"p := r40\nr0 := \"0123456789\"\n" + doubling(40, `rTHIS := concat("", [x | some k in [1, 2]; x := rLAST])`), ErrBounds},
		"joined arrays":  {"p := count(r40)\nr0 := [1, 2]\n" + doubling(40, "rTHIS := array.concat(rLAST, rLAST)"), ErrBounds},
		"squares":        {"p := r40 > 1\nr0 := 10\n" + doubling(40, "rTHIS := rLAST * rLAST"), ErrBounds},
		"large numbers":  {"p := input.big + 1", ErrBounds},
		"objects":        {"p := count(r40)\nr0 := {\"a\": 1}\n" + doubling(40, `rTHIS := {"a": rLAST, "b": rLAST, "c": [x | some k in [1, 2]; x := rLAST]}`), ErrBounds},
		"replaced input": {"p := r40\nr0 := input\n" + doubling(40, "rTHIS := [x, y] if { x := rLAST with input.a as input; y := rLAST with input.b as input }"), ErrBounds},
		"pairs":          {"p := count([1 | some x in input.list; some y in input.list; x != y; x > y; x < y])", ErrCancelled},
		"many pairs":     {"p := count({[x, y] | some x in input.list; some y in input.list})", nil},
		"undefined":      {"p if r40\nr0 if input.none\n" + doubling(40, "rTHIS if { not rLAST; rLAST }"), nil},
		"functions":      {"p := f40(1)\nf0(x) := x\n" + doubling(40, "fTHIS(x) := y if { a := fLAST(x); b := fLAST(x); y := a + b }"), ErrCancelled},
		"arrays of data": {"p if { input.list == input.list; input.list == input.copy; input.copy == input.list }", nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ast.ParseModuleWithOpts("a.rego", "package a\n"+c.rules, ast.ParserOptions{RegoVersion: ast.RegoV1})
			if err != nil {
				t.Fatal(err)
			}
			modules := map[string]*ast.Module{"a.rego": m}
			if found := CheckModules(modules); len(found) > 0 {
				t.Logf("not compiled: %s", found[0].Message)
				return
			}
			compiler := ast.NewCompiler().WithCapabilities(Capabilities())
			if compiler.Compile(modules); compiler.Failed() {
				t.Fatal(compiler.Errors)
			}
			p, err := Compile(context.Background(), modules, nil, []string{"a/p"})
			if err != nil {
				t.Fatal(err)
			}
			list := make([]any, 20_000)
			for i := range list {
				list[i] = i
			}
			input := ast.MustInterfaceToValue(map[string]any{"list": list, "copy": slices.Clone(list)}).(ast.Object)
			if strings.Contains(c.rules, "input.big") {
				input.Insert(ast.StringTerm("big"), ast.NumberTerm("1e999999999"))
			}
			stop := &flag{}
			defer time.AfterFunc(200*time.Millisecond, stop.Cancel).Stop()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = p.Run(context.Background(), "a/p", input, time.Now(), Limits{Cancel: stop})
			runtime.ReadMemStats(&after)
			// Which bound is met first depends on how fast the machine is.
			slow := errors.Is(c.want, ErrCancelled) && errors.Is(err, ErrBounds) || errors.Is(c.want, ErrBounds) && errors.Is(err, ErrCancelled)
			if c.want != nil && !errors.Is(err, c.want) && !slow {
				t.Errorf("%v, want %v", err, c.want)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 512<<20 {
				t.Errorf("it allocated %d MiB", made>>20)
			}
			t.Logf("%v, %d KiB", err, (after.TotalAlloc-before.TotalAlloc)>>10)
		})
	}
}

// FuzzCheckText: what has passed does not make the parser's stack deep, and nothing
// panics.
func FuzzCheckText(f *testing.F) {
	f.Add("package a\np := [1, {\"a\": (2)}]")
	f.Add("p := \"\\\"]\" # [[[\n`[`")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := CheckText([]byte(text)); err != nil {
			return
		}
		m, err := ast.ParseModuleWithOpts("a.rego", text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err == nil && m != nil {
			CheckModules(map[string]*ast.Module{"a.rego": m})
		}
	})
}

// What a trace notes is bounded by the program, however long it runs, and it answers
// what Run answers.
func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	m := ast.MustParseModule("package a\n\np if {\n\tsome a in input\n\tsome b in input\n\tsome c in input\n\tcontains(concat(\"\", [a, b, c]), \"no\")\n}\n")
	p, err := Compile(context.Background(), map[string]*ast.Module{"a.rego": m}, nil, []string{"a/p"})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]*ast.Term, 40)
	for i := range list {
		list[i] = ast.StringTerm(fmt.Sprint(i))
	}
	input := ast.NewArray(list...)
	limits := Limits{Most: 64 << 20}
	want, wantErr := p.Run(t.Context(), "a/p", input, time.Unix(0, 0), limits)
	got, trace, err := p.Explain(t.Context(), "a/p", input, time.Unix(0, 0), limits)
	if (got == nil) != (want == nil) || (err == nil) != (wantErr == nil) {
		t.Errorf("%v %v, want %v %v", got, err, want, wantErr)
	}
	if len(trace.Steps) == 0 || len(trace.Steps) > 20 || len(trace.Calls) != 2 {
		t.Errorf("%d steps, %d calls", len(trace.Steps), len(trace.Calls))
	}
}
