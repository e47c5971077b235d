package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

func mustCompile(t *testing.T, text, ref string) *Program {
	t.Helper()
	c := ast.MustCompileModules(map[string]string{"t.rego": text})
	p, err := Compile(context.Background(), c, inmem.New(), ast.MustParseRef(ref))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// after is a Cancel that says so when it has been asked n times.
type after struct{ left atomic.Int64 }

func (a *after) Cancel()         {}
func (a *after) Cancelled() bool { return a.left.Add(-1) < 0 }

// An evaluation asks whether it is cancelled at every call and in every turn of a
// loop, and stops at once.
func TestCancel(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `package t
p if {
	some a in input
	some b in input
	a + b == -1
}`, "data.t.p")
	input := ast.NewArray()
	for i := range 100 {
		input = input.Append(ast.InternedTerm(i))
	}
	for _, n := range []int64{0, 1, 5, 1000} {
		stop := new(after)
		stop.left.Store(n)
		v, err := p.Eval(context.Background(), Question{Input: input, Cancel: stop})
		if v != nil || !errors.Is(err, ErrStopped) || stop.left.Load() < -2 {
			t.Errorf("after %d: got %v, %v, asked %d times more", n, v, err, -1-stop.left.Load())
		}
	}
	stop := new(after)
	stop.left.Store(1 << 40)
	if v, err := p.Eval(context.Background(), Question{Input: input, Cancel: stop}); v != nil || err != nil {
		t.Errorf("got %v, %v", v, err)
	}
}

// What would be evaluated wrongly, slowly, or only after a plan out of proportion
// was made is left to topdown.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	many := func(n int, format string) string { return strings.Repeat(format+"\n", n) }
	linked := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, format+"\n", i, i+1)
		}
		return s.String()
	}
	numbered := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, format+"\n", i)
		}
		return s.String()
	}
	for name, text := range map[string]string{
		"print":                      "p if print(input)",
		"negated choice":             "p if not data.t.q[input.x]\nq.a := 1\nq.b.c := 2",
		"comprehension alone":        "p if [x | x := 1 / input.n]",
		"many bodies":                numbered(mostBodies+1, "p := %d if input.x == 1"),
		"many ways":                  "p if {\n" + many(9, "data.t.q[_] == 1") + "}\n" + numbered(30, "q.a%d := 1"),
		"many replacements":          "p if {\n" + many(mostReplans+1, "q with data.t.r as 1") + "}\nq if r\nr := 1",
		"replacements in each other": "p if q0 with data.t.r as 1\n" + linked(6, "q%d if { q%[2]d with data.t.r as 3; q%[2]d with data.t.r as 2 }") + "q6 if r\nr := 1",
		"much to write":              "p := [" + strings.Repeat("input.x, ", mostInOne) + "1]",
		"many rules":                 "p if q0\n" + linked(mostRules, "q%d if q%d") + fmt.Sprintf("q%d := 1", mostRules),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := ast.CompileModulesWithOpt(map[string]string{"t.rego": "package t\n" + text}, ast.CompileOpts{EnablePrintStatements: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Compile(context.Background(), c, inmem.New(), ast.MustParseRef("data.t.p")); !errors.Is(err, ErrUnsupported) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// One Program serves everybody at once, and nobody sees what another one asked.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `package t
p[k] := {"v": v, "all": q, "w": w} if {
	some k, v in input
	w := q with input as {"w": k}
}
q contains x if some x in input
`, "data.t.p")
	inputs := make([]ast.Value, 8)
	want := make([]ast.Value, len(inputs))
	for i := range inputs {
		inputs[i] = ast.MustParseTerm(fmt.Sprintf(`{"a%d": %d, "b": [%d]}`, i, i, i)).Value
		var err error
		if want[i], err = p.Eval(context.Background(), Question{Input: inputs[i]}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(want[i].String(), fmt.Sprintf(`"a%d"`, i)) {
			t.Fatalf("got %v", want[i])
		}
	}
	var running sync.WaitGroup
	for g := range 8 {
		running.Go(func() {
			for n := range 200 {
				i := (g + n) % len(inputs)
				if v, err := p.Eval(context.Background(), Question{Input: inputs[i]}); err != nil || v.Compare(want[i]) != 0 {
					t.Errorf("got %v, %v, want %v", v, err, want[i])
				}
			}
		})
	}
	running.Wait()
}

// What an evaluation has seen is not kept for the next one.
func TestMachineIsEmptied(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `package t
p := [sprintf("%v", [x]) | some x in input.list; walk(input, _); time.now_ns() > 0; q == x]
q := input.list[0]`, "data.t.p")
	m := p.take(context.Background(), Question{Input: ast.MustParseTerm(`{"list": ["secret"]}`).Value})
	if err := m.run(); err != nil {
		t.Fatal(err)
	}
	p.give(m)
	for name, terms := range map[string][]*ast.Term{
		"stack": m.stack, "paths": m.paths, "arguments": m.args[:cap(m.args)], "results": m.results[:cap(m.results)], "outputs": m.outputs,
		"rest": {m.input, m.returned, m.output},
	} {
		for _, v := range terms {
			if v != nil {
				t.Errorf("%s has %v", name, v)
			}
		}
	}
	for _, v := range m.memos {
		if v != (memo{}) {
			t.Errorf("a memo has %v", v.value)
		}
	}
	if m.context.Context != nil || m.cancel != nil {
		t.Error("it knows who asked")
	}
}

// The usual question makes no garbage but its answer.
func TestAllocations(t *testing.T) {
	p := mustCompile(t, `package t
default p := false
p if {
	input.principal.kind == "device"
	["a", input.principal.id, x] = input.levels
	x != ""
	not q
}
q if input.levels[2] == "z"`, "data.t.p")
	input := ast.MustParseTerm(`{"principal": {"kind": "device", "id": "d"}, "levels": ["a", "d", "e"]}`).Value
	ctx := context.Background()
	n := testing.AllocsPerRun(200, func() {
		if v, err := p.Eval(ctx, Question{Input: input}); err != nil || v.Compare(ast.Boolean(true)) != 0 {
			t.Error(v, err)
		}
	})
	if n > 6 { // the term of the input, and the set of results with one object
		t.Errorf("%v allocations", n)
	}
}
