package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// silent are built-ins whose work is not in their value. Read only.
var silent = map[string]bool{ast.InternalPrint.Name: true, ast.Print.Name: true, ast.InternalTestCase.Name: true, ast.Trace.Name: true}

func (w *writer) call(s *ir.CallStmt, known facts, block *[]statement) error {
	fn := w.functions[s.Func]
	if fn != nil {
		return w.callRule(fn, s, known, block)
	}
	declared, builtin := ast.BuiltinMap[s.Func], topdown.GetBuiltin(s.Func)
	if declared == nil || builtin == nil || silent[s.Func] {
		return unsupported("built-in %s", s.Func)
	}
	var from []source
	for _, a := range s.Args {
		from = append(from, w.operand(a, known, block))
	}
	to := w.target(s.Result, known)
	b := &builtinCall{call: builtin, from: from, to: to, void: declared.Decl.Result() == nil, bare: declared.CanSkipBctx}
	if !b.bare {
		w.timed = true
	}
	if declared.Relation {
		*block = append(*block, b.all)
		return nil
	}
	*block = append(*block, b.one)
	return nil
}

func (w *writer) callRule(fn *function, s *ir.CallStmt, known facts, block *[]statement) error {
	if len(s.Args) != fn.params {
		return unsupported("call of %s with %d arguments", s.Func, len(s.Args))
	}
	if data, ok := s.Args[1].Value.(ir.Local); !ok || data != w.params[1] {
		return unsupported("call of %s with other data", s.Func)
	}
	var from []source
	for _, a := range s.Args {
		from = append(from, w.operand(a, known, block))
	}
	to := w.target(s.Result, known)
	args := func(f, to frame) {
		for i, a := range from {
			to[i] = a.of(f)
		}
	}
	if len(from) == 2 {
		input, data := from[0], from[1]
		args = func(f, to frame) { to[0], to[1] = input.of(f), data.of(f) }
	}
	*block = append(*block, func(m *machine, f frame) jump {
		v, ok := m.call(fn, f, args)
		if !ok {
			return failed
		}
		if to >= 0 {
			f[to] = v
		}
		return unless(v != nil)
	})
	return nil
}

// callDynamic calls the rule whose name is known by now. One that is undefined
// ends the reference, and no rule leaves it to data.
func (w *writer) callDynamic(s *ir.CallDynamicStmt, known facts, depth int, block *[]statement) error {
	const wholeReference jump = 4
	if depth < int(wholeReference) || len(s.Args) != 2 || s.Args[1] != w.params[1] {
		return unsupported("a dynamic call of another form")
	}
	var path []source
	for _, o := range s.Path {
		path = append(path, w.operand(o, known, block))
	}
	input, data := w.local(s.Args[0], known, block), w.local(s.Args[1], known, block)
	to := w.target(s.Result, known)
	args := func(f, to frame) { to[0], to[1] = input.of(f), data.of(f) }
	root := w.dispatch
	*block = append(*block, func(m *machine, f frame) jump {
		d := root
		for _, p := range path {
			v := p.of(f)
			if v == nil {
				return leave
			}
			name, ok := v.Value.(ast.String)
			if !ok {
				return leave
			}
			if d = d.children[string(name)]; d == nil {
				return leave
			}
		}
		if d.function == nil {
			return leave
		}
		v, ok := m.call(d.function, f, args)
		if !ok {
			return failed
		}
		if to >= 0 {
			f[to] = v
		}
		if v == nil {
			return wholeReference
		}
		return next
	})
	return nil
}

// builtinCall is one call of a built-in function.
type builtinCall struct {
	call topdown.BuiltinFunc
	from []source
	to   int
	void bool
	bare bool // it needs nothing but its operands
}

// do calls it, and leaves what it gives to capture.
func (b *builtinCall) do(m *machine, f frame, capture func(*ast.Term) error) jump {
	if m.stopped() {
		return m.fail(ErrStopped)
	}
	base := len(m.args)
	for _, s := range b.from {
		v := s.of(f)
		if v == nil {
			return m.fail(errInternal)
		}
		m.args = append(m.args, v)
	}
	operands := m.args[base:len(m.args):len(m.args)]
	var err error
	if b.bare {
		err = b.call(topdown.BuiltinContext{Location: m.nowhere}, operands, capture)
	} else {
		err = b.call(m.context, operands, capture)
	}
	clear(operands)
	m.args = m.args[:base]
	switch {
	case err == nil:
		return next
	case topdown.IsCancel(err) || m.stopped():
		return m.fail(ErrStopped)
	}
	return m.fail(err)
}

func (b *builtinCall) one(m *machine, f frame) jump {
	m.output = nil
	if j := b.do(m, f, m.capture); j != next {
		return j
	}
	if b.void {
		return next
	}
	v := m.output
	m.output = nil
	if b.to >= 0 {
		f[b.to] = v
	}
	return unless(v != nil)
}

// all is one for a relation: its value is the array of all that it gives.
func (b *builtinCall) all(m *machine, f frame) jump {
	m.outputs = nil
	if j := b.do(m, f, m.collect); j != next {
		return j
	}
	if b.to >= 0 {
		f[b.to] = ast.ArrayTerm(m.outputs...)
	}
	m.outputs = nil
	return next
}
