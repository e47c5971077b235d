package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cordon-mq/cordon/policy/opa"
)

type policyFmtCmd struct {
	Dir   string `arg:"" help:"Folder of policies."`
	Check bool   `name:"check" help:"Write nothing; fail when a file is not in the canonical form."`
}

// Run prints the names of the files that were not in the canonical form, and the
// problems of those that cannot be. A file is replaced whole or not at all.
func (c *policyFmtCmd) Run(std *streams) error {
	report := &opa.Report{}
	changed := 0
	err := filepath.WalkDir(c.Dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != c.Dir && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !entry.Type().IsRegular() || filepath.Ext(path) != ".rego":
			return nil // a link leads to what belongs elsewhere
		}
		name, err := filepath.Rel(c.Dir, path)
		if err != nil {
			return err
		}
		did, problems, err := c.format(path, filepath.ToSlash(name))
		report.Problems = append(report.Problems, problems...)
		if err != nil || !did {
			return err
		}
		changed++
		_, err = fmt.Fprintln(std.out, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("format policies: %w", err)
	}
	if _, err := report.WriteTo(std.out); err != nil {
		return err
	}
	if len(report.Problems) > 0 || c.Check && changed > 0 {
		return errReported
	}
	return nil
}

// format reports whether the file was not in the canonical form.
func (c *policyFmtCmd) format(path, name string) (changed bool, problems []opa.Problem, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, nil, err
	}
	info, statErr := file.Stat()
	text, err := io.ReadAll(io.LimitReader(file, opa.MaxFileBytes+1))
	if err := errors.Join(err, statErr, file.Close()); err != nil {
		return false, nil, err
	}
	formatted, problems := opa.Format(name, text)
	if len(problems) > 0 || bytes.Equal(text, formatted) {
		return false, problems, nil
	}
	if c.Check {
		return true, nil, nil
	}
	return true, nil, replaceFile(path, formatted, info.Mode().Perm())
}

// replaceFile writes beside the file and renames. The name in between begins with
// a dot, so that no broker that watches the folder reads it.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".fmt-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
