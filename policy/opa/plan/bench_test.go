package plan

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// Bodies: a rule of many bodies of which an index finds the right one. This is
// where mostBodies comes from.
func BenchmarkBodies(b *testing.B) {
	for _, n := range []int{4, 16, mostBodies} {
		var text strings.Builder
		text.WriteString("package t\n")
		for i := range n {
			fmt.Fprintf(&text, "allow := {\"a\": %[1]d} if { input.principal.kind == \"device\"; input.levels[4] == \"d%[1]d\" }\n", i)
		}
		c := ast.MustCompileModules(map[string]string{"t.rego": text.String()})
		store, ref := inmem.New(), ast.MustParseRef("data.t.allow")
		p, err := Compile(context.Background(), c, store, ref)
		if err != nil {
			b.Fatal(err)
		}
		input := ast.MustParseTerm(fmt.Sprintf(`{"principal": {"kind": "device"}, "levels": ["a", "b", "c", "d", "d%d", "e"]}`, n/2)).Value
		b.Run(fmt.Sprint("plan/", n), func(b *testing.B) {
			for b.Loop() {
				if v, err := p.Eval(context.Background(), Question{Input: input}); v == nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("topdown/", n), func(b *testing.B) {
			for b.Loop() {
				if v, err := topdownValue(c, store, ref, input, time.Unix(1, 0)); v == nil {
					b.Fatal(err)
				}
			}
		})
	}
}
