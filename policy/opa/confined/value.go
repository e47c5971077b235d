package confined

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// perValue is what a value of any kind counts, beside its bytes.
const perValue = 8

// measure counts v down from left. Below zero there is more, and nothing is walked
// further: what is shared is walked as often as it appears. A number that is not
// plain is more than there can be: OPA reads the digits of both whenever it
// compares two, in time that grows with their square.
func measure(v ast.Value, left int) int {
	if left -= perValue; left < 0 {
		return left
	}
	switch v := v.(type) {
	case ast.String:
		return left - len(v)
	case ast.Number:
		if !PlainNumber(string(v)) {
			return -1
		}
		return left - len(v)
	case *ast.Array:
		for i := 0; i < v.Len() && left >= 0; i++ {
			left = measure(v.Elem(i).Value, left)
		}
	case ast.Set:
		v.Until(func(t *ast.Term) bool {
			left = measure(t.Value, left)
			return left < 0
		})
	case ast.Object:
		v.Until(func(k, t *ast.Term) bool {
			left = measure(t.Value, measure(k.Value, left))
			return left < 0
		})
	}
	return left
}

// same compares two values; undefined is the same as nothing.
func same(a, b *ast.Term) bool {
	return a != nil && b != nil && (a == b || ast.Compare(a.Value, b.Value) == 0)
}

// lookUp is what key leads to inside of v; nil when that is nothing.
func lookUp(v ast.Value, key *ast.Term) *ast.Term {
	switch v := v.(type) {
	case ast.Object:
		return v.Get(key)
	case *ast.Array:
		n, ok := key.Value.(ast.Number)
		if !ok {
			return nil
		}
		i, err := strconv.Atoi(string(n))
		if err != nil || i < 0 || i >= v.Len() {
			return nil
		}
		return v.Elem(i)
	case ast.Set:
		if v.Contains(key) {
			return key
		}
	}
	return nil
}

func length(t *ast.Term) (int, bool) {
	if t == nil {
		return 0, false
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		return v.Len(), true
	case ast.Set:
		return v.Len(), true
	case ast.Object:
		return v.Len(), true
	case ast.String:
		return len([]rune(string(v))), true
	}
	return 0, false
}
