package confined

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

func (m *machine) call(f *frame, s *ir.CallStmt) (int, error) {
	args := make([]*ast.Term, len(s.Args))
	for i, a := range s.Args {
		args[i] = m.operand(f, a)
	}
	called := m.program.funcs[s.Func]
	if called == nil {
		return 0, fmt.Errorf("%s is not planned", s.Func)
	}
	var t *ast.Term
	var err error
	if called.builtin != nil {
		if m.trace != nil {
			m.trace.call(m, s, args)
		}
		t, err = m.callBuiltin(called, args, s)
	} else {
		t, err = m.invoke(called, args)
	}
	if err != nil || t == nil {
		return 0, err
	}
	f.set(s.Result, t)
	return next, nil
}

func (m *machine) invoke(called *function, args []*ast.Term) (*ast.Term, error) {
	if called.memoised {
		if known, ok := m.memo[called]; ok {
			return known.term, nil
		}
	}
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer func() { m.frames-- }()
	memo := m.memo // of the input and data that the call is made with
	f := &frame{slots: make([]slot, called.locals), result: called.result}
	for i, l := range called.params {
		if i < len(args) {
			f.slots[l].term = args[i]
		}
	}
	for _, b := range called.blocks {
		end, err := m.block(f, b)
		if err != nil {
			return nil, err
		}
		if end == returned {
			break
		}
	}
	if called.memoised {
		memo[called] = memoised{f.returned}
	}
	return f.returned, nil
}

func (m *machine) callBuiltin(called *function, args []*ast.Term, s *ir.CallStmt) (t *ast.Term, err error) {
	for _, a := range args {
		if a == nil {
			return nil, nil
		}
	}
	if called.guard != nil {
		if err := called.guard(args, m.left); err != nil {
			return nil, fmt.Errorf("%s: %w", called.name, err)
		}
	}
	bctx := m.builtins
	if l := s.GetLocation(); l != nil && l.File >= 0 && l.File < len(m.program.files) {
		bctx.Location = &ast.Location{File: m.program.files[l.File], Row: l.Row, Col: l.Col}
	}
	err = called.builtin(bctx, args, func(result *ast.Term) error {
		t = result
		return nil
	})
	if err != nil || t == nil {
		return nil, err
	}
	switch t.Value.(type) {
	case ast.Boolean, ast.Null:
		return t, nil
	}
	return t, m.charge(t)
}

// callDynamic finds the rule by a path that is only known now.
func (m *machine) callDynamic(f *frame, s *ir.CallDynamicStmt) (int, error) {
	path := make([]string, len(s.Path))
	for i, o := range s.Path {
		t := m.operand(f, o)
		if t == nil {
			return 0, nil
		}
		level, ok := t.Value.(ast.String)
		if !ok {
			return 0, nil
		}
		path[i] = string(level)
	}
	called := m.program.byPath[joinPath(path)]
	if called == nil {
		return 0, nil
	}
	args := make([]*ast.Term, len(s.Args))
	for i, a := range s.Args {
		args[i] = f.get(a)
	}
	t, err := m.invoke(called, args)
	if err != nil {
		return 0, err
	}
	if t == nil {
		return 3, nil // the rule is there and undefined: base documents do not count
	}
	f.set(s.Result, t)
	return next, nil
}
