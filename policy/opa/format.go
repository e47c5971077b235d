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
	formatted, err := format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		report.addErrors(src, err)
		report.sort()
		return nil, report.Problems
	}
	return formatted, nil
}
