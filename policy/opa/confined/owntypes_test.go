package confined_test

import (
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/cordon-mq/cordon/policy/opa/confined"
)

// What one compiler makes of a built-in's result, no other one sees: two unions
// beside a literal are what its type checker widens in place.
func TestCompilersShareNoTypes(t *testing.T) {
	t.Parallel()
	const text = `package p

a := object.union({"x": 1}, input.y) if input.a

else := {"z": true} if input.b

else := object.union_n([{"x": 1}, input.y])
`
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			has := ast.CapabilitiesForThisVersion()
			has.Builtins = confined.OwnTypes(has.Builtins)
			c := ast.NewCompiler().WithCapabilities(has)
			c.Compile(map[string]*ast.Module{"p.rego": ast.MustParseModule(text)})
			if c.Failed() {
				t.Error(c.Errors)
			}
		})
	}
	work.Wait()
}

// Each of them is what it was.
func TestOwnTypesAreTheSame(t *testing.T) {
	t.Parallel()
	all := ast.CapabilitiesForThisVersion().Builtins
	for i, b := range confined.OwnTypes(all) {
		if b.Name != all[i].Name || types.Compare(b.Decl, all[i].Decl) != 0 || b.Decl.String() != all[i].Decl.String() {
			t.Errorf("%s is %s, was %s", b.Name, b.Decl, all[i].Decl)
		}
	}
}
