package confined

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// OwnTypes are the same built-ins with result types of their own, for one compiler.
// Where a rule has several answers that are objects, OPA's type checker (1.22,
// ast.mergeTypes) widens the type of one of them in place. That may be the result type
// of a built-in, which all compilers of the process would share: compiling at the same
// time would be a data race, and one author's rules would show in another's errors.
func OwnTypes(builtins []*ast.Builtin) []*ast.Builtin {
	own := make([]*ast.Builtin, len(builtins))
	for i, b := range builtins {
		own[i] = b
		if b.Decl == nil || b.Decl.Result() == nil {
			continue // print, which has no result
		}
		c := *b
		c.Decl = types.NewFunction(b.Decl.NamedFuncArgs().Args, ownType(b.Decl.NamedResult()))
		own[i] = &c
	}
	return own
}

// ownType copies what of a type can be changed: objects, wherever they are in it.
func ownType(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.NamedType:
		c := *t
		c.Type = ownType(t.Type)
		return &c
	case *types.Object:
		static := make([]*types.StaticProperty, len(t.StaticProperties()))
		for i, p := range t.StaticProperties() {
			static[i] = types.NewStaticProperty(p.Key, ownType(p.Value))
		}
		var dynamic *types.DynamicProperty
		if d := t.DynamicProperties(); d != nil {
			dynamic = types.NewDynamicProperty(ownType(d.Key), ownType(d.Value))
		}
		return types.NewObject(static, dynamic)
	case *types.Array:
		static := make([]types.Type, t.Len())
		for i := range static {
			static[i] = ownType(t.Select(i))
		}
		return types.NewArray(static, ownType(t.Dynamic()))
	case *types.Set:
		return types.NewSet(ownType(t.Of()))
	case types.Any:
		c := make(types.Any, len(t))
		for i := range t {
			c[i] = ownType(t[i])
		}
		return c
	default: // immutable
		return t
	}
}
