package plan

import (
	"encoding/json"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

const (
	// mostBodies is how many bodies the rules of one name may have. They are tried
	// one after the other, while topdown asks an index; see RATIONALE.md.
	mostBodies = 64
	// mostStatements bounds a plan, and mostInOne one function of it.
	mostStatements = 1 << 15
	mostInOne      = 1 << 12
)

// compiler makes a Program of a plan.
type compiler struct {
	*Program
	policy    *ir.Policy
	strings   []*ast.Term
	functions map[string]*function
	dispatch  *dispatch
	steps     map[step]int // numbers of Program.paths
	fixed     bool         // no statement replaces data
}

func compile(p *ir.Policy, data *ast.Term) (*Program, error) {
	c := &compiler{
		Program:   &Program{data: data},
		policy:    p,
		functions: map[string]*function{},
		dispatch:  &dispatch{},
		steps:     map[step]int{},
		fixed:     true,
	}
	if err := c.survey(); err != nil {
		return nil, err
	}
	for _, s := range p.Static.Strings {
		c.strings = append(c.strings, ast.StringTerm(s.Value))
	}
	c.funcs = make([]function, len(p.Funcs.Funcs))
	for i, fn := range p.Funcs.Funcs {
		to := &c.funcs[i]
		to.name, to.params, to.memo = fn.Name, len(fn.Params), -1
		if to.params == 2 {
			to.memo = c.memos
			c.memos++
			c.dispatch.put(fn.Path, to)
		}
		c.functions[fn.Name] = to
	}
	for i, fn := range p.Funcs.Funcs {
		if err := c.function(&c.funcs[i], fn.Params, fn.Return, fn.Blocks); err != nil {
			return nil, err
		}
	}
	c.plan.memo = -1
	c.plan.params = 2
	if err := c.function(&c.plan, []ir.Local{ir.Input, ir.Data}, -1, p.Plans.Plans[0].Blocks); err != nil {
		return nil, err
	}
	if err := c.measure(); err != nil {
		return nil, err
	}
	return c.Program, nil
}

// survey looks at the whole plan for what is not supported, and for what its
// functions may rely on.
func (c *compiler) survey() error {
	if len(c.policy.Plans.Plans) != 1 {
		return unsupported("%d plans", len(c.policy.Plans.Plans))
	}
	statements := 0
	look := func(data ir.Local, blocks []*ir.Block) error {
		if bodies(blocks) > mostBodies {
			return unsupported("more than %d bodies of one rule", mostBodies)
		}
		before := statements
		return each(blocks, func(s ir.Stmt, a access) error {
			if statements++; statements > mostStatements || statements-before > mostInOne {
				return unsupported("too many statements")
			}
			if not, ok := s.(*ir.NotStmt); ok && !negates(not.Block) {
				return unsupported("the negation of a reference that may mean several rules")
			}
			for _, l := range a.writes {
				if l == data {
					c.fixed = false
				}
			}
			return nil
		})
	}
	for _, fn := range c.policy.Funcs.Funcs {
		if len(fn.Params) < 2 {
			return unsupported("function %s without input and data", fn.Name)
		}
		if err := look(fn.Params[1], fn.Blocks); err != nil {
			return err
		}
	}
	return look(ir.Data, c.policy.Plans.Plans[0].Blocks)
}

// negates reports whether the end of a negated block is reached exactly where what
// it negates holds. Of a reference that may mean several rules, the planner writes
// a block for each, with what follows inside; whoever comes out of those learns
// nothing.
func negates(b *ir.Block) bool {
	for i, s := range b.Stmts {
		switch s.(type) {
		case *ir.ScanStmt, *ir.WithStmt:
			return false
		case *ir.BlockStmt:
			if i == len(b.Stmts)-1 {
				return false
			}
		}
	}
	return true
}

// measure computes how many slots the deepest call needs.
func (c *compiler) measure() error {
	calls := map[*function][]*function{}
	collect := func(from *function, blocks []*ir.Block) error {
		return each(blocks, func(s ir.Stmt, _ access) error {
			switch s := s.(type) {
			case *ir.CallStmt:
				if to := c.functions[s.Func]; to != nil {
					calls[from] = append(calls[from], to)
				}
			case *ir.CallDynamicStmt:
				calls[from] = append(calls[from], c.dispatch.below(len(s.Path))...)
			}
			return nil
		})
	}
	for i, fn := range c.policy.Funcs.Funcs {
		_ = collect(&c.funcs[i], fn.Blocks)
	}
	_ = collect(&c.plan, c.policy.Plans.Plans[0].Blocks)

	const underway = -1
	need := map[*function]int{}
	var measure func(fn *function) (int, error)
	measure = func(fn *function) (int, error) {
		if n, ok := need[fn]; ok {
			if n == underway {
				return 0, unsupported("function %s may call itself", fn.name)
			}
			return n, nil
		}
		need[fn] = underway
		deepest := 0
		for _, to := range calls[fn] {
			n, err := measure(to)
			if err != nil {
				return 0, err
			}
			deepest = max(deepest, n)
		}
		need[fn] = fn.slots + deepest
		return need[fn], nil
	}
	var err error
	c.stack, err = measure(&c.plan)
	return err
}

// child is the number of the path that has key below parent.
func (c *compiler) child(parent int, key *ast.Term) int {
	text := step{parent, key.String()}
	id, ok := c.steps[text]
	if !ok {
		id = len(c.paths)
		c.steps[text] = id
		c.paths = append(c.paths, path{parent, key})
	}
	return id
}

// step is a path by the text of its key.
type step struct {
	parent int
	key    string
}

func number(n string) *ast.Term { return ast.NumberTerm(json.Number(n)) }

// dispatch finds rules by the path of their names.
type dispatch struct {
	function *function
	children map[string]*dispatch
}

func (d *dispatch) put(path []string, fn *function) {
	for _, name := range path {
		if d.children == nil {
			d.children = map[string]*dispatch{}
		}
		if d.children[name] == nil {
			d.children[name] = &dispatch{}
		}
		d = d.children[name]
	}
	if len(path) > 0 {
		d.function = fn
	}
}

// below are all rules that a path of n names may lead to.
func (d *dispatch) below(n int) (all []*function) {
	if n == 0 {
		if d.function != nil {
			all = append(all, d.function)
		}
		return all
	}
	for _, child := range d.children {
		all = append(all, child.below(n-1)...)
	}
	return all
}
