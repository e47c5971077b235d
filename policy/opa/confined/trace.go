package confined

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Trace is where in the source an evaluation came by. It is no larger than the
// program: of what is carried out often, the first time is kept.
type Trace struct {
	// Steps are the places that were reached, in the order of the first time.
	Steps []Step
	// Calls are the built-ins that were called, in the order of the first time.
	Calls []Call

	places map[Place]int // in Steps
	called map[*ir.CallStmt]bool
}

// Place is a position in the source. Expressions and the heads of rules begin there.
type Place struct {
	File     string
	Row, Col int
}

// Step is one place.
type Step struct {
	Place
	// Gave says that the rule whose head is here gave a value.
	Gave bool
	// Replaced says that a part of input or data was replaced, the first time.
	Replaced bool
}

// Call is a call of a built-in.
type Call struct {
	Place
	Name     string
	Operands []*ast.Term
	Replaced bool
}

// Explain is Run by somebody who looks on: the same answer within the same limits, and
// where it came from. The Trace is also of an evaluation that failed.
func (p *Program) Explain(ctx context.Context, entryPoint string, input ast.Value, now time.Time, l Limits) (*ast.Term, *Trace, error) {
	trace := &Trace{places: map[Place]int{}, called: map[*ir.CallStmt]bool{}}
	t, err := p.run(ctx, entryPoint, input, now, l, trace)
	return t, trace, err
}

func (t *Trace) at(m *machine, s ir.Stmt) (Place, bool) {
	l := s.GetLocation()
	if l == nil || l.Row == 0 || l.File < 0 || l.File >= len(m.program.files) {
		return Place{}, false
	}
	return Place{m.program.files[l.File], l.Row, l.Col}, true
}

// reach notes that s is about to be carried out.
func (t *Trace) reach(m *machine, f *frame, s ir.Stmt) {
	at, ok := t.at(m, s)
	if !ok {
		return
	}
	i, known := t.places[at]
	if !known {
		i = len(t.Steps)
		t.places[at] = i
		t.Steps = append(t.Steps, Step{Place: at, Replaced: m.replaced > 0})
	}
	switch s := s.(type) {
	case *ir.AssignVarOnceStmt:
		// What is put into the result is what a rule gave before, or a default.
		if s.Target != f.result || !f.given {
			t.Steps[i].Gave = true
		}
		f.given = s.Target != f.result
	case *ir.SetAddStmt, *ir.ObjectInsertStmt, *ir.ObjectInsertOnceStmt:
		t.Steps[i].Gave = true
	}
}

func (t *Trace) call(m *machine, s *ir.CallStmt, operands []*ast.Term) {
	if at, ok := t.at(m, s); ok && !t.called[s] {
		t.called[s] = true
		t.Calls = append(t.Calls, Call{at, s.Func, operands, m.replaced > 0})
	}
}
