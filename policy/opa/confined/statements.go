package confined

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

func (m *machine) statement(f *frame, s ir.Stmt) (int, error) {
	switch s := s.(type) {
	case *ir.NopStmt:
	case *ir.BreakStmt:
		return int(s.Index), nil
	case *ir.BlockStmt:
		for _, b := range s.Blocks {
			end, err := m.block(f, b)
			if err != nil || end == returned || end > 0 {
				return outer(end), err
			}
		}
	case *ir.NotStmt:
		end, err := m.block(f, s.Block)
		switch {
		case err != nil || end == returned || end > 0:
			return outer(end), err
		case end == next:
			return 0, nil
		}
	case *ir.ScanStmt:
		return m.scan(f, s)
	case *ir.WithStmt:
		return m.with(f, s)
	case *ir.CallStmt:
		return m.call(f, s)
	case *ir.CallDynamicStmt:
		return m.callDynamic(f, s)
	case *ir.ReturnLocalStmt:
		f.returned = f.get(s.Source)
		return returned, nil
	case *ir.ResultSetAddStmt:
		if m.result == nil {
			m.result = f.get(s.Value)
		}

	case *ir.DotStmt:
		source, key := m.operand(f, s.Source), m.operand(f, s.Key)
		if source == nil || key == nil {
			return 0, nil
		}
		found := lookUp(source.Value, key)
		if found == nil {
			return 0, nil
		}
		f.set(s.Target, found)
	case *ir.LenStmt:
		n, ok := length(m.operand(f, s.Source))
		if !ok {
			return 0, nil
		}
		f.set(s.Target, ast.InternedTerm(n))
	case *ir.EqualStmt:
		a, b := m.operand(f, s.A), m.operand(f, s.B)
		return defined(same(a, b)), nil
	case *ir.NotEqualStmt:
		a, b := m.operand(f, s.A), m.operand(f, s.B)
		return defined(!same(a, b)), nil
	case *ir.IsDefinedStmt:
		return defined(f.get(s.Source) != nil), nil
	case *ir.IsUndefinedStmt:
		return defined(f.get(s.Source) == nil), nil
	case *ir.IsArrayStmt:
		t := m.operand(f, s.Source)
		return defined(t != nil && is[*ast.Array](t.Value)), nil
	case *ir.IsObjectStmt:
		t := m.operand(f, s.Source)
		return defined(t != nil && is[ast.Object](t.Value)), nil
	case *ir.IsSetStmt:
		t := m.operand(f, s.Source)
		return defined(t != nil && is[ast.Set](t.Value)), nil

	case *ir.AssignVarStmt:
		f.set(s.Target, m.operand(f, s.Source))
	case *ir.AssignVarOnceStmt:
		v := m.operand(f, s.Source)
		if old := f.get(s.Target); old != nil && !same(old, v) {
			return 0, fmt.Errorf("complete rules must not produce multiple outputs: %w", ErrConflict)
		}
		f.set(s.Target, v)
	case *ir.AssignIntStmt:
		f.set(s.Target, ast.InternedTerm(int(s.Value)))
	case *ir.ResetLocalStmt:
		f.set(s.Target, nil)
	case *ir.MakeNullStmt:
		f.set(s.Target, ast.NullTerm())
	case *ir.MakeNumberIntStmt:
		f.set(s.Target, ast.InternedTerm(int(s.Value)))
	case *ir.MakeNumberRefStmt:
		text, _ := m.program.strings[s.Index].Value.(ast.String)
		f.set(s.Target, ast.NumberTerm(json.Number(text)))
	case *ir.MakeArrayStmt:
		f.slots[s.Target] = slot{making: true}
	case *ir.MakeObjectStmt:
		f.set(s.Target, ast.ObjectTerm())
	case *ir.MakeSetStmt:
		f.set(s.Target, ast.SetTerm())

	case *ir.ArrayAppendStmt:
		v := m.operand(f, s.Value)
		if v == nil {
			return 0, nil
		}
		if err := m.charge(v); err != nil {
			return 0, err
		}
		into := &f.slots[s.Array]
		if !into.making { // a copy of one that was finished
			array, ok := into.term.Value.(*ast.Array)
			if !ok {
				return 0, nil
			}
			*into = slot{making: true}
			array.Foreach(func(t *ast.Term) { into.list = append(into.list, t) })
		}
		into.list, into.term = append(into.list, v), nil
	case *ir.SetAddStmt:
		v := m.operand(f, s.Value)
		if v == nil {
			return 0, nil
		}
		set, ok := f.get(s.Set).Value.(ast.Set)
		if !ok {
			return 0, nil
		}
		if err := m.charge(v); err != nil {
			return 0, err
		}
		set.Add(v)
	case *ir.ObjectInsertStmt:
		return m.insert(f, s.Object, s.Key, s.Value, false)
	case *ir.ObjectInsertOnceStmt:
		return m.insert(f, s.Object, s.Key, s.Value, true)
	case *ir.ObjectMergeStmt:
		return m.merge(f, s)
	}
	return next, nil
}

func is[T ast.Value](v ast.Value) bool {
	_, ok := v.(T)
	return ok
}

func (m *machine) insert(f *frame, into ir.Local, key, value ir.Operand, once bool) (int, error) {
	k, v := m.operand(f, key), m.operand(f, value)
	if k == nil || v == nil {
		return 0, nil
	}
	object, ok := f.get(into).Value.(ast.Object)
	if !ok {
		return 0, nil
	}
	if once {
		if old := object.Get(k); old != nil {
			if same(old, v) {
				return next, nil
			}
			return 0, fmt.Errorf("object keys must be unique: %w", ErrConflict)
		}
	}
	if err := errors.Join(m.charge(k), m.charge(v)); err != nil {
		return 0, err
	}
	object.Insert(k, v)
	return next, nil
}

// merge makes an object of A and what B has beside it.
func (m *machine) merge(f *frame, s *ir.ObjectMergeStmt) (int, error) {
	a, b := f.get(s.A), f.get(s.B)
	if a == nil || b == nil {
		if a == nil {
			a = b
		}
		f.set(s.Target, a)
		return next, nil
	}
	x, xok := a.Value.(ast.Object)
	y, yok := b.Value.(ast.Object)
	if !xok || !yok {
		f.set(s.Target, a)
		return next, nil
	}
	if err := errors.Join(m.charge(a), m.charge(b)); err != nil {
		return 0, err
	}
	f.set(s.Target, ast.NewTerm(mergeObjects(x, y)))
	return next, nil
}

func mergeObjects(a, b ast.Object) ast.Object {
	all := ast.NewObject()
	a.Foreach(func(k, v *ast.Term) {
		if x, ok := v.Value.(ast.Object); ok {
			if other := b.Get(k); other != nil {
				if y, ok := other.Value.(ast.Object); ok {
					v = ast.NewTerm(mergeObjects(x, y))
				}
			}
		}
		all.Insert(k, v)
	})
	b.Foreach(func(k, v *ast.Term) {
		if all.Get(k) == nil {
			all.Insert(k, v)
		}
	})
	return all
}

// scan runs the block for each element; what is undefined there goes on with the
// next one.
func (m *machine) scan(f *frame, s *ir.ScanStmt) (end int, err error) {
	source := f.get(s.Source)
	if source == nil {
		return next, nil
	}
	end = next
	visit := func(k, v *ast.Term) bool {
		f.set(s.Key, k)
		f.set(s.Value, v)
		end, err = m.block(f, s.Block)
		if err != nil || end == returned || end > 0 {
			return true
		}
		end = next
		return false
	}
	switch v := source.Value.(type) {
	case *ast.Array:
		for i := range v.Len() {
			if visit(ast.InternedTerm(i), v.Elem(i)) {
				break
			}
		}
	case ast.Set:
		for _, t := range v.Slice() {
			if visit(t, t) {
				break
			}
		}
	case ast.Object:
		for _, k := range v.Keys() {
			if visit(k, v.Get(k)) {
				break
			}
		}
	}
	return outer(end), err
}

// with runs the block with a part of input or data replaced. What was remembered
// of rules does not hold inside.
func (m *machine) with(f *frame, s *ir.WithStmt) (int, error) {
	replaced := m.operand(f, s.Value) // nil where an input that is absent comes back
	saved, memo := f.slots[s.Local], m.memo
	if len(s.Path) > 0 {
		if replaced == nil {
			return 0, nil
		}
		var err error
		if replaced, err = m.replace(saved.value(), s.Path, replaced); err != nil {
			return 0, err
		}
	}
	f.set(s.Local, replaced)
	m.memo = map[*function]memoised{}
	m.replaced++
	end, err := m.block(f, s.Block)
	m.replaced--
	f.slots[s.Local], m.memo = saved, memo
	return outer(end), err
}

// replace copies the objects on the way of path, and puts v at its end.
func (m *machine) replace(t *ast.Term, path []int, v *ast.Term) (*ast.Term, error) {
	if len(path) == 0 {
		return v, m.charge(v)
	}
	key := m.program.strings[path[0]]
	made := ast.NewObject()
	var below *ast.Term
	if t != nil {
		if object, ok := t.Value.(ast.Object); ok {
			if m.left -= 2 * perValue * object.Len(); m.left < 0 {
				return nil, beyond("too much is built")
			}
			object.Foreach(func(k, v *ast.Term) { made.Insert(k, v) })
			below = object.Get(key)
		}
	}
	replaced, err := m.replace(below, path[1:], v)
	if err != nil {
		return nil, err
	}
	made.Insert(key, replaced)
	return ast.NewTerm(made), nil
}
