package plan

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// Program is one document of a policy, ready to evaluate. It is immutable and
// safe for concurrent use.
type Program struct {
	plan  function
	funcs []function
	data  *ast.Term
	paths []path
	memos int
	stack int  // slots of the deepest call
	timed bool // some built-in is given more than its operands

	machines sync.Pool
}

// path is a reference into input: what the parent has at key.
type path struct {
	parent int // of Program.paths; -1: input
	key    *ast.Term
}

// Question is what one evaluation is given.
type Question struct {
	Input  ast.Value // nil: undefined
	Now    time.Time
	Cancel topdown.Cancel // ends the evaluation from beside it; nil: nobody
}

// ErrStopped is the error of an evaluation that was cancelled.
var ErrStopped = errors.New("cancelled")

var (
	errConflict = errors.New("more than one value")
	errInternal = errors.New("a statement cannot be evaluated")
)

// Eval is the value of the document, nil when it is undefined. With ErrStopped
// the answer is that; any other error is a question for topdown.
func (p *Program) Eval(ctx context.Context, q Question) (ast.Value, error) {
	m := p.take(ctx, q)
	defer p.give(m)
	if err := m.run(); err != nil || len(m.results) == 0 {
		return nil, err
	}
	if len(m.results) > 1 {
		return nil, errConflict
	}
	return m.results[0].Value, nil
}

// machine is one evaluation.
type machine struct {
	program *Program
	input   *ast.Term
	cancel  topdown.Cancel
	stack   []*ast.Term
	top     int
	memos   []memo
	paths   []*ast.Term // values of Program.paths for input; nil: not looked up, none: undefined
	none    *ast.Term
	args    []*ast.Term
	nowhere *ast.Location

	returned *ast.Term
	err      error
	results  []*ast.Term

	output  *ast.Term
	outputs []*ast.Term
	capture func(*ast.Term) error
	collect func(*ast.Term) error
	context topdown.BuiltinContext
}

// memo is what a rule gave for one input and data.
type memo struct {
	input, data, value *ast.Term
	known              bool
}

func (p *Program) take(ctx context.Context, q Question) *machine {
	m, ok := p.machines.Get().(*machine)
	if !ok {
		m = &machine{
			program: p,
			stack:   make([]*ast.Term, p.stack),
			memos:   make([]memo, p.memos),
			paths:   make([]*ast.Term, len(p.paths)),
			none:    new(ast.Term),
			nowhere: new(ast.Location),
		}
		m.capture = func(t *ast.Term) error { m.output = t; return nil }
		m.collect = func(t *ast.Term) error { m.outputs = append(m.outputs, t); return nil }
	}
	if q.Input != nil {
		m.input = ast.NewTerm(q.Input)
	}
	m.cancel = q.Cancel
	if p.timed {
		m.context = topdown.BuiltinContext{
			Context:  ctx,
			Metrics:  metrics.NoOp(),
			Seed:     rand.Reader,
			Time:     number(strconv.FormatInt(q.Now.UnixNano(), 10)),
			Cancel:   q.Cancel,
			Cache:    builtins.Cache{},
			Location: m.nowhere,
		}
	}
	return m
}

// give empties m, which has seen somebody's facts, and keeps the memory.
func (p *Program) give(m *machine) {
	clear(m.stack)
	clear(m.memos)
	clear(m.paths)
	clear(m.args)
	clear(m.results)
	m.input, m.cancel, m.top, m.args, m.results = nil, nil, 0, m.args[:0], m.results[:0]
	m.returned, m.err, m.output, m.outputs = nil, nil, nil, nil
	m.context = topdown.BuiltinContext{}
	p.machines.Put(m)
}

func (m *machine) run() error {
	f := frame(m.stack[:m.program.plan.slots])
	m.top = len(f)
	f[0], f[1] = m.input, m.program.data
	for _, block := range m.program.plan.blocks {
		if perform(m, f, block) == failed {
			return m.err
		}
	}
	return nil
}

// frame has the slots of one call; nil is undefined.
type frame []*ast.Term

// jump says how execution goes on after a statement: n > 0 leaves n blocks.
type jump int

const (
	next     jump = 0
	leave    jump = 1  // also what an undefined statement does
	returned jump = -1 // from the function, with machine.returned
	failed   jump = -2 // with machine.err
)

type statement func(m *machine, f frame) jump

// perform does the statements of a block until one jumps.
func perform(m *machine, f frame, block []statement) jump {
	for _, s := range block {
		if j := s(m, f); j != next {
			return j
		}
	}
	return next
}

func (m *machine) fail(err error) jump {
	m.err = err
	return failed
}

func (m *machine) stopped() bool { return m.cancel != nil && m.cancel.Cancelled() }

// function is a rule, or all of one name, or a query.
type function struct {
	name   string
	params int
	slots  int
	memo   int // of machine.memos; -1: it has arguments
	blocks [][]statement
}

// call is what fn gives for the arguments, that args writes into its frame; ok is
// false when the evaluation ends.
func (m *machine) call(fn *function, f frame, args func(from, to frame)) (v *ast.Term, ok bool) {
	if m.stopped() {
		m.err = ErrStopped
		return nil, false
	}
	to := frame(m.stack[m.top : m.top+fn.slots])
	args(f, to)
	if fn.memo >= 0 {
		if known := &m.memos[fn.memo]; known.known && known.input == to[0] && known.data == to[1] {
			clear(to[:2])
			return known.value, true
		}
	}
	input, data := to[0], to[1]
	m.top += fn.slots
	j := next
	for _, block := range fn.blocks {
		if j = perform(m, to, block); j < next {
			break
		}
	}
	m.top -= fn.slots
	clear(to)
	if j == failed {
		return nil, false
	}
	if j == returned {
		v = m.returned
	}
	if fn.memo >= 0 {
		m.memos[fn.memo] = memo{input, data, v, true}
	}
	return v, true
}

// lookup is what the path has in input, from memory if input is the one that was
// given.
func (m *machine) lookup(id int, input *ast.Term) *ast.Term {
	p := &m.program.paths[id]
	if input != m.input {
		if p.parent >= 0 {
			input = m.lookup(p.parent, input)
		}
		return dot(input, p.key)
	}
	v := m.paths[id]
	if v == nil {
		if p.parent >= 0 {
			input = m.lookup(p.parent, input)
		}
		if v = dot(input, p.key); v == nil {
			v = m.none
		}
		m.paths[id] = v
	}
	if v == m.none {
		return nil
	}
	return v
}

// scan does turn for each element of v.
func (m *machine) scan(f frame, v ast.Value, key, value int, turn []statement) (j jump) {
	step := func(k, v *ast.Term) (stop bool) {
		if m.stopped() {
			j = m.fail(ErrStopped)
			return true
		}
		if key >= 0 {
			f[key] = k
		}
		if value >= 0 {
			f[value] = v
		}
		j = perform(m, f, turn)
		return j < next
	}
	switch v := v.(type) {
	case *ast.Array:
		for i := range v.Len() {
			var k *ast.Term
			if key >= 0 {
				k = ast.InternedTerm(i)
			}
			if step(k, v.Elem(i)) {
				return j
			}
		}
		return next
	case ast.Object:
		v.Until(step)
	case ast.Set:
		v.Until(func(e *ast.Term) bool { return step(e, e) })
	}
	if j < next {
		return j
	}
	return next
}

func (m *machine) length(f frame, v *ast.Term, to int) jump {
	if v == nil {
		return m.fail(errInternal)
	}
	n, ok := size(v.Value)
	if !ok {
		return m.fail(errInternal)
	}
	if to >= 0 {
		f[to] = ast.InternedTerm(n)
	}
	return next
}

// merge joins what data and rules have at one place.
func (m *machine) merge(f frame, a, b *ast.Term, to int) jump {
	if a == nil || b == nil {
		return m.fail(errInternal)
	}
	base, ok := a.Value.(ast.Object)
	virtual, also := b.Value.(ast.Object)
	if !ok || !also {
		return m.fail(errConflict)
	}
	merged, ok := base.Merge(virtual)
	if !ok {
		return m.fail(errConflict)
	}
	if to >= 0 {
		f[to] = ast.NewTerm(merged)
	}
	return next
}

func (m *machine) addResult(v *ast.Term) jump {
	if v == nil {
		return m.fail(errInternal)
	}
	for _, old := range m.results {
		if equal(old, v) {
			return next
		}
	}
	m.results = append(m.results, v)
	return next
}

// builder is what is built in a slot. What is no builder may be seen elsewhere,
// so that a copy takes its place; nil: it is of another kind.
func (m *machine) builder(f frame, slot int, k kind) *builder {
	t := f[slot]
	if t == nil {
		return nil
	}
	if b, ok := t.Value.(*builder); ok {
		if b.kind != k {
			return nil
		}
		return b
	}
	b := rebuilding(k, t.Value)
	if b != nil {
		f[slot] = &ast.Term{Value: b}
	}
	return b
}
