package rego_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// bundles are all that this folder has. An example holds the files in which it
// differs; laid over the default it is complete. Those that only take away go
// together.
func bundles(t *testing.T) map[string]fs.FS {
	t.Helper()
	all, together := map[string]fs.FS{"default": rego.Bundle()}, rego.Bundle()
	entries, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		example := os.DirFS(path.Join("examples", e.Name()))
		all["examples/"+e.Name()] = lay(t, example, rego.Bundle())
		if e.Name() != "open" {
			together = lay(t, example, together)
		}
	}
	all["all but open"] = together
	return all
}

// lay is lower with the files of upper instead of, or beside, its own.
func lay(t *testing.T, upper, lower fs.FS) fs.FS {
	t.Helper()
	both := fstest.MapFS{}
	for _, layer := range []fs.FS{lower, upper} {
		err := fs.WalkDir(layer, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(layer, name)
			both[name] = &fstest.MapFile{Data: text, Mode: 0o644}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return both
}

// modules are a bundle's texts and what they parse to.
func modules(t *testing.T, bundle fs.FS) (map[string][]byte, map[string]*ast.Module) {
	t.Helper()
	texts, parsed := map[string][]byte{}, map[string]*ast.Module{}
	err := fs.WalkDir(bundle, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".rego" {
			return err
		}
		text, err := fs.ReadFile(bundle, name)
		if err != nil {
			return err
		}
		m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		texts[name], parsed[name] = text, m
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, parsed
}

func TestBundlesGoLive(t *testing.T) {
	t.Parallel()
	for name, bundle := range bundles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, report := opa.Load(context.Background(), bundle, rego.Schemas())
			if b == nil || len(report.Warnings) > 0 {
				var out strings.Builder
				_, _ = report.WriteTo(&out)
				t.Fatalf("not ready to go live:\n%s", out.String())
			}
			if len(report.Tests) < 5 {
				t.Fatalf("only %d tests", len(report.Tests))
			}
		})
	}
}

func TestModulesAreFormatted(t *testing.T) {
	t.Parallel()
	for bundle, fsys := range bundles(t) {
		texts, _ := modules(t, fsys)
		for name, text := range texts {
			want, problems := opa.Format(name, text)
			if problems != nil {
				t.Fatal(problems)
			}
			if !bytes.Equal(text, want) {
				t.Errorf("%s: %s is not formatted; it should be:\n%s", bundle, name, want)
			}
		}
	}
}

func TestEntryPointsAreDescribed(t *testing.T) {
	t.Parallel()
	for bundle, fsys := range bundles(t) {
		_, parsed := modules(t, fsys)
		titled := map[string]bool{}
		for name, m := range parsed {
			if strings.HasSuffix(name, "_test.rego") {
				continue
			}
			described := map[string]bool{}
			for _, a := range m.Annotations {
				if a.Scope == "package" && a.Title != "" {
					titled[path.Dir(name)] = true
				}
				described[a.GetTargetPath().String()] = described[a.GetTargetPath().String()] || a.Title != ""
			}
			for _, r := range m.Rules {
				rule := string(r.Head.Ref()[0].Value.(ast.Var))
				if !strings.HasPrefix(rule, "_") && !described[r.Ref().GroundPrefix().String()] {
					t.Errorf("%s: %s of %s has no title, and is not private", bundle, rule, name)
				}
			}
		}
		for name := range parsed {
			if !titled[path.Dir(name)] {
				t.Errorf("%s: the package in %s has no title", bundle, path.Dir(name))
			}
		}
	}
}

// An example's tests cover its own files: beside its rules, some lines of the
// default ones are out of reach.
//
// One at a time, before the others: the runner's compilers share types that they change.
func TestTestsCoverEveryLine(t *testing.T) {
	for bundle, fsys := range bundles(t) {
		t.Run(bundle, func(t *testing.T) {
			_, parsed := modules(t, fsys)
			coverage := cover.New()
			results, err := tester.NewRunner().
				SetStore(inmem.NewFromObject(data(t, fsys))).
				SetCoverageQueryTracer(coverage).
				SetModules(parsed).
				RunTests(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for r := range results {
				if !r.Pass() {
					t.Errorf("%s failed: %v", r.Name, r.Error)
				}
			}
			for name, file := range coverage.Report(parsed).Files {
				if _, err := os.Stat(path.Join(bundle, name)); bundle != "default" && err != nil {
					continue
				}
				for _, line := range file.NotCovered {
					if len(line.Kinds) == 0 { // else only the rule index kept it from being run
						t.Errorf("%s: lines %d to %d are not covered", name, line.Start.Row, line.End.Row)
					}
				}
			}
		})
	}
}

// data reads the data files as the engine does: their folder is their place.
func data(t *testing.T, bundle fs.FS) map[string]any {
	t.Helper()
	root := map[string]any{}
	err := fs.WalkDir(bundle, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Base(name) != "data.json" {
			return err
		}
		text, err := fs.ReadFile(bundle, name)
		if err != nil {
			return err
		}
		var value map[string]any
		if err := util.UnmarshalJSON(text, &value); err != nil {
			return err
		}
		at := root
		for _, level := range strings.Split(path.Dir(name), "/") {
			next, ok := at[level].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[level] = next
			}
			at = next
		}
		for k, v := range value {
			at[k] = v
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSchemasAgreeOnWhatTheyShare(t *testing.T) {
	t.Parallel()
	packages := []string{"connect", "publish", "subscribe", "receive", "admin"}
	var first map[string]any
	for _, pkg := range packages {
		for _, kind := range []string{"input", "decision"} {
			text, err := fs.ReadFile(rego.Schemas(), kind+"."+pkg+".json")
			if err != nil {
				t.Fatal(err)
			}
			var schema struct{ Properties map[string]any }
			if err := json.Unmarshal(text, &schema); err != nil {
				t.Fatalf("%s.%s.json: %v", kind, pkg, err)
			}
			if kind == "decision" {
				for _, field := range []string{"allow", "reason", "ttl"} {
					if schema.Properties[field] == nil {
						t.Errorf("a decision of %s has no %s", pkg, field)
					}
				}
				continue
			}
			shared := map[string]any{}
			for _, field := range []string{"principal", "org", "client"} {
				shared[field] = schema.Properties[field]
			}
			if first == nil {
				first = shared
			}
			if !reflect.DeepEqual(first, shared) {
				t.Errorf("input.%s.json describes principal, org or client otherwise than input.connect.json", pkg)
			}
		}
	}
}
