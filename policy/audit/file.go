package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// FileOptions of a File.
type FileOptions struct {
	Path string
	// Size is how many bytes a file has before the next is begun; 0: 64 MiB.
	Size int64
	// Keep is how many full files stay, PATH.1 the newest; 0: 5.
	Keep int
	// Compress has full files compressed: PATH.1.gz.
	Compress bool
}

// File is a Sink of JSON lines. The file it makes can be read by its owner alone.
type File struct {
	o    FileOptions
	file *os.File
	size int64
}

var _ Sink = (*File)(nil)

// OpenFile goes on at the end of the file, or makes it.
func OpenFile(o FileOptions) (*File, error) {
	if o.Size <= 0 {
		o.Size = 64 << 20
	}
	if o.Keep <= 0 {
		o.Keep = 5
	}
	f := &File{o: o}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	return f, nil
}

// Name is "file".
func (*File) Name() string { return "file" }

func (f *File) open() error {
	file, err := os.OpenFile(f.o.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", f.o.Path)
	}
	if err == nil && info.Size() > 0 {
		err = endLine(file, info.Size())
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}

// endLine ends a line that a crash cut short, so that the next is a line of its own.
func endLine(file *os.File, size int64) error {
	var last [1]byte
	if _, err := file.ReadAt(last[:], size-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err := file.WriteString("\n")
	return err
}

// Write appends one line for each event.
func (f *File) Write(_ context.Context, events []*Event) (lost int, err error) {
	var lines bytes.Buffer
	waiting := 0
	for i, ev := range events {
		text, err := ev.JSON()
		if err != nil {
			return len(events) - i + waiting, err
		}
		if f.size+int64(lines.Len()) > 0 && f.size+int64(lines.Len()+len(text)+1) > f.o.Size {
			if err := f.flush(&lines); err != nil {
				return len(events) - i + waiting, err
			}
			waiting = 0
			if err := f.rotate(); err != nil {
				return len(events) - i, err
			}
		}
		lines.Write(text)
		lines.WriteByte('\n')
		waiting++
	}
	if err := f.flush(&lines); err != nil {
		return waiting, err
	}
	return 0, nil
}

func (f *File) flush(lines *bytes.Buffer) error {
	if lines.Len() == 0 {
		return nil
	}
	if f.file == nil { // a rotation failed half way
		if err := f.open(); err != nil {
			return err
		}
	}
	n, err := f.file.Write(lines.Bytes())
	f.size += int64(n)
	lines.Reset()
	if err != nil {
		// What was written of a line would be glued to the next one.
		err = errors.Join(err, f.file.Close())
		f.file = nil
	}
	return err
}

// rotate moves PATH to PATH.1, PATH.1 to PATH.2 and so on; the last one goes.
func (f *File) rotate() error {
	if f.file != nil {
		err := f.file.Close()
		f.file = nil
		if err != nil {
			return err
		}
	}
	for n := f.o.Keep; n >= 1; n-- {
		for _, ending := range []string{"", ".gz"} {
			old := f.numbered(n) + ending
			var err error
			if n == f.o.Keep {
				err = os.Remove(old)
			} else {
				err = os.Rename(old, f.numbered(n+1)+ending)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := os.Rename(f.o.Path, f.numbered(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.o.Compress {
		if err := compress(f.numbered(1)); err != nil {
			return err
		}
	}
	return f.open()
}

func (f *File) numbered(n int) string { return f.o.Path + "." + strconv.Itoa(n) }

// compress replaces path by path.gz.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(path+".gz", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	err = errors.Join(err, z.Close(), out.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path+".gz"))
	}
	return os.Remove(path)
}

// Close closes the file.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
