package plan

import (
	"github.com/open-policy-agent/opa/v1/ir"
)

// start is target of a value that is built from here on.
func (w *writer) start(l ir.Local, k kind, capacity int, known facts, block *[]statement) {
	s := w.target(l, known)
	n := w.name(l)
	w.built[n] = true
	known[n] = fact{draft: &builder{kind: k}}
	if s >= 0 {
		*block = append(*block, func(_ *machine, f frame) jump { f[s] = building(k, capacity); return next })
	}
}

// change does what is known to the value that l is built to; the result is the
// slot that has to be changed as well, -1: none.
func (w *writer) change(l ir.Local, k kind, known facts, constants bool, do func(*builder)) int {
	n := w.name(l)
	w.built[n] = true
	old := known[n]
	delete(known, n)
	if old.value != nil {
		old.draft = rebuilding(k, old.value.Value)
	}
	if constants && old.draft != nil && old.draft.kind == k {
		do(old.draft)
		known[n] = fact{draft: old.draft}
	}
	return w.slot(n)
}

func (w *writer) add(l ir.Local, k kind, value ir.Operand, known facts, block *[]statement) {
	constant := w.constant(value, known)
	from := w.operand(value, known, block)
	to := w.change(l, k, known, constant != nil, func(b *builder) { b.add(constant) })
	if to < 0 {
		return
	}
	*block = append(*block, func(m *machine, f frame) jump {
		b, v := m.builder(f, to, k), from.of(f)
		if b == nil || v == nil {
			return m.fail(errInternal)
		}
		b.add(v)
		return next
	})
}

// insert puts a pair into an object. A literal whose keys turn out to be the same
// has no meaning that evaluators agree on; a part of a document that was looked up
// before comes back changed.
func (w *writer) insert(s *ir.ObjectInsertStmt, known facts, block *[]statement) {
	comesBack := false
	if l, ok := s.Value.Value.(ir.Local); ok {
		comesBack = w.parts[[2]name{w.name(s.Object), w.name(l)}]
	}
	k, v := w.constant(s.Key, known), w.constant(s.Value, known)
	key, value := w.operand(s.Key, known, block), w.operand(s.Value, known, block)
	constants := k != nil && v != nil
	if draft := known[w.name(s.Object)].draft; constants && draft != nil {
		old := draft.get(k)
		constants = old == nil || equal(old, v)
	}
	to := w.change(s.Object, object, known, constants, func(b *builder) { b.insert(k, v) })
	if to < 0 {
		return
	}
	*block = append(*block, func(m *machine, f frame) jump {
		b, k, v := m.builder(f, to, object), key.of(f), value.of(f)
		if b == nil || k == nil || v == nil || !b.insert(k, v) && !comesBack {
			return m.fail(errInternal)
		}
		return next
	})
}

func (w *writer) insertOnce(s *ir.ObjectInsertOnceStmt, known facts, block *[]statement) {
	key, value := w.operand(s.Key, known, block), w.operand(s.Value, known, block)
	w.change(s.Object, object, known, false, nil)
	to := w.peek(s.Object).slot // the conflict counts also where nobody reads the object
	*block = append(*block, func(m *machine, f frame) jump {
		b, k, v := m.builder(f, to, object), key.of(f), value.of(f)
		if b == nil || k == nil || v == nil {
			return m.fail(errInternal)
		}
		if old := b.get(k); old != nil && !equal(old, v) {
			return m.fail(errConflict)
		}
		b.insert(k, v)
		return next
	})
}

// finishStatement makes a value of what was built in a slot.
func finishStatement(slot int) statement {
	return func(_ *machine, f frame) jump {
		if t := f[slot]; t != nil {
			if b, ok := t.Value.(*builder); ok {
				t.Value = b.finished()
			}
		}
		return next
	}
}
