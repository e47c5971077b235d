package opa

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
)

// shapes are the JSON schemas of what each package is asked and may answer.
type shapes struct {
	input  map[string]map[string]any // by package: connect, publish, …
	answer map[string]map[string]any
	decode func(policy.Action, ast.Value) error // of a constant answer
}

// readShapes parses the schemas; nil fsys has none, and nothing is typed.
func readShapes(fsys fs.FS, report *Report) *shapes {
	s := &shapes{input: map[string]map[string]any{}, answer: map[string]map[string]any{}, decode: func(a policy.Action, v ast.Value) error {
		_, err := decode(a, v)
		return err
	}}
	if fsys == nil {
		return s
	}
	for _, pkg := range packageOf {
		for kind, into := range map[string]map[string]map[string]any{"input": s.input, "decision": s.answer} {
			name := kind + "." + pkg + ".json"
			text, err := readBounded(fsys, name)
			if err != nil {
				report.problem(nil, &ast.Location{File: name}, CodeSchema, cause(err), "")
				continue
			}
			var schema map[string]any
			if err := util.UnmarshalJSON(text, &schema); err != nil {
				report.problem(nil, &ast.Location{File: name}, CodeSchema, err.Error(), "")
				continue
			}
			into[pkg] = schema
		}
	}
	return s
}

// apply types input: by its own schema in the package of each action, by all of
// them together in any other package. The types are put where an author would
// write a schemas annotation, so that errors look the same.
func (s *shapes) apply(c *ast.Compiler) *ast.Compiler {
	if len(s.input) == 0 {
		return c
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, s.union())
	annotations := map[string]*ast.SchemaAnnotation{}
	for pkg, schema := range s.input {
		ref := ast.SchemaRootRef.Append(ast.StringTerm("cordon")).Append(ast.StringTerm(pkg))
		set.Put(ref, schema)
		judged := ast.DefaultRootRef.Append(ast.StringTerm("cordon")).Append(ast.StringTerm(pkg))
		annotations[judged.String()] = &ast.SchemaAnnotation{Path: ast.InputRootRef, Schema: ref}
	}
	log := ast.SchemaRootRef.Append(ast.StringTerm("system")).Append(ast.StringTerm("log"))
	set.Put(log, s.event())
	annotations["data.system.log"] = &ast.SchemaAnnotation{Path: ast.InputRootRef, Schema: log}
	return c.WithSchemas(set).WithUseTypeCheckAnnotations(true).
		WithStageAfterID(ast.StageParseMetadataBlocks, ast.CompilerStageDefinition{
			Name:       "TypeInput",
			MetricName: "type_input",
			Stage: func(c *ast.Compiler) *ast.Error {
				for _, m := range c.Modules {
					if a := annotations[m.Package.Path.String()]; a != nil {
						typeInput(m, a)
					}
				}
				return nil
			},
		})
}

func typeInput(m *ast.Module, schema *ast.SchemaAnnotation) {
	ast.WalkRules(m, func(r *ast.Rule) bool {
		a := &ast.Annotations{Scope: "rule", Location: r.Location, Schemas: []*ast.SchemaAnnotation{schema}}
		m.Annotations = append(m.Annotations, a.Copy(r))
		return false
	})
}

// union has the fields of every input schema.
func (s *shapes) union() map[string]any {
	all := map[string]any{}
	for _, schema := range s.input {
		properties, _ := schema["properties"].(map[string]any)
		for k, v := range properties {
			all[k] = v
		}
	}
	return map[string]any{"type": "object", "properties": all}
}

// event is what the rules of system.log are asked: the record of any decision.
func (s *shapes) event() map[string]any {
	text, open := map[string]any{"type": "string"}, map[string]any{"type": "object"}
	return map[string]any{"type": "object", "properties": map[string]any{
		"labels": open, "decision_id": text, "bundles": open, "path": text, "input": s.union(), "result": open,
		"erased": map[string]any{"type": "array"}, "requested_by": text, "timestamp": text, "metrics": open, "custom": open,
	}}
}

// checkAnswers reports what is wrong with every answer of action, as far as it
// can be known without evaluating: fields that do not exist, values of a type
// that never fits, and whole answers that are constants.
func (s *shapes) checkAnswers(c *ast.Compiler, action policy.Action, ref ast.Ref, src *source, report *Report) {
	rules := c.GetRules(ref)
	at := rules[0].Location
	for _, r := range rules {
		if r.Location.Compare(at) < 0 {
			at = r.Location
		}
	}

	if schema := s.answer[packageOf[action]]; schema != nil {
		seen := map[string]bool{}
		for _, f := range misfits(c.TypeEnv.GetByRef(ref), schema, "decision") {
			if !seen[f.message] {
				seen[f.message] = true
				report.problem(src, locate(rules, f, at), CodeAnswer, f.message, f.hint)
			}
		}
		if len(seen) > 0 {
			return
		}
	}

	for _, r := range rules {
		ast.WalkRules(r, func(r *ast.Rule) bool {
			if v := r.Head.Value; v != nil && v.IsGround() && r.Ref().Equal(ref) {
				if err := s.decode(action, v.Value); err != nil {
					report.problem(src, cmpLocation(v.Location, r.Location), CodeAnswer, err.Error(), "")
				}
			}
			return false
		})
	}
}

func cmpLocation(a, b *ast.Location) *ast.Location {
	if a != nil && a.Row > 0 {
		return a
	}
	return b
}

// misfit is one difference: a key that should not be there, or whose value
// should be of the JSON type want.
type misfit struct{ key, want, message, hint string }

// misfits compares the type of an answer with its schema.
func misfits(t types.Type, schema map[string]any, path string) []misfit {
	switch t := t.(type) {
	case nil:
		return nil
	case types.Any:
		if len(t) == 0 {
			return nil // could be anything: known when it is evaluated
		}
		var all []misfit
		for _, one := range t {
			found := misfits(one, schema, path)
			if len(found) == 0 && schema["type"] != "object" {
				return nil // it may fit
			}
			all = append(all, found...)
		}
		return all
	case *types.NamedType:
		return misfits(t.Type, schema, path)
	}

	want, _ := schema["type"].(string)
	if have := jsonType(t); have != "" && want != "" && have != want {
		key := path[strings.LastIndex(path, ".")+1:]
		return []misfit{{key, want, fmt.Sprintf("%s is %s, and has to be %s", path, have, want), ""}}
	}
	var all []misfit
	switch t := t.(type) {
	case *types.Object:
		properties, _ := schema["properties"].(map[string]any)
		for _, p := range t.StaticProperties() {
			key, ok := p.Key.(string)
			if !ok || properties == nil {
				continue
			}
			sub, known := properties[key].(map[string]any)
			if !known {
				names := util.KeysSorted(properties)
				all = append(all, misfit{key, "", path + " has no field " + key, nearest(key, names)})
				continue
			}
			all = append(all, misfits(p.Value, sub, path+"."+key)...)
		}
	case *types.Array:
		if items, ok := schema["items"].(map[string]any); ok {
			for i := range t.Len() {
				all = append(all, misfits(t.Select(i), items, path)...)
			}
			all = append(all, misfits(t.Dynamic(), items, path)...)
		}
	case *types.Set:
		if items, ok := schema["items"].(map[string]any); ok {
			all = append(all, misfits(t.Of(), items, path)...)
		}
	}
	return all
}

// jsonType names t as a schema does; empty when that cannot be said. A set
// becomes an array.
func jsonType(t types.Type) string {
	switch t.(type) {
	case types.Null:
		return "null"
	case types.Boolean:
		return "boolean"
	case types.String:
		return "string"
	case types.Number:
		return "number"
	case *types.Array, *types.Set:
		return "array"
	case *types.Object:
		return "object"
	}
	return ""
}

// locate finds where a misfit is written: in the rules, else elsewhere in their
// modules.
func locate(rules []*ast.Rule, m misfit, otherwise *ast.Location) *ast.Location {
	var found []*ast.Location
	search := func(in any) {
		ast.WalkTerms(in, func(t *ast.Term) bool {
			if o, ok := t.Value.(ast.Object); ok {
				o.Foreach(func(k, v *ast.Term) {
					if k.Location != nil && k.Location.Row > 0 && plain(k.Value) == m.key && m.couldBe(v.Value) {
						found = append(found, k.Location)
					}
				})
			}
			return false
		})
	}
	for _, r := range rules {
		search(r)
	}
	if len(found) == 0 {
		for _, r := range rules {
			search(r.Module)
		}
	}
	if len(found) == 0 {
		return otherwise
	}
	return slices.MinFunc(found, (*ast.Location).Compare)
}

// couldBe leaves out constants of the right type.
func (m misfit) couldBe(v ast.Value) bool {
	switch v.(type) {
	case ast.Boolean, ast.String, ast.Number, *ast.Array, ast.Object, ast.Null:
		return m.want == "" || ast.ValueName(v) != m.want
	}
	return true
}
