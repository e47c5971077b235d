package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
)

// ErrUnsupported is what Compile wraps when it leaves a policy to topdown.
var ErrUnsupported = errors.New("not supported by the plan evaluator")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnsupported}, args...)...)
}

// result is the variable of a query for one document.
const result = ast.Var("result")

// Compile makes a Program of the document at ref, which c has compiled. Data is
// read from store, once: it may not change afterwards. The compiler may not be in
// use elsewhere meanwhile.
func Compile(ctx context.Context, c *ast.Compiler, store storage.Store, ref ast.Ref) (*Program, error) {
	if err := guard(c, c.GetRules(ref)); err != nil {
		return nil, err
	}
	query := ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(ref)))
	p, err := planOf(ctx, c, store, query)
	if err != nil {
		return nil, err
	}
	data, err := read(ctx, store)
	if err != nil {
		return nil, err
	}
	if err := unwrap(p); err != nil {
		return nil, err
	}
	return compile(p, data)
}

// unwrap lets the plan of a query for one document give its value, instead of an
// object that has it under the name of the variable.
func unwrap(p *ir.Policy) error {
	if len(p.Plans.Plans) == 1 && len(p.Plans.Plans[0].Blocks) == 1 {
		b := p.Plans.Plans[0].Blocks[0]
		if n := len(b.Stmts) - 3; n >= 0 {
			_, made := b.Stmts[n].(*ir.MakeObjectStmt)
			put, ok := b.Stmts[n+1].(*ir.ObjectInsertStmt)
			_, added := b.Stmts[n+2].(*ir.ResultSetAddStmt)
			if made && ok && added {
				if value, ok := put.Value.Value.(ir.Local); ok {
					b.Stmts = append(b.Stmts[:n], &ir.ResultSetAddStmt{Value: value, Location: put.Location})
					return nil
				}
			}
		}
	}
	return unsupported("the plan of a query of another form")
}

// target is the name under which OPA hands plans to this package.
const target = "github.com/cordon-mq/cordon/policy/opa/plan"

// register is done once in a process: OPA keeps its targets for all. Read only.
var register = sync.OnceFunc(func() { rego.RegisterPlugin(target, catcher{}) })

// Register tells OPA of the target through which Compile gets its plans. OPA reads
// the list of them without a lock whenever a query is prepared, so this comes
// before the first one of the process. Calling it again does nothing.
func Register() { register() }

// catcher is a target of OPA that evaluates nothing and keeps the plan.
type catcher struct{}

type catchKey struct{}

func (catcher) IsTarget(name string) bool { return name == target }

func (catcher) PrepareForEval(ctx context.Context, p *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	if caught, ok := ctx.Value(catchKey{}).(**ir.Policy); ok {
		*caught = p
	}
	return nil, nil
}

// planOf asks OPA for the plan of query.
func planOf(ctx context.Context, c *ast.Compiler, store storage.Store, query ast.Body) (p *ir.Policy, err error) {
	Register()
	defer func() {
		if cause := recover(); cause != nil {
			p, err = nil, unsupported("the planner failed: %v", cause)
		}
	}()
	_, err = rego.New(
		rego.ParsedQuery(query),
		rego.Compiler(c),
		rego.Store(store),
		rego.Target(target),
		rego.EvalMode(ast.EvalModeTopdown), // else New changes what c does for topdown
	).PrepareForEval(context.WithValue(ctx, catchKey{}, &p))
	switch {
	case err != nil:
		return nil, unsupported("%v", err)
	case p == nil:
		return nil, unsupported("OPA made no plan")
	}
	return p, nil
}

// read is the whole of data, as a value.
func read(ctx context.Context, store storage.Store) (*ast.Term, error) {
	data, err := storage.ReadOne(ctx, store, storage.Path{})
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	v, err := ast.InterfaceToValue(data)
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	return ast.NewTerm(v), nil
}
