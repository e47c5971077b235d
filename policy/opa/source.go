package opa

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy/revision"
)

// Bounds of a bundle, checked before a file is read whole.
const (
	maxFiles      = 2000
	maxFileBytes  = 4 << 20
	maxTotalBytes = 32 << 20
	maxDepth      = 16
)

// source is the text of a bundle: the files that count, in order of their path.
type source struct {
	files []file
	total int64
	seen  int
}

type file struct {
	path string // slash-separated, relative to the bundle
	text []byte
}

func (f file) isModule() bool { return path.Ext(f.path) == ".rego" }

func (f file) isData() bool {
	switch path.Base(f.path) {
	case "data.json", "data.yaml", "data.yml":
		return true
	}
	return false
}

// maxReads is how often a folder is read until it is twice the same.
const maxReads = 10

// readSource collects the files of a bundle. Names that start with a dot are
// skipped: editors, version control, and Kubernetes' "..data" folder.
//
// A folder may be changed while it is read, as when the link is swapped through
// which all of its files are seen. Half of the one and half of the other is no
// bundle that anybody wrote, so what was read counts once the next reading finds
// the same.
func readSource(fsys fs.FS, report *Report) *source {
	found := &Report{}
	src := readOnce(fsys, found)
	for range maxReads {
		again := &Report{}
		next := readOnce(fsys, again)
		if src.equal(next) && slices.Equal(found.Problems, again.Problems) {
			report.Problems = append(report.Problems, found.Problems...)
			report.Warnings = append(report.Warnings, found.Warnings...)
			return src
		}
		src, found = next, again
	}
	report.problem(src, nil, CodeRead, "the bundle changes while it is read", "write it elsewhere and rename it into its place")
	return src
}

func (s *source) equal(other *source) bool {
	return slices.EqualFunc(s.files, other.files, func(a, b file) bool { return a.path == b.path && bytes.Equal(a.text, b.text) })
}

func readOnce(fsys fs.FS, report *Report) *source {
	src := &source{}
	src.readDir(fsys, ".", 0, report)
	slices.SortFunc(src.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return src
}

func (s *source) readDir(fsys fs.FS, dir string, depth int, report *Report) {
	if depth > maxDepth {
		report.problem(s, &ast.Location{File: dir}, CodeLimit, "folders are more than 16 deep", "")
		return
	}
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		report.problem(s, &ast.Location{File: dir}, CodeRead, cause(err), "")
		return
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if s.seen++; s.seen > maxFiles {
			if s.seen == maxFiles+1 {
				report.problem(s, &ast.Location{File: dir}, CodeLimit, "the bundle has more than 2000 files and folders", "")
			}
			return
		}
		name := path.Join(dir, entry.Name())
		// Stat, not the entry: a symbolic link counts as what it points to.
		info, err := fs.Stat(fsys, name)
		switch {
		case err != nil:
			report.problem(s, &ast.Location{File: name}, CodeRead, cause(err), "")
		case info.IsDir():
			s.readDir(fsys, name, depth+1, report)
		case info.Mode().IsRegular():
			s.readFile(fsys, name, report)
		}
	}
}

func (s *source) readFile(fsys fs.FS, name string, report *Report) {
	f := file{path: name}
	if !f.isModule() && !f.isData() {
		switch path.Ext(name) {
		case ".json", ".yaml", ".yml":
			report.warning(s, &ast.Location{File: name}, CodeIgnored, "the file is not read",
				"data files are called data.json or data.yaml; their folder is their place under data")
		}
		return
	}
	text, err := readBounded(fsys, name)
	if err != nil {
		code := CodeRead
		if errors.Is(err, errTooLarge) {
			code = CodeLimit
		}
		report.problem(s, &ast.Location{File: name}, code, cause(err), "")
		return
	}
	if s.total += int64(len(text)); s.total > maxTotalBytes {
		report.problem(s, &ast.Location{File: name}, CodeLimit, "the bundle is larger than 32 MiB", "")
		return
	}
	f.text = text
	s.files = append(s.files, f)
}

var errTooLarge = errors.New("the file is larger than 4 MiB")

func readBounded(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, errTooLarge
	}
	return text, nil
}

// cause drops the operation and path of err, which the position says already.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// copies returns the files that count, tests and data included.
func (s *source) copies() []revision.File {
	files := make([]revision.File, len(s.files))
	for i, f := range s.files {
		files[i] = revision.File{Path: f.path, Text: f.text}
	}
	return files
}

// revision names the content.
func (s *source) revision() string { return string(revision.Sum(s.copies()).ID()) }

// line is row n of a file, counted from 1; empty when there is none.
func (s *source) line(name string, n int) string {
	for _, f := range s.files {
		if f.path != name {
			continue
		}
		rest := string(f.text)
		for ; n > 1; n-- {
			_, after, ok := strings.Cut(rest, "\n")
			if !ok {
				return ""
			}
			rest = after
		}
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSuffix(line, "\r")
	}
	return ""
}
