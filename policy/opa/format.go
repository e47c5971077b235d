package opa

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// MaxFileBytes bounds one file of a bundle.
const MaxFileBytes = maxFileBytes

// Format writes the Rego file text, called name in positions, in the canonical
// form. The problems are those of a file that does not parse; then there is no
// text.
func Format(name string, text []byte) (formatted []byte, problems []Problem) {
	src := &source{files: []file{{path: name, text: text}}}
	report := &Report{}
	defer func() {
		if p := recover(); p != nil {
			report.problem(src, &ast.Location{File: name}, CodeFormat, fmt.Sprintf("the formatter failed: %v", p), "")
			formatted, problems = nil, report.Problems
		}
	}()
	if len(text) > maxFileBytes {
		report.problem(src, &ast.Location{File: name}, CodeLimit, errTooLarge.Error(), "")
		return nil, report.Problems
	}
	formatted, err := canonical(name, text)
	if err != nil {
		report.addErrors(src, err)
		report.sort()
		return nil, report.Problems
	}
	return formatted, nil
}

// canonical is format.SourceWithOpts with one difference: what is formatted is a copy. The
// formatter moves the value of a rule behind else to where its head is, and the parser
// gives all those that name none the same term, which compilers read meanwhile.
func canonical(name string, text []byte) ([]byte, error) {
	module, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	if errs := ast.CheckRegoV1WithOptions(module, ast.NewRegoCheckOptions()); len(errs) > 0 {
		return nil, errs
	}
	return format.AstWithOpts(module, format.Opts{RegoVersion: ast.RegoV1})
}
