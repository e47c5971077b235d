package confined

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Limits of one evaluation.
type Limits struct {
	// Cancel ends it at the next statement; nil: nothing does.
	Cancel topdown.Cancel
	// Most is what may be put into arrays, sets and objects and returned by
	// built-ins, all together: 8 for each value, and the bytes of texts and numbers.
	// 0: 1 MiB.
	Most int
}

// maxInput bounds the input of an evaluation, as Limits.Most counts.
const maxInput = 1 << 20

// maxFrames bounds calls and blocks inside each other.
const maxFrames = 4000

// ErrBounds is the class of errors that say an evaluation went beyond a bound.
var ErrBounds = errors.New("beyond what an evaluation may use")

// ErrCancelled is the error of an evaluation that was cancelled.
var ErrCancelled = errors.New("cancelled")

// ErrConflict is the class of errors that say two rules gave different answers.
var ErrConflict = errors.New("conflict")

func beyond(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrBounds)
}

// ErrPanic is the class of errors that say a built-in or a comparison panicked, as
// those of OPA do with numbers that are out of its range.
var ErrPanic = errors.New("panic")

// Run evaluates one entry point. A nil Term is undefined. The error names where it
// happened as file:line:col.
func (p *Program) Run(ctx context.Context, entryPoint string, input ast.Value, now time.Time, l Limits) (*ast.Term, error) {
	return p.run(ctx, entryPoint, input, now, l, nil)
}

func (p *Program) run(ctx context.Context, entryPoint string, input ast.Value, now time.Time, l Limits, trace *Trace) (t *ast.Term, err error) {
	defer func() {
		if v := recover(); v != nil {
			t, err = nil, fmt.Errorf("%v: %w", v, ErrPanic)
		}
	}()
	q := p.plans[entryPoint]
	if q == nil {
		return nil, nil
	}
	m := &machine{program: p, limits: l, left: l.Most, memo: map[*function]memoised{}, trace: trace}
	if m.left <= 0 {
		m.left = 1 << 20
	}
	m.builtins = topdown.BuiltinContext{
		Context: ctx, Cancel: l.Cancel, Cache: map[any]any{},
		Time: ast.NumberTerm(json.Number(strconv.FormatInt(now.UnixNano(), 10))),
	}
	f := &frame{slots: make([]slot, q.locals), result: noLocal}
	f.slots[ir.Data].term = p.data
	if input != nil {
		if measure(input, maxInput) < 0 {
			return nil, beyond("the input is too large, or has a number of more than %d digits, or with an exponent beyond %d", maxDigits, maxPower)
		}
		f.slots[ir.Input].term = ast.NewTerm(input)
	}
	for _, b := range q.blocks {
		if _, err := m.block(f, b); err != nil {
			return nil, err
		}
	}
	if m.result == nil {
		return nil, nil
	}
	o, ok := m.result.Value.(ast.Object)
	if !ok {
		return nil, errors.New("the plan has no result")
	}
	return o.Get(resultKey), nil
}

// Read only.
var (
	resultKey = ast.StringTerm("result")
	trueTerm  = ast.BooleanTerm(true)
	falseTerm = ast.BooleanTerm(false)
)

// machine carries out one evaluation.
type machine struct {
	program  *Program
	limits   Limits
	builtins topdown.BuiltinContext
	left     int // of Limits.Most
	frames   int
	memo     map[*function]memoised
	result   *ast.Term
	trace    *Trace // nil: nobody looks on
	replaced int    // how many with we are inside of
}

// memoised is what a rule gave; a nil term is undefined.
type memoised struct{ term *ast.Term }

// slot is one local. A list is an array in the making.
type slot struct {
	term   *ast.Term
	list   []*ast.Term
	making bool
}

func (s *slot) value() *ast.Term {
	if s.term == nil && s.making {
		s.term = ast.ArrayTerm(s.list...)
	}
	return s.term
}

type frame struct {
	slots    []slot
	returned *ast.Term
	// For a trace: the local of the result, and whether a rule gave a value that is not
	// there yet.
	result ir.Local
	given  bool
}

// noLocal is the result of what has none.
const noLocal ir.Local = -1

func (f *frame) get(l ir.Local) *ast.Term { return f.slots[l].value() }

func (f *frame) set(l ir.Local, t *ast.Term) { f.slots[l] = slot{term: t} }

// next, and below it returned, are how a statement ends that does not leave
// blocks. 0 leaves the block it is in, as everything undefined does; more leaves
// the ones around it, too.
const (
	next     = -1
	returned = -2
)

func (m *machine) operand(f *frame, o ir.Operand) *ast.Term {
	switch v := o.Value.(type) {
	case ir.Local:
		return f.get(v)
	case ir.StringIndex:
		return m.program.strings[v]
	case ir.Bool:
		if v {
			return trueTerm
		}
		return falseTerm
	}
	return nil
}

// charge takes what t holds, as often as it does, from what is left.
func (m *machine) charge(t *ast.Term) error {
	if m.left = measure(t.Value, m.left); m.left < 0 {
		return beyond("too much is built, or a number has more than %d digits", maxDigits)
	}
	return nil
}

func (m *machine) enter() error {
	if m.frames++; m.frames > maxFrames {
		return beyond("calls and blocks are nested too deep")
	}
	return nil
}

func (m *machine) block(f *frame, b *ir.Block) (int, error) {
	if b == nil {
		return next, nil
	}
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer func() { m.frames-- }()
	for _, s := range b.Stmts {
		if m.limits.Cancel != nil && m.limits.Cancel.Cancelled() {
			return 0, ErrCancelled
		}
		if m.trace != nil {
			m.trace.reach(m, f, s)
		}
		end, err := m.statement(f, s)
		if err != nil {
			return 0, m.located(s, err)
		}
		if end != next {
			return end, nil
		}
	}
	return next, nil
}

// located puts the position of s before err, unless one is there.
func (m *machine) located(s ir.Stmt, err error) error {
	var at *positioned
	if errors.As(err, &at) || errors.Is(err, ErrCancelled) {
		return err
	}
	l := s.GetLocation()
	if l == nil || l.Row == 0 || l.File < 0 || l.File >= len(m.program.files) {
		return err
	}
	return &positioned{fmt.Sprintf("%s:%d:%d", m.program.files[l.File], l.Row, max(l.Col, 1)), err}
}

type positioned struct {
	at  string
	err error
}

func (p *positioned) Error() string { return p.at + ": " + p.err.Error() }
func (p *positioned) Unwrap() error { return p.err }

// outer is how a statement ends that holds a block which ended so.
func outer(end int) int {
	if end > 0 {
		return end - 1
	}
	return end
}

func defined(ok bool) int {
	if ok {
		return next
	}
	return 0
}
