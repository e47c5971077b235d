package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// The planner writes what follows a reference once for each rule that the
// reference may mean, and plans all rules again below a with that replaces a rule
// or a function. Both multiply, so they are counted before it is asked.
const (
	mostWays    = 256  // of one body to be written
	mostReplans = 6    // of one policy; each may double the plan
	mostRules   = 4096 // of one policy
)

// guard refuses policies whose plan could grow out of proportion.
func guard(c *ast.Compiler, rules []*ast.Rule) error {
	reached := map[*ast.Rule]bool{}
	replans := 0
	for len(rules) > 0 {
		rule := rules[len(rules)-1]
		rules = rules[:len(rules)-1]
		if reached[rule] {
			continue
		}
		reached[rule] = true
		if len(reached) > mostRules {
			return unsupported("more than %d rules", mostRules)
		}
		for dependency := range c.Graph.Dependencies(rule) {
			if r, ok := dependency.(*ast.Rule); ok {
				rules = append(rules, r)
			}
		}
		ways, n := growth(c, rule)
		if replans += n; replans > mostReplans || ways > mostWays {
			return unsupported("%s: its plan would be too large, or miss something", rule.Loc())
		}
	}
	return nil
}

// misplanned reports whether the planner writes e as something else.
//
// A term alone that holds a comprehension it takes for true, while topdown
// evaluates it, and may find an error there. Two literals that cannot be equal it
// writes as nothing, of which the negation does not hold.
func misplanned(e *ast.Expr) bool {
	if t, ok := e.Terms.(*ast.Term); ok {
		switch t.Value.(type) {
		case ast.Ref, ast.Var:
			return false
		}
		found := false
		ast.WalkClosures(t, func(any) bool { found = true; return true })
		return found
	}
	return e.Negated && e.IsEquality() && isLiteral(e.Operand(0)) && isLiteral(e.Operand(1))
}

func isLiteral(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object:
		return true
	}
	return false
}

// growth is how often the planner may write parts of x, and how often it plans
// the policy again for it.
func growth(c *ast.Compiler, x any) (ways, replans int) {
	ways = 1
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if misplanned(x) {
				ways = mostWays + 1
			}
		case *ast.With:
			if !x.Target.Value.(ast.Ref).HasPrefix(ast.InputRootRef) {
				replans++
			}
		case ast.Ref:
			if x.HasPrefix(ast.DefaultRootRef) && ways <= mostWays {
				ways *= max(1, choices(c.RuleTree, x))
			}
		}
		return false
	}).Walk(x)
	return ways, replans
}

// choices is how many rules ref may mean.
func choices(tree *ast.TreeNode, ref ast.Ref) int {
	tree = tree.Child(ref[0].Value)
	for _, t := range ref[1:] {
		if tree == nil || len(tree.Values) > 0 {
			return 1
		}
		if !t.IsGround() {
			return leaves(tree)
		}
		tree = tree.Child(t.Value)
	}
	return 1
}

func leaves(tree *ast.TreeNode) int {
	n := 1
	for _, child := range tree.Children {
		n += leaves(child)
	}
	return n
}
