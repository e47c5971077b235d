package opa

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/confined"
)

// Bounds of an organisation's bundle.
const (
	MaxNarrowingBytes  = 256 << 10 // of all files
	maxNarrowingFiles  = 64
	maxNarrowingTests  = 500
	maxNarrowingErrors = 100
	maxDataDepth       = 32
	narrowTestTime     = time.Second
	narrowTestMost     = 4 << 20 // as confined.Limits counts
)

// CodeNarrow is the code of what an organisation's bundle may not have.
const CodeNarrow = "narrow_error"

// narrowActions are what an organisation may narrow: not administration, or it
// could lock out whoever would mend the bundle. Read only.
var narrowActions = [...]policy.Action{policy.ActionConnect, policy.ActionPublish, policy.ActionSubscribe, policy.ActionReceive}

// LoadNarrowing reads, checks and compiles the bundle of an organisation, as Load
// does a platform's, and runs its tests. It is code that nobody vouches for: the
// built-ins are those of package confined, and the bounds are tighter. schemas has
// "narrow.<package>.json" beside what Load reads. The Narrowing is nil exactly when
// Report.Err is not.
//
// A broker calls the method of Engine instead, which bounds how much of this
// happens at once.
func LoadNarrowing(ctx context.Context, fsys, schemas fs.FS) (*Narrowing, *Report) {
	return loadNarrowing(ctx, fsys, schemas, true)
}

func loadNarrowing(ctx context.Context, fsys, schemas fs.FS, tests bool) (n *Narrowing, report *Report) {
	report = &Report{}
	defer func() {
		if p := recover(); p != nil {
			report.problem(nil, nil, ast.CompileErr, fmt.Sprintf("the compiler failed: %v", p), "")
		}
		report.sort()
		if len(report.Problems) > 0 {
			n = nil
		}
	}()
	l := narrowLoad{src: readSource(fsys, report), report: report}
	l.boundSource()
	if len(report.Problems) > 0 {
		return nil, report
	}
	l.shapes = narrowShapes(schemas, report)
	l.modules, l.data = parseModules(l.src, report), parseData(l.src, report)
	l.boundModules()
	if len(report.Problems) > 0 {
		return nil, report
	}
	n = l.compile(ctx)
	if n == nil || len(report.Problems) > 0 {
		return nil, report
	}
	if tests {
		l.test(ctx)
		warnOfInput(l.src, l.modules, report)
	}
	n.revision, n.files = l.src.revision(), l.src.copies()
	return n, report
}

// narrowLoad is one bundle on its way in.
type narrowLoad struct {
	src     *source
	report  *Report
	shapes  *shapes
	modules map[string]*ast.Module
	data    map[string]any
}

// boundSource looks at the text before anything parses it.
func (l *narrowLoad) boundSource() {
	if l.src.total > MaxNarrowingBytes {
		l.report.problem(l.src, nil, CodeLimit, fmt.Sprintf("the bundle is larger than %d KiB", MaxNarrowingBytes>>10), "")
	}
	if len(l.src.files) > maxNarrowingFiles {
		l.report.problem(l.src, nil, CodeLimit, fmt.Sprintf("the bundle has more than %d files", maxNarrowingFiles), "")
	}
	for _, f := range l.src.files {
		if f.isData() && !strings.HasSuffix(f.path, ".json") {
			l.report.problem(l.src, &ast.Location{File: f.path}, CodeLimit, "data of an organisation's bundle is JSON", "call it data.json")
		}
		if row, err := confined.CheckText(f.text); err != nil {
			l.report.problem(l.src, &ast.Location{File: f.path, Row: row, Col: 1}, CodeLimit, err.Error(), "")
		}
	}
}

// boundModules looks at what was parsed before it is compiled.
func (l *narrowLoad) boundModules() {
	for _, x := range confined.CheckModules(l.modules) {
		l.report.problem(l.src, x.Location, CodeLimit, x.Message, "")
	}
	for _, name := range util.KeysSorted(l.modules) {
		m := l.modules[name]
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		pkg := m.Package.Path.String()
		if pkg == "data.cordon.admin" {
			l.report.problem(l.src, m.Package.Location, CodeNarrow, "cordon.admin cannot be narrowed: who could then replace the bundle?", "the platform's policies decide about administration")
		}
		for _, r := range m.Rules {
			if pkg == "data.cordon.connect" && r.Head.Ref()[0].String() == "verifiers" {
				l.report.problem(l.src, r.Location, CodeNarrow, errNotNarrow.Error()+": verifiers is the platform's to say", "")
			}
		}
	}
	if err := boundData(l.data, 0); err != nil {
		l.report.problem(l.src, nil, CodeData, err.Error(), "")
	}
}

func boundData(v any, depth int) error {
	if depth > maxDataDepth {
		return fmt.Errorf("data is nested more than %d deep", maxDataDepth)
	}
	switch v := v.(type) {
	case fmt.Stringer: // json.Number
		if !confined.PlainNumber(v.String()) {
			return errors.New("data has a number of too many digits, or with too large an exponent")
		}
	case []any:
		for _, x := range v {
			if err := boundData(x, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, x := range v {
			if err := boundData(x, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile checks the rules and prepares them for running.
func (l *narrowLoad) compile(ctx context.Context) *Narrowing {
	live := maps.Clone(l.modules)
	maps.DeleteFunc(live, func(name string, _ *ast.Module) bool { return strings.HasSuffix(name, "_test.rego") })
	c := l.newCompiler()
	if c.Compile(live); c.Failed() {
		l.addErrors(c.Errors)
		return nil
	}
	n := &Narrowing{words: wordsOf(live, l.data)}
	var entries []string
	for _, action := range narrowActions {
		rule, err := l.rule(c, live, action)
		if err != nil {
			l.report.addErrors(l.src, err)
		}
		if rule != nil {
			rule.of = n
			n.decisions[action] = rule
			entries = append(entries, rule.entry)
		}
	}
	if len(l.report.Problems) > 0 {
		return nil
	}
	if len(entries) == 0 {
		l.report.warning(l.src, nil, CodeMissing, "no package of the bundle decides anything, so it narrows nothing", "there are cordon.connect, cordon.publish, cordon.subscribe and cordon.receive")
	}
	var err error
	if n.program, err = confined.Compile(ctx, live, l.data, entries); err != nil {
		l.report.addErrors(l.src, err)
		return nil
	}
	for _, rule := range n.decisions {
		if rule != nil {
			rule.program = n.program
		}
	}
	return n
}

func (l *narrowLoad) newCompiler() *ast.Compiler {
	return newCompiler(l.data, l.shapes).WithCapabilities(confined.Capabilities()).SetErrorLimit(maxNarrowingErrors)
}

// addErrors says why a built-in is not there, where that is the matter.
func (l *narrowLoad) addErrors(err error) {
	before := len(l.report.Problems)
	l.report.addErrors(l.src, err)
	for i := range l.report.Problems[before:] {
		p := &l.report.Problems[before+i]
		if name, ok := strings.CutPrefix(p.Message, "undefined function "); ok {
			if why := confined.WhyNot(name); why != "" {
				p.Hint = name + " is not available to an organisation's bundle: it " + why
			}
		}
	}
}

// rule is what decides about action; nil where the bundle has no such package.
func (l *narrowLoad) rule(c *ast.Compiler, live map[string]*ast.Module, action policy.Action) (*narrowRule, error) {
	ref := entryRef(packageOf[action], "decision")
	rules := c.GetRules(ref)
	if len(rules) == 0 {
		for _, name := range util.KeysSorted(live) {
			if m := live[name]; m.Package.Path.Equal(ref[:len(ref)-1]) {
				l.report.problem(l.src, m.Package.Location, CodeMissing, ref.String()+" has no rule", "leave the package out to narrow nothing")
				break
			}
		}
		return nil, nil
	}
	before := len(l.report.Problems)
	l.shapes.checkAnswers(c, action, ref, l.src, l.report)
	for i := range l.report.Problems[before:] {
		p := &l.report.Problems[before+i]
		if why := forbidden(action, p.Message[strings.LastIndex(p.Message, " ")+1:]); why != "" && p.Code == CodeAnswer {
			p.Hint = why
		}
	}
	entry, err := confined.EntryPoint(ref)
	if err != nil {
		return nil, err
	}
	r := &narrowRule{entry: entry, ref: ref.String()}
	r.reads, r.client, r.clock = readsOf(c, rules)
	return r, nil
}

// test runs the bundle's tests, confined as its decisions are.
func (l *narrowLoad) test(ctx context.Context) {
	c := l.newCompiler()
	if c.Compile(l.modules); c.Failed() {
		l.addErrors(c.Errors)
		return
	}
	tests, entries := l.tests(c)
	if len(tests) == 0 {
		l.report.warning(l.src, nil, CodeNoTests, "the bundle has no tests", "put test_ rules into files named …_test.rego")
		return
	}
	if len(tests) > maxNarrowingTests {
		l.report.problem(l.src, nil, CodeLimit, fmt.Sprintf("the bundle has more than %d tests", maxNarrowingTests), "")
		return
	}
	program, err := confined.Compile(ctx, l.modules, l.data, entries)
	if err != nil {
		l.report.addErrors(l.src, err)
		return
	}
	for i := range tests {
		l.run(ctx, program, entries[i], &tests[i])
	}
	slices.SortFunc(tests, func(a, b narrowTest) int {
		return strings.Compare(a.Package+"/"+a.Name, b.Package+"/"+b.Name)
	})
	for _, t := range tests {
		l.report.Tests = append(l.report.Tests, t.TestResult)
	}
}

type narrowTest struct {
	TestResult
	at *ast.Location
}

// tests are the rules called test_, each with its entry point.
func (l *narrowLoad) tests(c *ast.Compiler) (tests []narrowTest, entries []string) {
	for _, name := range util.KeysSorted(c.Modules) {
		m := c.Modules[name]
		for _, r := range m.Rules {
			head, ok := r.Head.Ref()[0].Value.(ast.Var)
			title := string(head)
			skipped := strings.HasPrefix(title, "todo_test_")
			if !ok || len(r.Head.Args) > 0 || !skipped && !strings.HasPrefix(title, "test_") {
				continue
			}
			entry, err := confined.EntryPoint(m.Package.Path.Append(ast.StringTerm(title)))
			if err != nil || slices.Contains(entries, entry) {
				continue
			}
			position := newProblem(l.src, r.Location, CodeTest, "", "").Position
			tests = append(tests, narrowTest{TestResult{Package: m.Package.Path.String(), Name: title, Position: position, Skipped: skipped}, r.Location})
			entries = append(entries, entry)
		}
	}
	return tests, entries
}

func (l *narrowLoad) run(ctx context.Context, program *confined.Program, entry string, t *narrowTest) {
	if t.Skipped {
		return
	}
	flag := new(stop)
	timer := time.AfterFunc(narrowTestTime, flag.Cancel)
	defer timer.Stop()
	defer context.AfterFunc(ctx, flag.Cancel)()
	began := time.Now()
	value, err := program.Run(ctx, entry, nil, began, confined.Limits{Cancel: flag, Most: narrowTestMost})
	t.Duration = time.Since(began)
	message := t.Name + " is not true"
	switch {
	case flag.Cancelled() && err != nil:
		t.Error = fmt.Sprintf("it takes longer than %v", narrowTestTime)
	case err != nil:
		t.Error = err.Error()
	default:
		t.Passed = value != nil && value.Equal(ast.BooleanTerm(true))
	}
	if t.Error != "" {
		message = t.Name + ": " + t.Error
	}
	if !t.Passed {
		l.report.problem(l.src, t.at, CodeTest, message, "")
	}
}

// narrowShapes are the schemas of what an organisation's rules are asked, which is
// what the platform's are, and the platform's answer; and of what they may answer.
func narrowShapes(fsys fs.FS, report *Report) *shapes {
	s := readShapes(fsys, report)
	s.decode = func(a policy.Action, v ast.Value) error {
		_, err := decodeNarrowing(a, v, &answer{})
		return err
	}
	if len(s.input) == 0 {
		return s
	}
	answers := s.answer
	s.answer = map[string]map[string]any{}
	delete(s.input, packageOf[policy.ActionAdminister])
	for _, action := range narrowActions {
		pkg := packageOf[action]
		text, err := readBounded(fsys, "narrow."+pkg+".json")
		var schema map[string]any
		if err == nil {
			err = util.UnmarshalJSON(text, &schema)
		}
		if err != nil {
			report.problem(nil, &ast.Location{File: "narrow." + pkg + ".json"}, CodeSchema, cause(err), "")
			continue
		}
		s.answer[pkg] = schema
		properties, _ := s.input[pkg]["properties"].(map[string]any)
		if properties == nil {
			continue
		}
		properties["platform"] = answers[pkg]
	}
	return s
}
