package plan

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// block compiles the statements of b. depth is how many blocks a jump may leave.
func (w *writer) block(b *ir.Block, known facts, depth int) (block []statement, err error) {
	for _, s := range b.Stmts {
		if err := w.statement(s, known, depth, &block); err != nil {
			return nil, err
		}
	}
	return block, nil
}

func (w *writer) statement(s ir.Stmt, known facts, depth int, block *[]statement) error {
	add := func(s statement) { *block = append(*block, s) }
	switch s := s.(type) {
	case *ir.NopStmt:
	case *ir.BreakStmt:
		if int(s.Index) >= depth {
			return unsupported("a jump out of a loop")
		}
		j := jump(s.Index) + leave
		add(func(*machine, frame) jump { return j })
	case *ir.BlockStmt:
		return w.nested(s.Blocks, known, depth+1, func(all [][]statement) { add(blocksStatement(all)) })
	case *ir.NotStmt:
		return w.nested([]*ir.Block{s.Block}, known, 1, func(all [][]statement) { add(notStatement(all[0])) })
	case *ir.ScanStmt:
		return w.scan(s, known, block)
	case *ir.WithStmt:
		return w.with(s, known, block)

	case *ir.CallStmt:
		return w.call(s, known, block)
	case *ir.CallDynamicStmt:
		return w.callDynamic(s, known, depth, block)
	case *ir.ReturnLocalStmt:
		from := w.local(s.Source, known, block)
		add(func(m *machine, f frame) jump { m.returned = from.of(f); return returned })
	case *ir.ResultSetAddStmt:
		from := w.local(s.Value, known, block)
		add(func(m *machine, f frame) jump { return m.addResult(from.of(f)) })

	case *ir.DotStmt:
		w.dot(s, known, block)
	case *ir.LenStmt:
		from := w.operand(s.Source, known, block)
		to := w.target(s.Target, known)
		add(func(m *machine, f frame) jump { return m.length(f, from.of(f), to) })

	case *ir.AssignIntStmt:
		w.settle(s.Target, number(strconv.FormatInt(s.Value, 10)), known, block)
	case *ir.MakeNumberIntStmt:
		w.settle(s.Target, number(strconv.FormatInt(s.Value, 10)), known, block)
	case *ir.MakeNumberRefStmt:
		w.settle(s.Target, number(w.policy.Static.Strings[s.Index].Value), known, block)
	case *ir.MakeNullStmt:
		w.settle(s.Target, ast.InternedNullTerm, known, block)
	case *ir.AssignVarStmt:
		w.assign(s, known, block)
	case *ir.AssignVarOnceStmt:
		w.assignOnce(s, known, block)
	case *ir.ResetLocalStmt:
		if to := w.target(s.Target, known); to >= 0 {
			add(func(_ *machine, f frame) jump { f[to] = nil; return next })
		}

	case *ir.MakeArrayStmt:
		w.start(s.Target, array, int(s.Capacity), known, block)
	case *ir.MakeObjectStmt:
		w.start(s.Target, object, 0, known, block)
	case *ir.MakeSetStmt:
		w.start(s.Target, set, 0, known, block)
	case *ir.ArrayAppendStmt:
		w.add(s.Array, array, s.Value, known, block)
	case *ir.SetAddStmt:
		w.add(s.Set, set, s.Value, known, block)
	case *ir.ObjectInsertStmt:
		w.insert(s, known, block)
	case *ir.ObjectInsertOnceStmt:
		w.insertOnce(s, known, block)
	case *ir.ObjectMergeStmt:
		a, b := w.local(s.A, known, block), w.local(s.B, known, block)
		to := w.target(s.Target, known)
		add(func(m *machine, f frame) jump { return m.merge(f, a.of(f), b.of(f), to) })

	case *ir.EqualStmt:
		w.equal(w.operand(s.A, known, block), w.operand(s.B, known, block), block)
	case *ir.NotEqualStmt:
		w.notEqual(w.operand(s.A, known, block), w.operand(s.B, known, block), block)
	case *ir.IsArrayStmt:
		w.is(w.operand(s.Source, known, block), isArray, block)
	case *ir.IsObjectStmt:
		w.is(w.operand(s.Source, known, block), isObject, block)
	case *ir.IsSetStmt:
		w.is(w.operand(s.Source, known, block), isSet, block)
	case *ir.IsDefinedStmt:
		if w.constantLocal(s.Source, known) == nil {
			from := w.peek(s.Source).slot
			add(func(_ *machine, f frame) jump { return unless(f[from] != nil) })
		}
	case *ir.IsUndefinedStmt:
		if w.constantLocal(s.Source, known) != nil {
			add(func(*machine, frame) jump { return leave })
			break
		}
		from := w.peek(s.Source).slot
		add(func(_ *machine, f frame) jump { return unless(f[from] == nil) })
	default:
		return unsupported("statement %T", s)
	}
	return nil
}

// unless is next where the statement holds.
func unless(holds bool) jump {
	if holds {
		return next
	}
	return leave
}

// nested compiles blocks inside of a statement. What they may write is unknown
// before, because they may be entered again, and afterwards.
func (w *writer) nested(blocks []*ir.Block, known facts, depth int, add func([][]statement)) error {
	w.forget(known, written(blocks))
	var all [][]statement
	for _, b := range blocks {
		made, err := w.block(b, known.clone(), depth)
		if err != nil {
			return err
		}
		all = append(all, made)
	}
	add(all)
	return nil
}

func blocksStatement(all [][]statement) statement {
	if len(all) == 1 {
		only := all[0]
		return func(m *machine, f frame) jump {
			if j := perform(m, f, only); j > leave {
				return j - 1
			} else if j < next {
				return j
			}
			return next
		}
	}
	return func(m *machine, f frame) jump {
		for _, block := range all {
			if j := perform(m, f, block); j > leave {
				return j - 1
			} else if j < next {
				return j
			}
		}
		return next
	}
}

func notStatement(block []statement) statement {
	return func(m *machine, f frame) jump {
		switch j := perform(m, f, block); j {
		case next:
			return leave
		case leave:
			return next
		default:
			return j
		}
	}
}

func (w *writer) scan(s *ir.ScanStmt, known facts, block *[]statement) error {
	from := w.local(s.Source, known, block)
	w.forget(known, map[ir.Local]bool{s.Key: true, s.Value: true})
	key, value := w.slot(w.name(s.Key)), w.slot(w.name(s.Value))
	return w.nested([]*ir.Block{s.Block}, known, 1, func(all [][]statement) {
		turn := all[0]
		*block = append(*block, func(m *machine, f frame) jump {
			if v := from.of(f); v != nil {
				return m.scan(f, v.Value, key, value, turn)
			}
			return next
		})
	})
}

func (w *writer) with(s *ir.WithStmt, known facts, block *[]statement) error {
	var value source
	if l, ok := s.Value.Value.(ir.Local); ok {
		value = w.local(l, known, block)
	} else {
		value = w.operand(s.Value, known, block)
	}
	var path []*ast.Term
	for _, i := range s.Path {
		path = append(path, w.strings[i])
	}
	delete(known, w.name(s.Local))
	local := w.peek(s.Local).slot
	return w.nested([]*ir.Block{s.Block}, known, 1, func(all [][]statement) {
		inner := all[0]
		*block = append(*block, func(m *machine, f frame) jump {
			before := f[local]
			f[local] = replaced(before, path, value.of(f))
			j := perform(m, f, inner)
			f[local] = before
			return j
		})
	})
}

// dot looks up a constant now, and a path of input once per evaluation.
func (w *writer) dot(s *ir.DotStmt, known facts, block *[]statement) {
	add := func(s statement) { *block = append(*block, s) }
	look := func(to int, source, key source) {
		add(func(m *machine, f frame) jump {
			from, k := source.of(f), key.of(f)
			v := dot(from, k)
			if to >= 0 {
				f[to] = v
			}
			if v == nil && isNumbered(from, k) {
				return m.fail(errInternal)
			}
			return unless(v != nil)
		})
	}
	from, isLocal := s.Source.Value.(ir.Local)
	if !isLocal {
		w.target(s.Target, known)
		add(func(*machine, frame) jump { return leave })
		return
	}
	w.parts[[2]name{w.name(from), w.name(s.Target)}] = true
	if constant, key := w.constantLocal(from, known), w.constant(s.Key, known); key != nil {
		parent := known[w.name(from)].path
		switch {
		case constant != nil:
			if v := dot(constant, key); v != nil {
				w.settle(s.Target, v, known, block)
				return
			}
			look(w.target(s.Target, known), source{value: constant}, source{value: key})
			return
		case parent != 0:
			id := w.child(max(parent, 0)-1, key)
			input := w.slots[w.name(w.params[0])]
			to := w.target(s.Target, known)
			known[w.name(s.Target)] = fact{path: id + 1, whole: true}
			add(func(m *machine, f frame) jump {
				v := m.lookup(id, f[input])
				if to >= 0 {
					f[to] = v
				}
				return unless(v != nil)
			})
			return
		}
	}
	key := w.operand(s.Key, known, block)
	of := source{value: w.constantLocal(from, known)}
	if of.value == nil {
		of = w.peek(from)
	}
	look(w.target(s.Target, known), of, key)
}

func (w *writer) assign(s *ir.AssignVarStmt, known facts, block *[]statement) {
	if v := w.constant(s.Source, known); v != nil {
		w.settle(s.Target, v, known, block)
		return
	}
	before := known[w.name(s.Source.Value.(ir.Local))].path
	from := w.operand(s.Source, known, block).slot
	to := w.target(s.Target, known)
	if before > 0 {
		known[w.name(s.Target)] = fact{path: before, whole: true}
	}
	if to >= 0 {
		*block = append(*block, func(_ *machine, f frame) jump { f[to] = f[from]; return next })
	}
}

// assignOnce ends the function where all that could follow is the same value.
func (w *writer) assignOnce(s *ir.AssignVarOnceStmt, known facts, block *[]statement) {
	v := w.constant(s.Source, known)
	if w.first && s.Target != w.ret {
		w.onces = append(w.onces, v)
	}
	if w.agreed && v != nil {
		*block = append(*block, func(m *machine, _ frame) jump { m.returned = v; return returned })
		return
	}
	from := w.operand(s.Source, known, block)
	w.target(s.Target, known)
	to := w.peek(s.Target).slot
	*block = append(*block, func(m *machine, f frame) jump {
		v := from.of(f)
		if f[to] != nil && !equal(f[to], v) {
			return m.fail(errConflict)
		}
		f[to] = v
		return next
	})
}

func (w *writer) equal(a, b source, block *[]statement) {
	if a.value != nil {
		a, b = b, a
	}
	switch {
	case a.value != nil: // both
		if !equal(a.value, b.value) {
			*block = append(*block, func(*machine, frame) jump { return leave })
		}
	case b.value != nil:
		*block = append(*block, func(_ *machine, f frame) jump { return unless(equal(f[a.slot], b.value)) })
	default:
		*block = append(*block, func(_ *machine, f frame) jump { return unless(equal(f[a.slot], f[b.slot])) })
	}
}

func (w *writer) notEqual(a, b source, block *[]statement) {
	if a.value != nil && b.value != nil {
		if equal(a.value, b.value) {
			*block = append(*block, func(*machine, frame) jump { return leave })
		}
		return
	}
	*block = append(*block, func(_ *machine, f frame) jump { return unless(!equal(a.of(f), b.of(f))) })
}

func isArray(v ast.Value) bool  { _, ok := v.(*ast.Array); return ok }
func isObject(v ast.Value) bool { _, ok := v.(ast.Object); return ok }
func isSet(v ast.Value) bool    { _, ok := v.(ast.Set); return ok }

func (w *writer) is(a source, holds func(ast.Value) bool, block *[]statement) {
	*block = append(*block, func(_ *machine, f frame) jump {
		v := a.of(f)
		return unless(v != nil && holds(v.Value))
	})
}
