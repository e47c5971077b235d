package opa

import (
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy/revision"
)

// Report is what checking a bundle found.
type Report struct {
	// Problems keep the bundle from going live. In order of file, line, column.
	Problems []Problem
	// Warnings do not.
	Warnings []Problem
	// Tests are the results of the bundle's own tests, by package and name.
	Tests []TestResult
}

// Problem is one finding.
type Problem struct {
	Position string // "file:line:col", or "file", or empty for the bundle as a whole
	Line     string // the source line, without its line end
	Code     string // such as "rego_type_error"
	Message  string
	Hint     string // what to do about it; may be empty

	file     string
	row, col int
}

// Codes of Cordon's own problems. The others are OPA's: rego_parse_error,
// rego_compile_error, rego_type_error, rego_unsafe_var_error, rego_recursion_error.
const (
	CodeRead      = "bundle_read_error"    // a file or folder cannot be read
	CodeLimit     = "bundle_limit"         // too many, too large, too deep
	CodeData      = "data_error"           // a data file does not parse, or two say different things
	CodeAnswer    = "answer_error"         // a decision has a field or value that is no answer
	CodeSchema    = "schema_error"         // the schemas given to Load do not parse
	CodeTest      = "policy_test_failed"   // a test_ rule is not true
	CodeNoTests   = "policy_without_tests" // warning: the bundle has no tests
	CodeMissing   = "policy_missing"       // warning: an entry point has no rule
	CodeIgnored   = "file_ignored"         // warning: a file is no part of a bundle
	CodeUntyped   = "untyped_input"        // warning: input is read in a way that no schema checks
	CodeWhole     = "whole_input"          // warning: which fields of input are read cannot be told
	CodeUndefined = "undefined_data"       // warning: rules read what nothing in the bundle defines
	CodeUnasked   = "package_unasked"      // warning: nobody asks a package
	CodeCovers    = "covers_contradicted"  // covers states what the rules do not answer; see CheckCovers
	CodeFormat    = "format_error"         // a file cannot be formatted; see Format
)

// Err is nil when the bundle may go live. Otherwise it is a *revision.Refusal,
// which says how many problems there are and the first of them, and holds all.
func (r *Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	all := make([]revision.Finding, len(r.Problems))
	for i, p := range r.Problems {
		all[i] = revision.Finding{Position: p.Position, Line: p.Line, Code: p.Code, Message: p.Message, Hint: p.Hint}
	}
	return &revision.Refusal{Findings: all}
}

// String is "file:line:col: code: message".
func (p Problem) String() string {
	s := p.Code + ": " + p.Message
	if p.Position != "" {
		s = p.Position + ": " + s
	}
	return s
}

// WriteTo writes each problem and then each warning for a person to read: where
// and what, the source line, a hint.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, p := range r.Problems {
		p.write(&b, "")
	}
	for _, p := range r.Warnings {
		p.write(&b, "warning: ")
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (p Problem) write(b *strings.Builder, severity string) {
	if p.Position != "" {
		b.WriteString(p.Position + ": ")
	}
	b.WriteString(severity + p.Code + ": " + p.Message + "\n")
	if strings.TrimSpace(p.Line) != "" {
		b.WriteString("    " + strings.TrimSpace(p.Line) + "\n")
	}
	if p.Hint != "" {
		b.WriteString("    hint: " + p.Hint + "\n")
	}
}

// sort orders by position and drops what was found twice.
func (r *Report) sort() {
	for _, list := range []*[]Problem{&r.Problems, &r.Warnings} {
		slices.SortStableFunc(*list, func(a, b Problem) int {
			if c := strings.Compare(a.file, b.file); c != 0 {
				return c
			}
			if a.row != b.row {
				return a.row - b.row
			}
			return a.col - b.col
		})
		*list = slices.Compact(*list)
	}
}

func (r *Report) problem(src *source, loc *ast.Location, code, message, hint string) {
	r.Problems = append(r.Problems, newProblem(src, loc, code, message, hint))
}

func (r *Report) warning(src *source, loc *ast.Location, code, message, hint string) {
	r.Warnings = append(r.Warnings, newProblem(src, loc, code, message, hint))
}

func newProblem(src *source, loc *ast.Location, code, message, hint string) Problem {
	p := Problem{Code: code, Message: message, Hint: hint}
	if loc == nil || loc.File == "" {
		return p
	}
	p.file, p.row, p.col = loc.File, loc.Row, loc.Col
	p.Position = loc.File
	if loc.Row > 0 {
		p.Position += ":" + strconv.Itoa(loc.Row) + ":" + strconv.Itoa(max(loc.Col, 1))
		p.Line = cutLine(strings.ToValidUTF8(src.line(loc.File, loc.Row), "�"), loc.Col)
	}
	return p
}

// maxLine is how much of a source line is shown, in bytes: data may be one line.
const maxLine = 300

// cutLine keeps what is around column col of a long line.
func cutLine(line string, col int) string {
	if len(line) <= maxLine {
		return line
	}
	from := min(max(col-1-maxLine/2, 0), len(line)-maxLine)
	to := from + maxLine
	cut := strings.ToValidUTF8(line[from:to], "")
	if from > 0 {
		cut = "…" + cut
	}
	if to < len(line) {
		cut += "…"
	}
	return cut
}

// addErrors turns what OPA returned into problems: every one of a list, with a
// hint where there is something better to say than the message.
func (r *Report) addErrors(src *source, err error) {
	var list ast.Errors
	if !errors.As(err, &list) {
		var one *ast.Error
		if !errors.As(err, &one) {
			r.problem(src, nil, ast.CompileErr, err.Error(), "")
			return
		}
		list = ast.Errors{one}
	}
	for i, e := range list {
		p := newProblem(src, e.Location, e.Code, e.Message, hint(e))
		if e.Code == ast.ParseErr {
			if i > 0 && samePlace(list[i-1], e) {
				continue // the parser says again what it did not like, in other words
			}
			// Its detail is the line it stopped at, or the last one of the file.
			if strings.TrimSpace(p.Line) == "" {
				p.Line = p.Hint
			}
			p.Hint = parseHint(e.Message)
		}
		r.Problems = append(r.Problems, p)
	}
}

// parseHint says what usually helps where the parser's words do not.
func parseHint(message string) string {
	switch {
	case strings.Contains(message, "utf-8"):
		return "the file has to be UTF-8; some editor wrote another encoding"
	case strings.Contains(message, "unexpected eof"):
		return "something that was opened is not closed: a brace, a bracket or a quote"
	case strings.Contains(message, "with keyword cannot be used for rule head"):
		return "a value cannot be followed by with: write f(x) := answer if answer := … with input as …"
	case message == "package expected":
		return "a file begins with its package, such as package cordon.publish"
	}
	return ""
}

func samePlace(a, b *ast.Error) bool {
	return a.Code == b.Code && a.Location != nil && b.Location != nil &&
		a.Location.File == b.Location.File && a.Location.Row == b.Location.Row && a.Location.Col == b.Location.Col
}

func hint(e *ast.Error) string {
	if d, ok := e.Details.(*ast.RefErrInvalidDetail); ok && len(d.OneOf) > 0 && d.Pos < len(d.Ref) {
		return hintField(d)
	}
	if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok {
		if why, ok := removedBuiltins[name]; ok {
			return name + " is not available to policies: it " + why
		}
		if best := closest(name, builtinNames()); best != "" {
			return "did you mean " + best + "?"
		}
	}
	if name, ok := strings.CutPrefix(e.Message, "var "); ok && e.Code == ast.UnsafeVarErr {
		name, _, _ = strings.Cut(name, " ")
		return "nothing here gives " + name + " a value: assign one, or name it in some … in …; not and functions only use values"
	}
	if e.Details == nil {
		return ""
	}
	var lines []string
	for _, line := range e.Details.Lines() {
		if line = strings.TrimSpace(line); line != "" && line != "^" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// hintField names the field that was probably meant, or all there are.
func hintField(d *ast.RefErrInvalidDetail) string {
	names := make([]string, 0, len(d.OneOf))
	for _, v := range d.OneOf {
		names = append(names, plain(v))
	}
	slices.Sort(names)
	return nearest(plain(d.Ref[d.Pos].Value), names)
}

// nearest is a hint that names the closest of names, and all of them.
func nearest(have string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	s := "there are " + strings.Join(names, ", ")
	if len(names) > maxNamed {
		s = "there are " + strings.Join(names[:maxNamed], ", ") + " and more"
	}
	if best := closest(have, names); best != "" {
		s = "did you mean " + best + "? " + s
	}
	return s
}

// maxNamed is how many names a hint lists.
const maxNamed = 40

// closest is the name that differs in one or two letters; empty when none does.
func closest(have string, names []string) (best string) {
	distance := 3
	for _, name := range names {
		if n := editDistance(have, name); n < distance {
			best, distance = name, n
		}
	}
	return best
}

func builtinNames() []string {
	var names []string
	for _, b := range capabilities().Builtins {
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return names
}

// dataPosition takes the place out of what the parser of YAML says, which begins
// with it, such as "[2:1] found a tab".
func dataPosition(f file, message string) (*ast.Location, string) {
	at := &ast.Location{File: f.path}
	place, rest, ok := strings.Cut(strings.TrimPrefix(message, "["), "] ")
	row, col, two := strings.Cut(place, ":")
	r, err := strconv.Atoi(row)
	c, err2 := strconv.Atoi(col)
	if !ok || !two || err != nil || err2 != nil {
		return at, message
	}
	at.Row, at.Col = r, c
	return at, rest
}

// dataHint says what usually helps with data that does not parse.
func dataHint(f file) string {
	switch {
	case bytes.HasPrefix(f.text, []byte("\xef\xbb\xbf")):
		return "the file begins with a byte order mark: save it as UTF-8 without one"
	case !utf8.Valid(f.text):
		return "the file has to be UTF-8; some editor wrote another encoding"
	case path.Ext(f.path) != ".json" && bytes.Contains(f.text, []byte("\t")):
		return "YAML is indented with spaces, not tabs"
	}
	return ""
}

func plain(v ast.Value) string {
	if s, ok := v.(ast.String); ok {
		return string(s)
	}
	return v.String()
}

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
