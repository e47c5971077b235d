package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadme runs the documents: every `sh` block of every Markdown file, in
// order, as a reader would who pastes them one after the other into a fresh
// clone. CONTRIBUTING.md tells authors what they can say to it.
func TestReadme(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and starts the program")
	}
	documents, err := findDocuments(".")
	if err != nil {
		t.Fatal(err)
	}
	tours := map[string][]block{}
	for _, name := range documents {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := parseDocument(string(text))
		if err != nil {
			t.Errorf("%s:%v", name, err)
		}
		if len(blocks) > 0 {
			tours[name] = blocks
		}
	}
	if len(tours) == 0 {
		return
	}
	binary := filepath.Join(t.TempDir(), "cordon")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for name, blocks := range tours {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clone := t.TempDir()
			if err := cloneTree(clone, "."); err != nil {
				t.Fatal(err)
			}
			w := newWalk(t, binary, clone)
			for _, b := range blocks {
				if err := w.step(b); err != nil {
					t.Fatalf("%s:%d: %v", name, b.line, err)
				}
			}
		})
	}
}

// block is one executable block of a document.
type block struct {
	line     int    // of its opening fence
	heading  int    // line of the heading it stands under; 0 before the first
	commands string // what to run
	needs    string // a program without which the block is skipped
	until    string // not empty: run in the background until this is printed
	prints   string // not empty: what the output must be, with … for anything
}

// The comments before a block, and the fences around it.
var (
	directive = regexp.MustCompile(`^<!-- (needs|background|prints)(?:: (.+?))? -->$`)
	until     = regexp.MustCompile(`^until "(.+)"$`)
	fencing   = regexp.MustCompile("^( *)(```+)\\s*(\\S*)")
)

// parseDocument finds the sh blocks of a Markdown text. Its error starts with
// the line number.
func parseDocument(text string) ([]block, error) {
	var blocks []block
	var pending block // directives that wait for their block
	expect := false   // <!-- prints --> waits for its text block
	heading, last := 0, 0
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		fence := fencing.FindStringSubmatch(lines[i])
		said := directive.FindStringSubmatch(line)
		switch {
		case said != nil:
			last = i + 1
			switch {
			case said[1] == "needs" && said[2] != "":
				pending.needs = said[2]
			case said[1] == "background" && until.MatchString(said[2]):
				pending.until = until.FindStringSubmatch(said[2])[1]
			case said[1] == "prints" && said[2] == "" && len(blocks) > 0:
				expect = true
			default:
				return nil, fmt.Errorf("%d: not understood: %s", i+1, line)
			}
		case fence != nil:
			first := i
			var body []string
			for i++; i < len(lines) && !strings.HasPrefix(strings.TrimSpace(lines[i]), fence[2]); i++ {
				body = append(body, strings.TrimPrefix(lines[i], fence[1]))
			}
			content := strings.Join(body, "\n") + "\n"
			switch language := fence[3]; {
			case expect && language == "text":
				blocks[len(blocks)-1].prints = content
			case expect:
				return nil, fmt.Errorf("%d: what a block prints is a text block", first+1)
			case language == "sh":
				pending.line, pending.heading, pending.commands = first+1, heading, content
				blocks = append(blocks, pending)
			case slices.Contains([]string{"bash", "shell", "console", "zsh"}, language):
				return nil, fmt.Errorf("%d: mark it sh, which is run, or text, which is not", first+1)
			case pending != block{}:
				return nil, fmt.Errorf("%d: the comment before it is about an sh block", first+1)
			}
			pending, expect = block{}, false
		case line == "":
		case pending != block{} || expect:
			return nil, fmt.Errorf("%d: no block follows", last)
		case strings.HasPrefix(line, "#"):
			heading = i + 1
		}
	}
	if (pending != block{}) || expect {
		return nil, fmt.Errorf("%d: no block follows", last)
	}
	return blocks, nil
}

// findDocuments lists the Markdown files below root that belong to the product.
func findDocuments(root string) ([]string, error) {
	var found []string
	err := walkTree(root, func(name string, entry fs.DirEntry) error {
		if filepath.Ext(name) == ".md" && entry.Name() != "CHANGELOG.md" && !strings.Contains(name, "testdata") {
			found = append(found, name)
		}
		return nil
	})
	return found, err
}

// cloneTree copies the files below from into the folder to.
func cloneTree(to, from string) error {
	return walkTree(from, func(name string, entry fs.DirEntry) error {
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		return errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, text, info.Mode().Perm()))
	})
}

// walkTree visits the files below root, except hidden folders and the data of
// a broker that was started here.
func walkTree(root string, visit func(name string, entry fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir():
			return visit(name, entry)
		case name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "cordon-data"):
			return fs.SkipDir
		default:
			return nil
		}
	})
}
