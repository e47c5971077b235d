package rego_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/cordon-mq/cordon/rego"
)

// The README's examples are questions to the built-in bundle with its answers.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, parsed := modules(t, rego.Bundle())
	compiler := ast.NewCompiler()
	if compiler.Compile(parsed); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	store := inmem.NewFromObject(data(t, rego.Bundle()))
	seen := map[string]bool{}
	for block := range strings.SplitSeq(string(readme), "```json\n") {
		text, _, ok := strings.Cut(block, "\n```")
		if !ok || !strings.HasPrefix(text, "{") {
			continue
		}
		var example struct {
			Package         string
			Input, Decision map[string]any
		}
		if err := json.Unmarshal([]byte(text), &example); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		seen[example.Package] = true
		results, err := oparego.New(
			oparego.Query("data."+example.Package+".decision"), oparego.Compiler(compiler), oparego.Store(store), oparego.Input(example.Input),
		).Eval(context.Background())
		if err != nil || len(results) != 1 {
			t.Fatalf("%s: %v, %v", example.Package, results, err)
		}
		got, _ := json.Marshal(results[0].Expressions[0].Value)
		want, _ := json.Marshal(example.Decision)
		if !bytes.Equal(got, want) {
			t.Errorf("%s answers\n%s\nthe README says\n%s", example.Package, got, want)
		}
	}
	if len(seen) != 5 {
		t.Errorf("examples of %v; there should be one of each built-in package", seen)
	}
}

// The README has a table row for every field of every schema, and no other.
func TestReadmeTables(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]map[string]bool{}
	heading := ""
	for line := range strings.Lines(string(readme)) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(h)
			sections[heading] = map[string]bool{}
		}
		if name, ok := strings.CutPrefix(line, "| `"); ok && heading != "" {
			name, _, _ = strings.Cut(name, "`")
			sections[heading][name] = true
		}
	}
	common := map[string]bool{"principal": true, "org": true, "client": true}
	answers := map[string]bool{"allow": true, "reason": true, "ttl": true}
	want := map[string]map[string]bool{"What every package is asked": {}, "What every package may answer": answers}
	for _, pkg := range []string{"connect", "publish", "subscribe", "receive", "admin"} {
		section := map[string]bool{}
		want["cordon."+pkg] = section
		for _, kind := range []string{"input", "decision"} {
			text, err := fs.ReadFile(rego.Schemas(), kind+"."+pkg+".json")
			if err != nil {
				t.Fatal(err)
			}
			var schema map[string]any
			if err := json.Unmarshal(text, &schema); err != nil {
				t.Fatal(err)
			}
			for name := range fieldPaths(schema, "") {
				top, _, _ := strings.Cut(name, ".")
				switch {
				case name == "action" || answers[name]:
				case kind == "input" && common[top]:
					want["What every package is asked"][name] = true
				default:
					section[name] = true
				}
			}
		}
	}
	for heading, names := range want {
		if !reflect.DeepEqual(sections[heading], names) {
			t.Errorf("section %q has rows for\n%v\nwant\n%v", heading, sections[heading], names)
		}
	}
}

func fieldPaths(schema map[string]any, prefix string) map[string]bool {
	all := map[string]bool{}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		all[prefix+name] = true
		property := p.(map[string]any)
		for sub := range fieldPaths(property, prefix+name+".") {
			all[sub] = true
		}
		if items, ok := property["items"].(map[string]any); ok {
			for sub := range fieldPaths(items, prefix+name+"[].") {
				all[sub] = true
			}
		}
	}
	return all
}

// A block of rego in the README is a file of the examples, and every example has
// a row.
func TestReadmeCookbook(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	examples := map[string]bool{}
	err = fs.WalkDir(os.DirFS("examples"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile("examples/" + name)
		files[string(text)] = true
		example, _, _ := strings.Cut(name, "/")
		examples[example] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for block := range strings.SplitSeq(string(readme), "```rego\n") {
		text, _, ok := strings.Cut(block, "```")
		if blocks++; blocks > 1 && (!ok || !files[text]) {
			t.Errorf("no example has a file like\n%s", text)
		}
	}
	if blocks < 2 {
		t.Error("the README shows no rules")
	}
	for example := range examples {
		if !strings.Contains(string(readme), "| [`"+example+"`](examples/"+example+"/") {
			t.Errorf("the README has no row for examples/%s", example)
		}
	}
}
