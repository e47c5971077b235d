package opa

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cordon-mq/cordon/policy"
)

// Init writes the bundle in fsys to dir for editing: readable by all, writable
// by the owner. It makes dir, and refuses one that has something in it with
// KindExists.
func Init(dir string, fsys fs.FS) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write policies: %w", err)
	case len(entries) > 0:
		return &policy.Error{Kind: policy.KindExists, Op: "write policies", Public: dir + " is not empty"}
	}
	return fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("write policies: %w", err)
		}
		target := filepath.Join(dir, filepath.FromSlash(name))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755) //nolint:gosec // policies are no secret: whoever runs the broker reads them
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("write policies: %w", err)
		}
		return writeNew(target, text)
	})
}

// writeNew does not follow a link that somebody put there meanwhile.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	return nil
}
