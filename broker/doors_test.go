package broker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources parses the Go files of a folder whose names satisfy want.
func sources(t *testing.T, dir string, want func(name string) bool) map[string]*ast.File {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	files := map[string]*ast.File{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || !want(e.Name()) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		must(t, err)
		files[e.Name()] = f
	}
	return files
}

// The doors of this package: what may be done by whom, and by nobody else. An
// entry is how the source writes it, with the end of a selector or the name of a
// composite literal.
func TestDoors(t *testing.T) {
	t.Parallel()
	doors := map[string]struct {
		why string
		by  []string
	}{
		".admit":             {"whatever is published passes it", []string{"handlePublish", "publishWill", "post", "say"}},
		".authorise":         {"admit asks it, and wills before they are due", []string{"admit", "judgeWill", "rejudgeWill", "preview"}},
		"b.retain":           {"only what was admitted is kept", []string{"admit"}},
		".retained.names":    {"what is retained is handed out through deliver", []string{"sendRetained", "offerRetained"}},
		".index.Match":       {"who subscribed is asked in one place", []string{"gather"}},
		".shared.Match":      {"who shares a subscription is asked there too", []string{"gather"}},
		".deliverShared":     {"one member of a group gets a message through it", []string{"deliver", "handOver"}},
		".deliver":           {"live and retained messages leave by it", []string{"admit", "offerRetained", "deliverShared"}},
		".clear":             {"each way out is judged by it", []string{"deliver", "clearQueued"}},
		".clearQueued":       {"queued and resent messages leave by it", []string{"resendLocked", "sendNextLocked"}},
		".transmit":          {"it takes what was cleared", []string{"deliver", "sendOrQueue", "resendLocked", "sendNextLocked"}},
		"wire.AppendPublish": {"no message is written anywhere else", []string{"transmit"}},
		"cleared{}":          {"the proof is made by clear alone", []string{"clear"}},
		".mayReceive":        {"", []string{"clear"}},
		".Decide":            {"a policy is asked where its answer is carried out", []string{"decide", "authorise", "mayReceive"}},
		".sessions":          {"sessions are found by subject and client ID", []string{"newSpace", "session", "restore", "forget", "list", "online"}},
		".spaces":            {"a space is found by the organisation of a principal", []string{"New", "Shutdown", "space", "listSpaces", "close"}},
	}
	met := map[string][]string{}
	files := sources(t, ".", func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
	for name, file := range files {
		for _, decl := range file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				written := ""
				switch n := n.(type) {
				case *ast.SelectorExpr:
					written = types.ExprString(n)
				case *ast.CompositeLit:
					if n.Type != nil {
						written = types.ExprString(n.Type) + "{}"
					}
				}
				for door, rule := range doors {
					if written != door && !(strings.HasPrefix(door, ".") && strings.HasSuffix(written, door)) {
						continue
					}
					met[door] = append(met[door], function.Name.Name)
					if !slices.Contains(rule.by, function.Name.Name) {
						t.Errorf("%s: %s uses %s; only %v may: %s", name, function.Name.Name, door, rule.by, rule.why)
					}
				}
				return true
			})
		}
	}
	for door, rule := range doors {
		for _, by := range rule.by {
			if !slices.Contains(met[door], by) {
				t.Errorf("%s does not use %s any more", by, door)
			}
		}
	}
}

// Retained messages are reached in one file.
func TestRetainedStaysInItsFile(t *testing.T) {
	t.Parallel()
	for name, file := range sources(t, ".", func(name string) bool { return !strings.HasSuffix(name, "_test.go") && name != "retain.go" }) {
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "names" {
				t.Errorf("%s uses %s", name, types.ExprString(s))
			}
			return true
		})
	}
}
