package opa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// Bundle is a checked, compiled set of policies. It is immutable and may be
// given to several engines.
type Bundle struct {
	revision  string
	files     []revision.File
	verifiers *entryPoint
	decisions [policy.ActionAdminister + 1]*entryPoint // by Action; nil where there is no rule
	// receives is cordon.receive.applies: whose deliveries are decided; nil: everybody's.
	receives *entryPoint
	words    *words // what covers are probed with

	mask, drop *entryPoint // of system.log; nil where there is no rule
	compiler   *ast.Compiler
	shapes     *shapes
	aside      aside // answers what was recorded
}

// Revision is the hash of the bundle's files, tests and data included.
func (b *Bundle) Revision() string { return b.revision }

// Files are what the bundle was made from, by path: for a revision.Book. They
// may not be changed.
func (b *Bundle) Files() []revision.File { return slices.Clone(b.files) }

// packageOf names the package that decides an action. Read only.
var packageOf = map[policy.Action]string{
	policy.ActionConnect:    "connect",
	policy.ActionPublish:    "publish",
	policy.ActionSubscribe:  "subscribe",
	policy.ActionReceive:    "receive",
	policy.ActionAdminister: "admin",
}

// Load reads, checks and compiles the bundle in fsys. schemas has the files
// "input.<package>.json" and "decision.<package>.json"; with nil, fields are not
// checked. The Bundle is nil exactly when Report.Err is not.
//
// The bundle's tests run here, on the caller's time: up to five seconds each.
func Load(ctx context.Context, fsys, schemas fs.FS) (*Bundle, *Report) {
	_, b, report := loadTraced(ctx, fsys, schemas, nil)
	return b, report
}

// loadTraced is Load that lets tracer see what the tests evaluate; nil: nobody.
func loadTraced(ctx context.Context, fsys, schemas fs.FS, tracer topdown.QueryTracer) (src *source, b *Bundle, report *Report) {
	report = &Report{}
	defer func() {
		if p := recover(); p != nil {
			report.problem(nil, nil, ast.CompileErr, fmt.Sprintf("the compiler failed: %v", p), "")
		}
		report.sort()
		if len(report.Problems) > 0 {
			b = nil
		}
	}()
	src = readSource(fsys, report)
	return src, load(ctx, src, schemas, report, tracer), report
}

func load(ctx context.Context, src *source, schemas fs.FS, report *Report, tracer topdown.QueryTracer) *Bundle {
	shapes := readShapes(schemas, report)
	modules := parseModules(src, report)
	data := parseData(src, report)
	if len(report.Problems) > 0 {
		// What a broken file would have defined, the others cannot refer to: going
		// on would only add errors that vanish with the first ones.
		return nil
	}
	report.Tests = runTests(ctx, src, modules, data, shapes, report, tracer)
	if len(report.Tests) == 0 && len(report.Problems) == 0 {
		report.warning(src, nil, CodeNoTests, "the bundle has no tests", "put test_ rules into files named …_test.rego")
	}
	b := compileLive(ctx, src, modules, data, shapes, report)
	if b != nil {
		warnOfInput(src, modules, report)
		b.revision, b.files = src.revision(), src.copies()
	}
	return b
}

func parseModules(src *source, report *Report) map[string]*ast.Module {
	modules := map[string]*ast.Module{}
	options := ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true}
	for _, f := range src.files {
		if !f.isModule() {
			continue
		}
		m, err := ast.ParseModuleWithOpts(f.path, string(f.text), options)
		switch {
		case err != nil:
			report.addErrors(src, err)
		case m != nil:
			modules[f.path] = m
		}
	}
	return modules
}

// parseData puts each data file at the place its folder says, as OPA bundles do.
func parseData(src *source, report *Report) map[string]any {
	data := map[string]any{}
	for _, f := range src.files {
		if !f.isData() {
			continue
		}
		at := &ast.Location{File: f.path}
		text := f.text
		if path.Ext(f.path) != ".json" {
			var err error
			if text, err = yaml.YAMLToJSON(text); err != nil {
				at, message := dataPosition(f, firstLine(err))
				report.problem(src, at, CodeData, message, dataHint(f))
				continue
			}
		}
		var value any
		if err := util.UnmarshalJSON(text, &value); err != nil {
			report.problem(src, jsonPosition(f, err), CodeData, err.Error(), dataHint(f))
			continue
		}
		object, ok := value.(map[string]any)
		if !ok {
			report.problem(src, at, CodeData, "a data file holds one object", "")
			continue
		}
		if dir := path.Dir(f.path); dir != "." {
			levels := strings.Split(dir, "/")
			for i := len(levels) - 1; i >= 0; i-- {
				object = map[string]any{levels[i]: object}
			}
		}
		if clash := merge(data, object); clash != "" {
			report.problem(src, at, CodeData, "another data file has a value at "+clash, "")
		}
	}
	return data
}

// merge adds from to into and names the first place where both have a value
// that is no object.
func merge(into, from map[string]any) (clash string) {
	for k, v := range from {
		old, ok := into[k]
		if !ok {
			into[k] = v
			continue
		}
		a, aok := old.(map[string]any)
		b, bok := v.(map[string]any)
		if !aok || !bok {
			return k
		}
		if c := merge(a, b); c != "" {
			return k + "." + c
		}
	}
	return ""
}

func jsonPosition(f file, err error) *ast.Location {
	at := &ast.Location{File: f.path}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && syntax.Offset <= int64(len(f.text)) {
		before := string(f.text[:max(syntax.Offset-1, 0)])
		at.Row = strings.Count(before, "\n") + 1
		at.Col = len(before) - strings.LastIndex(before, "\n")
	}
	return at
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
