package plan

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// equal compares as == does. Undefined equals nothing.
func equal(a, b *ast.Term) bool {
	if a == nil || b == nil {
		return false
	}
	if a == b {
		return true
	}
	if x, ok := a.Value.(ast.String); ok {
		y, ok := b.Value.(ast.String)
		return ok && x == y
	}
	return ast.ValueEqual(a.Value, b.Value)
}

// dot is what source has at key; nil: nothing.
func dot(source, key *ast.Term) *ast.Term {
	if source == nil || key == nil {
		return nil
	}
	switch v := source.Value.(type) {
	case *ast.Array:
		return v.Get(key)
	case *builder:
		return v.get(key)
	case ast.Object:
		return v.Get(key)
	case ast.Set:
		if v.Contains(key) {
			return key
		}
	}
	return nil
}

// isNumbered reports whether source is an object and key a number. Below data,
// topdown finds there what has the number as its name; that is left to it.
func isNumbered(source, key *ast.Term) bool {
	if source == nil || key == nil {
		return false
	}
	if _, ok := key.Value.(ast.Number); !ok {
		return false
	}
	return isObject(source.Value)
}

// size is the number of elements of v; ok is false where it has none to count.
func size(v ast.Value) (n int, ok bool) {
	switch v := v.(type) {
	case *ast.Array:
		return v.Len(), true
	case ast.Object:
		return v.Len(), true
	case ast.Set:
		return v.Len(), true
	}
	return 0, false
}

type kind uint8

const (
	array kind = iota
	object
	set
)

// builder is a value that is being built. It is seen by the statements that build
// it only: whatever else reads it finishes it first.
type builder struct {
	ast.Value // nil; no method of it is called
	kind      kind
	elems     []*ast.Term    // of an array, or the few of a set
	pairs     [][2]*ast.Term // the few of an object
	object    ast.Object     // instead of pairs
	set       ast.Set        // instead of elems
}

// few is how many elements are looked through one by one.
const few = 8

// building makes the term of a new builder.
func building(k kind, capacity int) *ast.Term {
	made := &struct {
		term ast.Term
		b    builder
	}{}
	made.b.kind = k
	if capacity > 0 {
		made.b.elems = make([]*ast.Term, 0, min(capacity, 64))
	}
	made.term.Value = &made.b
	return &made.term
}

// rebuilding makes a builder of a copy of v; nil where v is of another kind.
func rebuilding(k kind, v ast.Value) *builder {
	b := &builder{kind: k}
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(b.add)
		if k == array {
			return b
		}
	case ast.Set:
		if k == set {
			v.Foreach(b.add)
			return b
		}
	case ast.Object:
		if k == object {
			v.Foreach(func(k, v *ast.Term) { b.insert(k, v) })
			return b
		}
	}
	return nil
}

// finished is the value that b became.
func (b *builder) finished() ast.Value {
	switch {
	case b.kind == array:
		return ast.NewArray(b.elems...)
	case b.kind == set && b.set == nil:
		return ast.NewSet(b.elems...)
	case b.kind == set:
		return b.set
	case b.object == nil:
		return ast.NewObject(b.pairs...)
	}
	return b.object
}

// add appends to an array, or adds to a set.
func (b *builder) add(v *ast.Term) {
	switch {
	case b.kind == array:
		b.elems = append(b.elems, v)
	case b.set != nil:
		b.set.Add(v)
	case slices.ContainsFunc(b.elems, func(old *ast.Term) bool { return equal(old, v) }):
	case len(b.elems) < few:
		b.elems = append(b.elems, v)
	default:
		b.set = ast.NewSet(b.elems...)
		b.elems = nil
		b.set.Add(v)
	}
}

// insert puts v at k, and reports whether there was nothing else.
func (b *builder) insert(k, v *ast.Term) bool {
	if b.object != nil {
		old := b.object.Get(k)
		b.object.Insert(k, v)
		return old == nil || equal(old, v)
	}
	for i := range b.pairs {
		if equal(b.pairs[i][0], k) {
			same := equal(b.pairs[i][1], v)
			b.pairs[i][1] = v
			return same
		}
	}
	if len(b.pairs) < few {
		b.pairs = append(b.pairs, [2]*ast.Term{k, v})
		return true
	}
	b.object = ast.NewObject(b.pairs...)
	b.pairs = nil
	b.object.Insert(k, v)
	return true
}

func (b *builder) get(k *ast.Term) *ast.Term {
	switch {
	case b.object != nil:
		return b.object.Get(k)
	case b.set != nil:
		if b.set.Contains(k) {
			return k
		}
		return nil
	}
	for _, pair := range b.pairs {
		if equal(pair[0], k) {
			return pair[1]
		}
	}
	if b.kind == set && slices.ContainsFunc(b.elems, func(old *ast.Term) bool { return equal(old, k) }) {
		return k
	}
	if b.kind == array {
		return ast.NewArray(b.elems...).Get(k)
	}
	return nil
}

// replaced is v with value at path below it, as with does; what is no object on
// the way is replaced by one.
func replaced(v *ast.Term, path []*ast.Term, value *ast.Term) *ast.Term {
	if len(path) == 0 {
		return value
	}
	var old ast.Object
	if v != nil {
		old, _ = v.Value.(ast.Object)
	}
	if old == nil {
		return ast.ObjectTerm([2]*ast.Term{path[0], replaced(nil, path[1:], value)})
	}
	changed := ast.NewObject()
	old.Foreach(changed.Insert)
	changed.Insert(path[0], replaced(old.Get(path[0]), path[1:], value))
	return ast.NewTerm(changed)
}
