package revision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cordon-mq/cordon/policy"
)

const maxLog = 256 << 20

// Files is a Store in a folder: "log" with one entry per line, "head", and
// "bundles" with an archive per revision. It is locked while it is open, since
// two who append would break the chain.
type Files struct {
	dir  string
	log  *os.File
	size int64 // of the entries that count
}

var _ Store = (*Files)(nil)

// OpenFiles opens the folder, and makes it when there is none. What a crash left
// of an entry that was never completed is cut off. The error is KindConflict when
// somebody else has it open. Close it.
func OpenFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(filepath.Join(dir, "bundles"), 0o700); err != nil {
		return nil, fmt.Errorf("open policy revisions: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open policy log: %w", err)
	}
	if err := syscall.Flock(int(log.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(&policy.Error{Kind: policy.KindConflict, Op: "open policy log", Public: "another process uses it", Err: err}, log.Close())
	}
	f := &Files{dir: dir, log: log}
	if err := errors.Join(f.cutTail(), syncFolder(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("open policy log: %w", err), log.Close())
	}
	return f, nil
}

// cutTail drops what follows the last line end, and what a crash left half
// written beside its place.
func (f *Files) cutTail() error {
	for _, folder := range []string{f.dir, filepath.Join(f.dir, "bundles")} {
		left, err := filepath.Glob(filepath.Join(folder, ".new-*"))
		if err != nil {
			return err
		}
		for _, name := range left {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	text, err := f.read()
	if err != nil {
		return err
	}
	f.size = int64(bytes.LastIndexByte(text, '\n') + 1)
	if f.size == int64(len(text)) {
		return nil
	}
	return f.cut()
}

func (f *Files) cut() error { return errors.Join(f.log.Truncate(f.size), f.log.Sync()) }

// inPlace reports as an error that the log which is open is not the one that
// others see: somebody put another file in its place.
func (f *Files) inPlace() (fs.FileInfo, error) {
	open, err := f.log.Stat()
	if err != nil {
		return nil, err
	}
	seen, err := os.Lstat(filepath.Join(f.dir, "log"))
	switch {
	case err != nil:
		return nil, err
	case !os.SameFile(open, seen):
		return nil, errors.New("another file is in the place of the policy log")
	}
	return open, nil
}

func (f *Files) read() ([]byte, error) {
	info, err := f.inPlace()
	switch {
	case err != nil:
		return nil, err
	case info.Size() > maxLog:
		return nil, errors.New("the policy log is larger than 256 MiB")
	}
	text := make([]byte, info.Size())
	n, err := f.log.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return text[:n], nil
}

// Close ends the use of the folder.
func (f *Files) Close() error { return f.log.Close() }

// Bundle implements Store.
func (f *Files) Bundle(id ID) ([]byte, error) {
	file, err := os.Open(f.bundle(id))
	if err != nil {
		return nil, fmt.Errorf("read revision %s: %w", id, err)
	}
	archive, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", id, err)
	}
	return archive, nil
}

// PutBundle implements Store.
func (f *Files) PutBundle(id ID, archive []byte) error {
	if err := replace(f.bundle(id), archive); err != nil {
		return fmt.Errorf("store revision %s: %w", id, err)
	}
	return nil
}

// DropBundle implements Store.
func (f *Files) DropBundle(id ID) error {
	if err := os.Remove(f.bundle(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete revision %s: %w", id, err)
	}
	return nil
}

func (f *Files) bundle(id ID) string { return filepath.Join(f.dir, "bundles", string(id)+".tar") }

// Log implements Store.
func (f *Files) Log() (entries [][]byte, head []byte, err error) {
	text, err := f.read()
	if err != nil {
		return nil, nil, fmt.Errorf("read policy log: %w", err)
	}
	head, err = os.ReadFile(filepath.Join(f.dir, "head"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read policy log: %w", err)
	}
	for line := range bytes.Lines(text[:min(int64(len(text)), f.size)]) {
		entries = append(entries, bytes.TrimSuffix(line, []byte("\n")))
	}
	return entries, head, nil
}

// Append implements Store.
func (f *Files) Append(entry, head []byte) error {
	if _, err := f.inPlace(); err != nil {
		return fmt.Errorf("append to policy log: %w", err)
	}
	line := append(bytes.Clone(entry), '\n')
	_, err := f.log.WriteAt(line, f.size)
	if err = errors.Join(err, f.log.Sync()); err != nil {
		return errors.Join(fmt.Errorf("append to policy log: %w", err), f.cut())
	}
	f.size += int64(len(line))
	// The entry is durable now. A head that stays behind only asks for less, and
	// the next entry moves it on.
	_ = replace(filepath.Join(f.dir, "head"), head)
	return nil
}

// replace writes a file beside its place and then moves it there, so that it is
// never half.
func replace(name string, content []byte) error {
	dir := filepath.Dir(name)
	file, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncFolder(dir)
}

// syncFolder makes names durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
