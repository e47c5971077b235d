package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of the harness that runs the documents: its documents are inline,
// and a shell script plays the program.

// md joins the lines of a document; three apostrophes stand for a fence.
func md(lines ...string) string {
	return strings.ReplaceAll(strings.Join(lines, "\n"), "'''", "```") + "\n"
}

func TestParseDocument(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []block
	}{
		{"no blocks", md("# Title", "text"), nil},
		{"other languages are left alone", md("'''text", "ls", "'''", "'''rego", "x", "'''", "'''", "y", "'''"), nil},
		{"two blocks", md("'''sh", "a", "b", "'''", "and", "'''sh", "c", "'''"), []block{{line: 1, commands: "a\nb\n"}, {line: 6, commands: "c\n"}}},
		{
			"under headings", md("# One", "'''sh", "a", "'''", "## Two", "'''sh", "# no heading", "'''"),
			[]block{{line: 2, heading: 1, commands: "a\n"}, {line: 6, heading: 5, commands: "# no heading\n"}},
		},
		{"in a list", md("- so:", "  '''sh", "  a", "    b", "  '''"), []block{{line: 2, commands: "a\n  b\n"}}},
		{"a longer fence", md("````sh", "'''", "````"), []block{{line: 1, commands: "```\n"}}},
		{
			"directives", md(`<!-- background: until "msg=ready" -->`, "<!-- needs: tool -->", "", "'''sh", "a", "'''"),
			[]block{{line: 4, commands: "a\n", needs: "tool", until: "msg=ready"}},
		},
		{"what it prints", md("'''sh", "a", "'''", "prints", "<!-- prints -->", "'''text", "x", "'''"), []block{{line: 1, commands: "a\n", prints: "x\n"}}},
		{"a comment for people", md("<!-- a note -->", "'''sh", "a", "'''"), []block{{line: 2, commands: "a\n"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseDocument(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a shell that is not run":      {md("", "'''bash", "a", "'''"), "2: mark it sh"},
		"a directive with a fault":     {md("<!-- background: ready -->", "'''sh", "a", "'''"), "1: not understood"},
		"a directive without a block":  {md("<!-- needs: x -->", "text"), "1: no block follows"},
		"a directive at the end":       {md("<!-- needs: x -->"), "1: no block follows"},
		"a directive of another block": {md("<!-- needs: x -->", "'''text", "a", "'''"), "2: the comment before it"},
		"output of nothing":            {md("<!-- prints -->", "'''text", "a", "'''"), "1: not understood"},
		"output that is not text":      {md("'''sh", "a", "'''", "<!-- prints -->", "'''sh", "b", "'''"), "5: what a block prints"},
		"output without a block":       {md("'''sh", "a", "'''", "<!-- prints -->", "text"), "4: no block follows"},
	} {
		if got, err := parseDocument(test.text); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %+v, %v; want %q", name, got, err, test.want)
		}
	}
}

// program plays cordon: serve is ready on some ports until it is told to stop,
// everything else is printed back.
const program = `#!/usr/bin/env bash
case "$1" in
serve)
	trap 'echo stopped >> stopped; exit 0' TERM
	echo "export TOURIST='x y'"
	echo "level=INFO msg=ready mqtts=127.0.0.1:40001 https=127.0.0.1:40002 given=${*:2} env=$CORDON_MQTTS"
	while :; do sleep 0.05; done ;;
die) exit 3 ;;
*) echo "cordon $*" ;;
esac
`

// walkThrough runs a document with the played program and returns its folder
// and the first error.
func walkThrough(t *testing.T, text string) (clone string, err error) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(binary, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	blocks, err := parseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	clone = t.TempDir()
	w := newWalk(t, binary, clone)
	for _, b := range blocks {
		if err := w.step(b); err != nil {
			return clone, err
		}
	}
	return clone, nil
}

func TestWalk(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want string // in the error; empty: none
	}{
		{"one shell for all", md("'''sh", "a=1; mkdir d; cd d", "'''", "'''sh", `[ "$a" = 1 ]; [ "$(basename "$PWD")" = d ]`, "'''"), ""},
		{"a failing command", md("'''sh", "echo before; false; echo after", "'''"), "a command failed\nbefore\n"},
		{"a failing pipe", md("'''sh", "false | cat", "'''"), "a command failed"},
		{"an unset variable", md("'''sh", "echo $nosuch", "'''"), "nosuch: unbound variable"},
		{"broken syntax", md("'''sh", "if", "'''"), "syntax error"},
		{"no standard input", md("'''sh", "cat", "'''"), ""},
		{"go run is the program", md("'''sh", "go run . version --json", "'''", "<!-- prints -->", "'''text", "cordon version --json", "'''"), ""},
		{"the program by name", md("'''sh", "cordon version", "'''", "<!-- prints -->", "'''text", "cordon version", "'''"), ""},
		{"the status of the program", md("'''sh", "go run . die", "'''"), "a command failed"},
		{"no tests inside tests", md("'''sh", "go test ./...", "'''", "<!-- prints -->", "'''text", "not run: …", "'''"), ""},
		{"other output", md("'''sh", "echo a; echo b", "'''", "<!-- prints -->", "'''text", "a", "'''"), "but the document says"},
		{"output with gaps", md("'''sh", "echo one; echo two; echo three", "'''", "<!-- prints -->", "'''text", "o…e", "…", "thr…", "'''"), ""},
		{"a server", md(`<!-- background: until "msg=ready" -->`, "'''sh", "go run . serve --demo", "'''",
			"'''sh", "cordon pub -p 8883 https://localhost:8443/x :1883", "'''",
			"<!-- prints -->", "'''text", "cordon pub -p 40001 https://localhost:40002/x :1883", "'''"), ""},
		{"what a server exports", md(`<!-- background: until "msg=ready" -->`, "'''sh", "go run . serve", "'''",
			"'''sh", `echo "$TOURIST"`, "'''", "<!-- prints -->", "'''text", "x y", "'''"), ""},
		{"a server's addresses", md(`<!-- background: until "msg=ready" -->`, "'''sh", "go run . serve --mqtt :1883 --https=0.0.0.0:8443", "'''",
			"<!-- prints -->", "'''text", "…given=--mqtt 127.0.0.1:0 --https 127.0.0.1:0 env=127.0.0.1:0", "'''"), ""},
		{"a server that ends", md(`<!-- background: until "msg=ready" -->`, "'''sh", "echo no; go run . die", "'''"), "it ended, or never printed \"msg=ready\"\nno\n"},
		{"tokens of a server that ends", md(`<!-- background: until "msg=ready" -->`,
			"'''sh", `echo "export KEY='k' TOKEN='t'"; echo "pub -u 'k:t' -P 't'"; false`, "'''"), "export KEY='k' TOKEN='…'\npub -u '…' -P '…'\n"},
		{"a missing program", md("# A", "<!-- needs: no-such-program -->", "'''sh", "false", "'''", "'''sh", "false", "'''", "# B", "'''sh", "echo b; false", "'''"), "a command failed\nb\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := walkThrough(t, test.text)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Everything a walk starts is gone when its test ends: a server after it was
// asked to stop, a command that was left behind with it. Both hold a FIFO open,
// whose end is the end of the last of them.
func TestWalkStopsWhatItStarts(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	held := filepath.Join(folder, "held")
	if err := syscall.Mkfifo(held, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(held, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	t.Run("walk", func(t *testing.T) {
		_, err := walkThrough(t, md(`<!-- background: until "msg=ready" -->`, "'''sh", "cd "+folder+"; exec 5>held; go run . serve", "'''",
			"'''sh", "sleep 600 >"+held+" &", "'''"))
		if err != nil {
			t.Fatal(err)
		}
	})
	if err := fifo.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(fifo); err != nil {
		t.Errorf("something still runs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, "stopped")); err != nil {
		t.Errorf("the server was not asked to stop: %v", err)
	}
}

func TestCloneTree(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a.md", "CHANGELOG.md", "d/b.md", "d/testdata/c.md", ".git/config.md", "cordon-data/x.md"} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := cloneTree(to, from); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.md": true, "d/testdata/c.md": true, ".git": false, "cordon-data": false} {
		if _, err := os.Stat(filepath.Join(to, name)); (err == nil) != want {
			t.Errorf("%s: copied is %t", name, err == nil)
		}
	}
	documents, err := findDocuments(from)
	if want := []string{filepath.Join(from, "a.md"), filepath.Join(from, "d/b.md")}; err != nil || !reflect.DeepEqual(documents, want) {
		t.Errorf("documents are %q, %v", documents, err)
	}
}
