package main

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/cordon-mq/cordon"

// fence is one rule of who may import what. Packages are written as folders,
// "." for the root; a name that ends in "/..." also means what is below it. An
// import of this module is written as its folder too, others by their path;
// "std" is the standard library.
type fence struct {
	reason string
	// scope says which files the fence is about.
	scope scope
	// in are the packages the fence is about; empty means all but those of except.
	in     []string
	except []string
	// never and only say what these packages may not import, or all they may.
	never, only []string
}

// scope tells the code of a package from its tests.
type scope uint8

const (
	inCode scope = 1 << iota
	inTests
	inAll = inCode | inTests
)

// fences is the direction of dependencies: imports point toward package policy.
// .golangci.yml says the same to editors.
func fences() []fence {
	return []fence{
		{
			reason: "one adapter knows OPA, so that an upgrade or a replacement stays in one folder",
			except: []string{"policy/opa/...", "bench/..."},
			never:  []string{"github.com/open-policy-agent/opa/..."},
			scope:  inCode,
		},
		{
			reason: "tests use OPA where policies are tested, and nowhere else",
			except: []string{"policy/opa/...", "rego/...", "bench/..."},
			never:  []string{"github.com/open-policy-agent/opa/..."},
			scope:  inTests,
		},
		{
			reason: "one adapter runs foreign code, so that its limits are in one place",
			except: []string{"plugins/wasm/...", "bench/..."},
			never:  []string{"github.com/tetratelabs/wazero/..."},
			scope:  inAll,
		},
		{
			reason: "everybody else sees the narrow interface of broker/store",
			except: []string{"broker/store/badgerstore/...", "bench/..."},
			never:  []string{"github.com/dgraph-io/badger/..."},
			scope:  inAll,
		},
		{
			reason: "the packet codec stays behind Cordon's own framing and size limits",
			except: []string{"broker/wire/...", "bench/..."},
			never:  []string{"github.com/mochi-mqtt/server/..."},
			scope:  inAll,
		},
		{
			reason: "everybody counts with plain atomics, and one package shows the counts",
			except: []string{"broker/metrics/...", "bench/..."},
			never:  []string{"github.com/prometheus/..."},
			scope:  inAll,
		},
		{
			reason: "one package asks certificate authorities, and owns what that leaves running",
			except: []string{"broker/pki/acme/..."},
			never:  []string{"github.com/caddyserver/...", "github.com/letsencrypt/...", "go.uber.org/zap/..."},
			scope:  inAll,
		},
		{
			reason: "topic rules are shared by the policy engine and the router and depend on neither",
			in:     []string{"policy/topic/..."},
			only:   []string{"std", "policy/topic/..."},
			scope:  inCode,
		},
		{
			reason: "the words everyone shares depend on nobody",
			in:     []string{"policy"},
			only:   []string{"std", "policy/topic"},
			scope:  inCode,
		},
		{
			reason: "the decision log knows the words; main chose who renders and where records are kept",
			in:     []string{"policy/audit"},
			only:   []string{"std", "policy", "policy/topic"},
			scope:  inCode,
		},
		{
			reason: "the engine knows the words and gets the bundle as an fs.FS",
			in:     []string{"policy/opa/..."},
			never:  []string{".", "broker/...", "plugins/...", "rego/..."},
			scope:  inCode,
		},
		{
			reason: "what a verifier is depends on the words only",
			in:     []string{"plugins"},
			only:   []string{"std", "policy", "policy/topic"},
			scope:  inCode,
		},
		{
			reason: "the WebAssembly host verifies; it neither decides nor serves",
			in:     []string{"plugins/wasm/..."},
			never:  []string{".", "broker/...", "policy/opa/...", "rego/..."},
			scope:  inCode,
		},
		{
			reason: "a plugin author's build must not pull in the broker",
			in:     []string{"plugins/guest/..."},
			only:   []string{"std", "plugins/guest/..."},
			scope:  inCode,
		},
		{
			reason: "the enforcement point speaks to a policy.Decider and plugins.Verifier that main chose",
			in:     []string{"broker/..."},
			never:  []string{".", "policy/opa/...", "plugins/wasm/...", "rego/..."},
			scope:  inCode,
		},
		{
			reason: "the broker stores through broker/store; main chose the engine",
			in:     []string{"broker", "broker/api/...", "broker/registry/..."},
			never:  []string{"broker/store/badgerstore/..."},
			scope:  inCode,
		},
		{
			reason: "transports belong to broker/listen and broker/api; the core must not learn HTTP",
			in:     []string{"broker", "policy", "plugins"},
			never:  []string{"net/http/..."},
			scope:  inCode,
		},
		{
			reason: "the REST API declares what it needs as small interfaces",
			in:     []string{"broker/api/..."},
			never:  []string{"broker"},
			scope:  inAll,
		},
		{
			reason: "the console is static files and one handler, and speaks to the API over HTTP only",
			in:     []string{"broker/console/..."},
			only:   []string{"std"},
			scope:  inCode,
		},
		{
			reason: "the built-in policies are embedded files and nothing else",
			in:     []string{"rego"},
			only:   []string{"embed", "io/fs"},
			scope:  inCode,
		},
		{
			reason: "benchmarks may see everything, so nobody may lean on them; main is where wiring ends",
			except: []string{"bench/..."},
			never:  []string{".", "bench/..."},
			scope:  inAll,
		},
	}
}

// covers reports whether the fence is about files of the package in folder.
func (f fence) covers(folder string, isTest bool) bool {
	kind := inCode
	if isTest {
		kind = inTests
	}
	return f.scope&kind != 0 && (len(f.in) == 0 || matchesAny(folder, f.in)) && !matchesAny(folder, f.except)
}

// allows reports whether a package may import name, in the form of a fence.
func (f fence) allows(name string) bool {
	if matchesAny(name, f.never) {
		return false
	}
	return len(f.only) == 0 || matchesAny(name, f.only) || slices.Contains(f.only, "std") && isStandard(name)
}

// imported writes an import path the way fences do.
func imported(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// matchesAny reports whether a folder or import path fits one of the patterns.
func matchesAny(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		above, isTree := strings.CutSuffix(pattern, "/...")
		return name == above || isTree && strings.HasPrefix(name, above+"/")
	})
}

// isStandard reports whether name is of the standard library: its first element
// has no dot, and it is no folder of this module.
func isStandard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".") &&
		!slices.Contains([]string{"bench", "broker", "plugins", "policy", "rego"}, first)
}

// source is one parsed Go file.
type source struct {
	folder, name string
	file         *ast.File
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

// goFiles parses the Go files below root, without testdata and without files
// that only pin versions.
func goFiles(root fs.FS) (*token.FileSet, []source, error) {
	set := token.NewFileSet()
	var files []source
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !pinsVersions(file) {
			files = append(files, source{folder: path.Dir(name), name: name, file: file})
		}
		return nil
	})
	return set, files, err
}

// pinsVersions reports whether a file is never compiled and only keeps
// requirements in go.mod.
func pinsVersions(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if expression, err := constraint.Parse(comment.Text); err == nil && expression.String() == "depspin" {
				return true
			}
		}
	}
	return false
}

// TestImports holds the direction of dependencies, and that no package has
// state or behaviour of its own: no init function, no variable that anybody
// could change.
func TestImports(t *testing.T) {
	t.Parallel()
	set, files, err := goFiles(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files", len(files))
	}
	for _, complaint := range slices.Concat(crossings(set, files, fences()), globals(set, files)) {
		t.Error(complaint)
	}
}

// crossings lists the imports that a fence forbids.
func crossings(set *token.FileSet, files []source, fences []fence) []string {
	var complaints []string
	for _, s := range files {
		for _, spec := range s.file.Imports {
			importPath, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				complaints = append(complaints, err.Error())
				continue
			}
			name := imported(importPath)
			for _, f := range fences {
				if f.covers(s.folder, s.isTest()) && !f.allows(name) {
					complaints = append(complaints, set.Position(spec.Pos()).String()+": "+s.folder+" imports "+name+": "+f.reason)
				}
			}
		}
	}
	return complaints
}

// globals lists init functions and package-level variables outside tests,
// except sentinel errors, embedded files, compile-time assertions, and tables
// whose comment says that they are immutable.
func globals(set *token.FileSet, files []source) []string {
	var complaints []string
	complain := func(at token.Pos, what string) {
		complaints = append(complaints, set.Position(at).String()+": "+what)
	}
	for _, s := range files {
		if s.isTest() {
			continue
		}
		for _, declaration := range s.file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					complain(d.Pos(), "an init function: constructors receive what they need")
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					if v := spec.(*ast.ValueSpec); !isConstant(d, v) {
						complain(v.Pos(), v.Names[0].Name+" is a package-level variable; a table that nobody changes says \"immutable: …\" in its comment")
					}
				}
			}
		}
	}
	return complaints
}

// isConstant reports whether nobody has a reason to assign to v.
func isConstant(d *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, group := range []*ast.CommentGroup{d.Doc, v.Doc, v.Comment} {
		if group == nil {
			continue
		}
		text := strings.ToLower(group.Text())
		if strings.Contains(text, "immutable") || strings.Contains(text, "read only") {
			return true
		}
		for _, comment := range group.List {
			if strings.HasPrefix(comment.Text, "//go:embed ") {
				return true
			}
		}
	}
	if !slices.ContainsFunc(v.Names, func(n *ast.Ident) bool { return n.Name != "_" }) {
		return true
	}
	return len(v.Values) == len(v.Names) && !slices.ContainsFunc(v.Values, func(value ast.Expr) bool { return !isSentinel(value) })
}

// isSentinel reports whether an expression is errors.New(…) or fmt.Errorf(…).
func isSentinel(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := selector.X.(*ast.Ident)
	return ok && (from.Name == "errors" && selector.Sel.Name == "New" || from.Name == "fmt" && selector.Sel.Name == "Errorf")
}

// A fence that stops nobody is worse than none: each must refuse the import it
// names.
func TestImportsFindsFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, text string
		want             int
	}{
		{"OPA in the broker", "broker/a.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 1},
		{"OPA in a broker test", "broker/a_test.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 1},
		{"OPA in its adapter", "policy/opa/a.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 0},
		{"OPA in a test of rego", "rego/a_test.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 0},
		{"OPA in rego", "rego/a.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 2},
		{"OPA in a benchmark", "bench/a_test.go", `import _ "github.com/open-policy-agent/opa/v1/rego"`, 0},
		{"wazero beside its host", "plugins/a.go", `import _ "github.com/tetratelabs/wazero"`, 2},
		{"wazero in its host", "plugins/wasm/a.go", `import _ "github.com/tetratelabs/wazero/api"`, 0},
		{"Badger in the registry", "broker/registry/a.go", `import _ "github.com/dgraph-io/badger/v4"`, 1},
		{"Badger in its adapter", "broker/store/badgerstore/a.go", `import _ "github.com/dgraph-io/badger/v4"`, 0},
		{"mochi in the broker", "broker/a.go", `import _ "github.com/mochi-mqtt/server/v2/packets"`, 1},
		{"mochi below wire", "broker/wire/wiretest/a.go", `import _ "github.com/mochi-mqtt/server/v2/packets"`, 0},
		{"Prometheus in the broker", "broker/a.go", `import _ "github.com/prometheus/client_golang/prometheus"`, 1},
		{"Prometheus in its adapter", "broker/metrics/a.go", `import _ "github.com/prometheus/client_golang/prometheus"`, 0},
		{"a library in policy", "policy/a.go", `import _ "example.org/x"`, 1},
		{"a library in a test of policy", "policy/a_test.go", `import _ "example.org/x"`, 0},
		{"topic in policy", "policy/a.go", `import _ "` + module + `/policy/topic"`, 0},
		{"policy in topic", "policy/topic/a.go", `import _ "` + module + `/policy"`, 1},
		{"the bundle in the engine", "policy/opa/a.go", `import _ "` + module + `/rego"`, 1},
		{"the engine in the broker", "broker/wire/a.go", `import _ "` + module + `/policy/opa"`, 1},
		{"the store's engine in the broker", "broker/a.go", `import _ "` + module + `/broker/store/badgerstore"`, 1},
		{"HTTP in the broker", "broker/a.go", `import _ "net/http"`, 1},
		{"HTTP in a listener", "broker/listen/a.go", `import _ "net/http"`, 0},
		{"the broker in the API", "broker/api/a_test.go", `import _ "` + module + `/broker"`, 1},
		{"a neighbour in the API", "broker/api/a.go", `import _ "` + module + `/broker/registry"`, 0},
		{"a library in the console", "broker/console/a.go", `import _ "example.org/x"`, 1},
		{"the broker in a guest", "plugins/guest/a.go", `import _ "` + module + `/policy"`, 1},
		{"a benchmark in main", "a.go", `import _ "` + module + `/bench/load"`, 1},
		{"main in a benchmark", "bench/a_test.go", `import _ "` + module + `"`, 0},
		{"everything in main", "a.go", `import _ "` + module + `/policy/opa"; import _ "` + module + `/rego"`, 0},

		{"an init function", "broker/a.go", "func init() {}", 1},
		{"a method named init", "broker/a.go", "type t int\nfunc (t) init() {}", 0},
		{"a counter", "broker/a.go", "var n int", 1},
		{"a counter in a test", "broker/a_test.go", "var n int", 0},
		{"a table", "broker/a.go", "var table = map[string]int{}", 1},
		{"a documented table", "broker/a.go", "// immutable: built once.\nvar table = map[string]int{}", 0},
		{"a documented table in a group", "broker/a.go", "var (\n\t// a is read only.\n\ta = 1\n\tb = 2\n)", 1},
		{"a sentinel", "broker/a.go", "var ErrX, ErrY = errors.New(\"x\"), fmt.Errorf(\"y\")", 0},
		{"a changed sentinel", "broker/a.go", "var ErrX error", 1},
		{"an assertion", "broker/a.go", "var _ error = (*T)(nil)", 0},
		{"embedded files", "broker/a.go", "//go:embed a\nvar files embed.FS", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{test.file: {Data: []byte("package p\n" + test.text + "\n")}}
			set, files, err := goFiles(root)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Concat(crossings(set, files, fences()), globals(set, files))
			if len(got) != test.want {
				t.Errorf("got %d complaints, want %d: %q", len(got), test.want, got)
			}
		})
	}
}

func TestImportsSkipsFilesThatPinVersions(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"deps.go":              {Data: []byte("//go:build depspin\n\npackage main\n")},
		"broker/testdata/a.go": {Data: []byte("not Go")},
		".ci/a.go":             {Data: []byte("not Go")},
		"a.go":                 {Data: []byte("//go:build linux\n\npackage main\n")},
	}
	_, files, err := goFiles(root)
	if err != nil || len(files) != 1 || files[0].name != "a.go" {
		t.Errorf("got %v, %v", files, err)
	}
}
