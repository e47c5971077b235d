package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// writer makes the statements of one function. It goes over it twice: the first
// time to learn which locals are read from their slots, and what the rules agree
// on; the second time it leaves out what nobody reads.
type writer struct {
	*compiler
	params []ir.Local
	ret    ir.Local
	shared map[ir.Local]bool
	unit   int // the part of the function

	first bool
	read  map[name]bool    // in the first pass
	built map[name]bool    // locals that ever hold a builder
	parts map[[2]name]bool // what is looked up where
	slots map[name]int
	count int

	onces  []*ast.Term // what the bodies assign; nil: no constant
	agreed bool        // all bodies of the rule assign the same constant
}

// name is a local of one part of a function; part -1 stands for all.
type name struct {
	part  int
	local ir.Local
}

// fact is what is known of a local at some place.
type fact struct {
	value *ast.Term // it is this constant
	draft *builder  // it is what is being built from constants
	path  int       // it is this path of input, by its number +1; or the root
	whole bool      // its slot holds no builder
}

// root is the path of input itself.
const root = -1

type facts map[name]fact

func (known facts) clone() facts {
	c := make(facts, len(known))
	for k, v := range known {
		c[k] = v
	}
	return c
}

// function compiles one function of the plan into to.
func (c *compiler) function(to *function, params []ir.Local, ret ir.Local, blocks []*ir.Block) error {
	w := &writer{compiler: c, params: params, ret: ret, first: true, read: map[name]bool{}, built: map[name]bool{}, parts: map[[2]name]bool{}}
	w.shared = shared(parts(blocks), params)
	if _, err := w.blocks(blocks); err != nil {
		return err
	}
	w.first = false
	w.agreed = w.agrees(blocks)
	made, err := w.blocks(blocks)
	to.blocks, to.slots = made, w.count
	return err
}

// parts are what a function consists of: bodies of rules, those after else apart.
func parts(blocks []*ir.Block) (all [][]*ir.Block) {
	for _, b := range blocks {
		if s := chain(b); s != nil {
			for _, branch := range s.Blocks {
				all = append(all, []*ir.Block{branch})
			}
			continue
		}
		all = append(all, []*ir.Block{b})
	}
	return all
}

// chain is the statement of a block that has only that: a rule with its elses.
func chain(b *ir.Block) *ir.BlockStmt {
	if len(b.Stmts) != 1 {
		return nil
	}
	s, _ := b.Stmts[0].(*ir.BlockStmt)
	return s
}

// bodies is how many rules a function is made of; those after else count with the
// first.
func bodies(blocks []*ir.Block) (n int) {
	for _, b := range blocks {
		if len(b.Stmts) == 0 {
			continue
		}
		if _, ok := b.Stmts[0].(*ir.ResetLocalStmt); ok || chain(b) != nil {
			n++
		}
	}
	return n
}

// stable is how many rules, a default among them, the planner leaves in the order
// that topdown has.
const stable = 12

// agrees reports whether the first body that holds decides: topdown stops there
// too, and by then has evaluated the same.
func (w *writer) agrees(blocks []*ir.Block) bool {
	if len(w.onces) == 0 || bodies(blocks) >= stable {
		return false
	}
	for _, v := range w.onces {
		if v == nil || !equal(v, w.onces[0]) {
			return false
		}
	}
	return true
}

func (w *writer) blocks(blocks []*ir.Block) (all [][]statement, err error) {
	w.slots, w.count, w.unit = map[name]int{}, 0, 0
	known := facts{}
	for i, p := range w.params {
		w.slots[w.name(p)] = i
		switch {
		case i == 0:
			known[w.name(p)] = fact{path: root, whole: true}
		case i == 1 && w.fixed:
			known[w.name(p)] = fact{value: w.data, whole: true}
		}
	}
	w.count = len(w.params)

	for _, b := range blocks {
		var made []statement
		if s := chain(b); s != nil {
			made, err = w.chain(s, known)
		} else {
			made, err = w.block(b, known.clone(), 1)
			w.unit++
		}
		if err != nil {
			return nil, err
		}
		all = append(all, made)
		w.forget(known, written([]*ir.Block{b}))
	}
	return all, nil
}

// chain compiles the bodies of a rule and its elses, each a part of its own.
func (w *writer) chain(s *ir.BlockStmt, known facts) ([]statement, error) {
	var all [][]statement
	known = known.clone()
	w.forget(known, written(s.Blocks))
	for _, b := range s.Blocks {
		made, err := w.block(b, known.clone(), 2)
		if err != nil {
			return nil, err
		}
		all = append(all, made)
		w.unit++
	}
	return []statement{blocksStatement(all)}, nil
}

func (w *writer) name(l ir.Local) name {
	if w.shared[l] {
		return name{-1, l}
	}
	return name{w.unit, l}
}

// forget drops what is known of locals that have been or may be written.
func (w *writer) forget(known facts, locals map[ir.Local]bool) {
	for l := range locals {
		delete(known, w.name(l))
	}
}

// slot is where n is; -1: nowhere, for nobody reads it.
func (w *writer) slot(n name) int {
	if s, ok := w.slots[n]; ok {
		return s
	}
	if !w.first && !w.read[n] {
		return -1
	}
	w.slots[n] = w.count
	w.count++
	return w.slots[n]
}

// source is where a statement reads a value: a constant, or a slot.
type source struct {
	value *ast.Term
	slot  int
}

func (s source) of(f frame) *ast.Term {
	if s.value != nil {
		return s.value
	}
	return f[s.slot]
}

// constant is the value of an operand if it is known.
func (w *writer) constant(o ir.Operand, known facts) *ast.Term {
	switch v := o.Value.(type) {
	case ir.StringIndex:
		return w.strings[v]
	case ir.Bool:
		return ast.InternedTerm(bool(v))
	case ir.Local:
		return w.constantLocal(v, known)
	}
	return nil
}

func (w *writer) constantLocal(l ir.Local, known facts) *ast.Term {
	n := w.name(l)
	k := known[n]
	if k.value == nil && k.draft != nil {
		k.value, k.draft = ast.NewTerm(k.draft.finished()), nil
		known[n] = k
	}
	return k.value
}

// operand is where a statement reads o. What is being built there is finished
// first, by a statement added to block.
func (w *writer) operand(o ir.Operand, known facts, block *[]statement) source {
	if v := w.constant(o, known); v != nil {
		return source{value: v}
	}
	return w.local(o.Value.(ir.Local), known, block)
}

func (w *writer) local(l ir.Local, known facts, block *[]statement) source {
	if v := w.constantLocal(l, known); v != nil {
		return source{value: v}
	}
	n := w.name(l)
	s := w.peek(l)
	if k := known[n]; w.built[n] && !k.whole {
		k.whole = true
		known[n] = k
		*block = append(*block, finishStatement(s.slot))
	}
	return s
}

// peek is where l is, finished or not.
func (w *writer) peek(l ir.Local) source {
	n := w.name(l)
	w.read[n] = true
	return source{slot: w.slot(n)}
}

// target is where a statement writes; what was known of it is no more.
func (w *writer) target(l ir.Local, known facts) int {
	n := w.name(l)
	delete(known, n)
	return w.slot(n)
}

// settle is target of a constant.
func (w *writer) settle(l ir.Local, v *ast.Term, known facts, block *[]statement) {
	s := w.target(l, known)
	known[w.name(l)] = fact{value: v, whole: true}
	if s >= 0 {
		*block = append(*block, func(_ *machine, f frame) jump { f[s] = v; return next })
	}
}
