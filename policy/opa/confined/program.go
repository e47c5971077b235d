package confined

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Program is a set of entry points, ready to run.
type Program struct {
	plans   map[string]*plan
	funcs   map[string]*function
	byPath  map[string]*function
	strings []*ast.Term
	files   []string
	data    *ast.Term
}

// plan is what evaluates one entry point.
type plan struct {
	blocks []*ir.Block
	locals int
}

// function is a rule or function of the source, or a built-in.
type function struct {
	name   string
	params []ir.Local
	blocks []*ir.Block
	locals int
	result ir.Local
	// memoised: a rule, whose value stays the same while input and data do.
	memoised bool

	builtin topdown.BuiltinFunc
	guard   guard
}

// EntryPoint names the rule that ref refers to, as Compile and Run do.
func EntryPoint(ref ast.Ref) (string, error) { return ref.Ptr() }

// Compile plans the entry points, which have to be rules of modules. The modules
// were compiled before, against [Capabilities], without an error; what fails here
// is something that cannot be planned.
func Compile(ctx context.Context, modules map[string]*ast.Module, data map[string]any, entryPoints []string) (*Program, error) {
	p := &Program{plans: map[string]*plan{}, funcs: map[string]*function{}, byPath: map[string]*function{}}
	value, err := ast.InterfaceToValue(data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	p.data = ast.NewTerm(value)
	if len(entryPoints) == 0 {
		return p, nil
	}
	policy, err := planOf(ctx, modules, entryPoints)
	if err != nil {
		return nil, err
	}
	return p, p.load(policy)
}

func planOf(ctx context.Context, modules map[string]*ast.Module, entryPoints []string) (*ir.Policy, error) {
	b := &bundle.Bundle{Data: map[string]any{}}
	for name, m := range modules {
		b.Modules = append(b.Modules, bundle.ModuleFile{URL: name, Path: name, Parsed: m})
	}
	slices.SortFunc(b.Modules, func(a, b bundle.ModuleFile) int { return strings.Compare(a.Path, b.Path) })
	c := compile.New().WithTarget(compile.TargetPlan).WithBundle(b).WithEntrypoints(entryPoints...).
		WithCapabilities(Capabilities()).WithRegoVersion(ast.RegoV1).WithPruneUnused(true)
	if err := c.Build(ctx); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	plans := c.Bundle().PlanModules
	if len(plans) != 1 {
		return nil, errors.New("plan: there is none")
	}
	var policy ir.Policy
	if err := json.Unmarshal(plans[0].Raw, &policy); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return &policy, nil
}

// load prepares what was planned for running.
func (p *Program) load(policy *ir.Policy) error {
	if policy.Static != nil {
		for _, s := range policy.Static.Strings {
			p.strings = append(p.strings, ast.StringTerm(s.Value))
		}
		for _, f := range policy.Static.Files {
			p.files = append(p.files, f.Value)
		}
		for _, b := range policy.Static.BuiltinFuncs {
			guard, ok := allowed[b.Name]
			call := topdown.GetBuiltin(b.Name)
			if !ok || call == nil {
				return fmt.Errorf("plan: %s is not available", b.Name)
			}
			p.funcs[b.Name] = &function{name: b.Name, builtin: call, guard: guard}
		}
	}
	if policy.Funcs != nil {
		for _, f := range policy.Funcs.Funcs {
			n := slots{most: f.Return}
			for _, l := range f.Params {
				n.see(l)
			}
			if err := n.blocks(f.Blocks); err != nil {
				return err
			}
			made := &function{name: f.Name, params: f.Params, blocks: f.Blocks, locals: int(n.most) + 1, result: f.Return, memoised: len(f.Params) == 2}
			p.funcs[f.Name] = made
			if len(f.Path) > 0 {
				p.byPath[joinPath(f.Path)] = made
			}
		}
	}
	if policy.Plans != nil {
		for _, q := range policy.Plans.Plans {
			n := slots{most: ir.Data}
			if err := n.blocks(q.Blocks); err != nil {
				return err
			}
			p.plans[q.Name] = &plan{blocks: q.Blocks, locals: int(n.most) + 1}
		}
	}
	return nil
}

// joinPath is injective: a level cannot hold the separator's length prefix of
// another.
func joinPath(path []string) string {
	var b strings.Builder
	for _, level := range path {
		fmt.Fprintf(&b, "%d:%s", len(level), level)
	}
	return b.String()
}

// slots finds how many locals a frame has, and that every statement is one that
// machine carries out.
type slots struct{ most ir.Local }

func (n *slots) see(l ir.Local) { n.most = max(n.most, l) }

// operand also makes of o what it points to: read from JSON, values are pointers.
func (n *slots) operand(o *ir.Operand) {
	switch v := o.Value.(type) {
	case *ir.Local:
		o.Value = *v
	case *ir.StringIndex:
		o.Value = *v
	case *ir.Bool:
		o.Value = *v
	}
	if l, ok := o.Value.(ir.Local); ok {
		n.see(l)
	}
}

func (n *slots) blocks(blocks []*ir.Block) error {
	for _, b := range blocks {
		if b == nil {
			continue
		}
		for _, s := range b.Stmts {
			if err := n.statement(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *slots) statement(s ir.Stmt) error {
	switch s := s.(type) {
	case *ir.BlockStmt:
		return n.blocks(s.Blocks)
	case *ir.ScanStmt:
		n.see(s.Source)
		n.see(s.Key)
		n.see(s.Value)
		return n.blocks([]*ir.Block{s.Block})
	case *ir.NotStmt:
		return n.blocks([]*ir.Block{s.Block})
	case *ir.WithStmt:
		n.see(s.Local)
		n.operand(&s.Value)
		return n.blocks([]*ir.Block{s.Block})
	case *ir.CallStmt:
		n.see(s.Result)
		for i := range s.Args {
			n.operand(&s.Args[i])
		}
	case *ir.CallDynamicStmt:
		n.see(s.Result)
		for _, a := range s.Args {
			n.see(a)
		}
		for i := range s.Path {
			n.operand(&s.Path[i])
		}
	case *ir.ReturnLocalStmt:
		n.see(s.Source)
	case *ir.DotStmt:
		n.operand(&s.Source)
		n.operand(&s.Key)
		n.see(s.Target)
	case *ir.LenStmt:
		n.operand(&s.Source)
		n.see(s.Target)
	case *ir.AssignVarStmt:
		n.operand(&s.Source)
		n.see(s.Target)
	case *ir.AssignVarOnceStmt:
		n.operand(&s.Source)
		n.see(s.Target)
	case *ir.EqualStmt:
		n.operand(&s.A)
		n.operand(&s.B)
	case *ir.NotEqualStmt:
		n.operand(&s.A)
		n.operand(&s.B)
	case *ir.ArrayAppendStmt:
		n.operand(&s.Value)
		n.see(s.Array)
	case *ir.SetAddStmt:
		n.operand(&s.Value)
		n.see(s.Set)
	case *ir.ObjectInsertStmt:
		n.operand(&s.Key)
		n.operand(&s.Value)
		n.see(s.Object)
	case *ir.ObjectInsertOnceStmt:
		n.operand(&s.Key)
		n.operand(&s.Value)
		n.see(s.Object)
	case *ir.ObjectMergeStmt:
		n.see(s.A)
		n.see(s.B)
		n.see(s.Target)
	case *ir.IsArrayStmt:
		n.operand(&s.Source)
	case *ir.IsObjectStmt:
		n.operand(&s.Source)
	case *ir.IsSetStmt:
		n.operand(&s.Source)
	case *ir.IsDefinedStmt:
		n.see(s.Source)
	case *ir.IsUndefinedStmt:
		n.see(s.Source)
	case *ir.ResetLocalStmt:
		n.see(s.Target)
	case *ir.AssignIntStmt:
		n.see(s.Target)
	case *ir.MakeNullStmt:
		n.see(s.Target)
	case *ir.MakeNumberIntStmt:
		n.see(s.Target)
	case *ir.MakeNumberRefStmt:
		n.see(s.Target)
	case *ir.MakeArrayStmt:
		n.see(s.Target)
	case *ir.MakeObjectStmt:
		n.see(s.Target)
	case *ir.MakeSetStmt:
		n.see(s.Target)
	case *ir.ResultSetAddStmt:
		n.see(s.Value)
	case *ir.BreakStmt, *ir.NopStmt:
	default:
		return fmt.Errorf("plan: statement %T is not known", s)
	}
	return nil
}
