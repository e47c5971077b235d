package confined

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// Bounds of what one file may hold. OPA's compiler orders the expressions of a
// body in time that grows with the square of their number, and walks terms on its
// stack; neither can be interrupted.
const (
	maxSourceBytes = 256 << 10
	maxRules       = 2000 // of one module
	maxExpressions = 128  // of one body
	maxElements    = 4096 // of one literal
	maxNesting     = 24   // of terms and bodies in each other
	maxBrackets    = 256  // open at once in the text, before it is parsed
	maxReference   = 64   // levels of a reference
	maxWith        = 16   // of one expression
	maxImports     = 64   // of one module
	maxOrdering    = 4e6  // the sum of the cubes of the lengths of all bodies
	maxType        = 4096 // parts of the type of one rule or variable
)

// CheckText reports what is wrong with text before a parser looks at it: parsers
// descend into brackets on their stack. row counts from 1.
func CheckText(text []byte) (row int, err error) {
	row = 1
	if len(text) > maxSourceBytes {
		return row, fmt.Errorf("the file is larger than %d KiB", maxSourceBytes>>10)
	}
	depth := 0
	inside := byte(0) // what a text or comment ends with
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\n' {
			row++
		}
		switch {
		case inside != 0:
			switch {
			case c == '\\' && inside == '"':
				i++
			case c == inside || c == '\n' && inside == '"':
				inside = 0
			}
		case c == '"' || c == '`':
			if i > 0 && text[i-1] == '$' {
				return row, errors.New("texts with expressions inside are not available here; there is concat")
			}
			inside = c
		case c == '#':
			inside = '\n'
		case c == '(' || c == '[' || c == '{':
			if depth++; depth > maxBrackets {
				return row, fmt.Errorf("more than %d brackets are open", maxBrackets)
			}
		case c == ')' || c == ']' || c == '}':
			depth = max(0, depth-1)
		}
	}
	return 0, nil
}

// Excess is something in a module that is more than compiling it is worth.
type Excess struct {
	Location *ast.Location
	Message  string
}

// CheckModules lists what modules have too much of, each and together.
func CheckModules(modules map[string]*ast.Module) (found []Excess) {
	rules, work := 0, 0
	for _, name := range util.KeysSorted(modules) {
		m := modules[name]
		found = append(found, checkModule(m)...)
		rules += len(m.Rules)
		ast.WalkBodies(m, func(b ast.Body) bool {
			work += len(b) * len(b) * len(b)
			return false
		})
		if work > maxOrdering && len(found) == 0 {
			found = append(found, Excess{m.Package.Location, "the bodies of all rules together are too long: OPA orders the expressions of each"})
		}
	}
	if rules > maxRules && len(found) == 0 {
		found = append(found, Excess{nil, fmt.Sprintf("the bundle has more than %d rules", maxRules)})
	}
	if len(found) == 0 {
		found = checkTypes(modules)
	}
	return found
}

// checkModule lists what m has too much of.
func checkModule(m *ast.Module) (found []Excess) {
	say := func(at *ast.Location, format string, args ...any) {
		if len(found) < 10 {
			found = append(found, Excess{at, fmt.Sprintf(format, args...)})
		}
	}
	if len(m.Package.Path) > maxReference {
		say(m.Package.Location, "a reference has more than %d levels", maxReference)
	}
	if len(m.Imports) > maxImports {
		say(m.Package.Location, "the file has more than %d imports", maxImports)
	}
	if len(m.Rules) > maxRules {
		say(m.Package.Location, "the file has more than %d rules", maxRules)
		return found
	}
	depth := 0
	visitor := ast.NewBeforeAfterVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Body:
			depth++
			if len(x) > maxExpressions && len(x) > 0 {
				say(x[0].Location, "a body has more than %d expressions", maxExpressions)
			}
		case *ast.Head:
			if len(x.Ref()) > maxReference {
				say(x.Location, "a reference has more than %d levels", maxReference)
			}
		case *ast.Expr:
			if len(x.With) > maxWith {
				say(x.Location, "an expression has more than %d with", maxWith)
			}
		case *ast.With:
			target, ok := x.Target.Value.(ast.Ref)
			if !ok {
				target = ast.Ref{x.Target}
			}
			if !target.HasPrefix(ast.InputRootRef) && !target.HasPrefix(ast.DefaultRootRef) {
				say(x.Location, "with replaces input or data here, no functions")
			}
		case *ast.Term:
			depth++
			if depth > maxNesting {
				say(x.Location, "terms are nested more than %d deep", maxNesting)
				return true
			}
			switch value := x.Value.(type) {
			case ast.Ref:
				if len(value) > maxReference {
					say(x.Location, "a reference has more than %d levels", maxReference)
				}
			case *ast.Array:
				if value.Len() > maxElements {
					say(x.Location, "a literal has more than %d elements; put it into data.json", maxElements)
				}
			case ast.Set:
				if value.Len() > maxElements {
					say(x.Location, "a literal has more than %d elements; put it into data.json", maxElements)
				}
			case ast.Object:
				if value.Len() > maxElements {
					say(x.Location, "a literal has more than %d elements; put it into data.json", maxElements)
				}
			case ast.Number:
				if !PlainNumber(string(value)) {
					say(x.Location, "the number has more than %d digits, or an exponent beyond %d", maxDigits, maxPower)
				}
			}
		}
		return false
	}, func(x any) {
		switch x.(type) {
		case ast.Body, *ast.Term:
			depth--
		}
	})
	for _, r := range m.Rules {
		visitor.Walk(r)
		elses := 0
		for r := r.Else; r != nil; r = r.Else {
			if elses++; elses > maxExpressions {
				say(r.Location, "a rule has more than %d else", maxExpressions)
				break
			}
		}
	}
	return found
}
