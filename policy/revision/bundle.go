package revision

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Bounds of a stored bundle. They are those of a bundle on its way in, with room
// to spare.
const (
	maxFiles = 4000
	maxBytes = 64 << 20
)

// ID names a bundle by its content: the first 16 hexadecimal digits of its
// [Digest], such as "4f0c2a9be1d37788".
type ID string

// Digest is the hash of a bundle's files, as 64 hexadecimal digits.
type Digest string

// ID is what d is called.
func (d Digest) ID() ID { return ID(d[:16]) }

// ParseID checks s. The error is KindInvalid.
func ParseID(s string) (ID, error) {
	if len(s) != 16 || !isHex(s) {
		return "", invalid("revision", "a revision is 16 of 0-9 and a-f")
	}
	return ID(s), nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// File is one file of a bundle.
type File struct {
	Path string // slash-separated, relative to the bundle
	Text []byte
}

// Sum hashes files in the order of their paths; it does not matter in which they
// are given.
func Sum(files []File) Digest {
	h := sha256.New()
	var length [8]byte
	for _, f := range ordered(files) {
		for _, part := range [][]byte{[]byte(f.Path), f.Text} {
			binary.BigEndian.PutUint64(length[:], uint64(len(part)))
			h.Write(length[:])
			h.Write(part)
		}
	}
	return Digest(hex.EncodeToString(h.Sum(nil)))
}

func ordered(files []File) []File {
	return slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
}

// pack writes files as an archive that any tar reads. The same files make the
// same bytes.
func pack(files []File) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range ordered(files) {
		header := tar.Header{Name: f.Path, Size: int64(len(f.Text)), Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(&header); err != nil {
			return nil, fmt.Errorf("pack %q: %w", f.Path, err)
		}
		if _, err := w.Write(f.Text); err != nil {
			return nil, fmt.Errorf("pack %q: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

// unpack reads what pack wrote.
func unpack(archive []byte) ([]File, error) {
	if len(archive) > maxBytes {
		return nil, errors.New("the stored bundle is larger than 64 MiB")
	}
	var files []File
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("unpack: %w", err)
		case header.Typeflag != tar.TypeReg || !fs.ValidPath(header.Name) || header.Name == ".":
			return nil, fmt.Errorf("unpack: %q is no file of a bundle", header.Name)
		case len(files) == maxFiles:
			return nil, errors.New("the stored bundle has more than 4000 files")
		}
		text, err := io.ReadAll(r) // at most what archive holds: it is not compressed
		if err != nil {
			return nil, fmt.Errorf("unpack %q: %w", header.Name, err)
		}
		files = append(files, File{header.Name, text})
	}
}

// FS shows files as a folder.
func FS(files []File) (fs.FS, error) {
	f := &folder{files: map[string]*entry{}, folders: map[string][]fs.DirEntry{".": nil}}
	for _, file := range ordered(files) {
		if !fs.ValidPath(file.Path) || file.Path == "." {
			return nil, fmt.Errorf("%q is no path of a file", file.Path)
		}
		if err := f.add(file); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// folder is a read-only fs.FS over files in memory.
type folder struct {
	files   map[string]*entry
	folders map[string][]fs.DirEntry
}

func (f *folder) add(file File) error {
	if f.files[file.Path] != nil || f.folders[file.Path] != nil {
		return fmt.Errorf("%q is there twice", file.Path)
	}
	e := &entry{name: path.Base(file.Path), text: file.Text}
	f.files[file.Path] = e
	for dir := path.Dir(file.Path); ; dir = path.Dir(dir) {
		if f.files[dir] != nil {
			return fmt.Errorf("%q is a file and a folder", dir)
		}
		_, known := f.folders[dir]
		f.folders[dir] = append(f.folders[dir], fs.FileInfoToDirEntry(e))
		if known || dir == "." {
			return nil
		}
		e = &entry{name: path.Base(dir), dir: true}
	}
}

// Open implements fs.FS.
func (f *folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if e := f.files[name]; e != nil {
		return &openFile{e, bytes.NewReader(e.text)}, nil
	}
	if list, ok := f.folders[name]; ok {
		return &openFolder{entry: &entry{name: path.Base(name), dir: true}, list: list}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// entry is a file or folder, and its own fs.FileInfo.
type entry struct {
	name string
	text []byte
	dir  bool
}

func (e *entry) Name() string       { return e.name }
func (e *entry) Size() int64        { return int64(len(e.text)) }
func (e *entry) ModTime() time.Time { return time.Time{} }
func (e *entry) IsDir() bool        { return e.dir }
func (e *entry) Sys() any           { return nil }

func (e *entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type openFile struct {
	*entry
	*bytes.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *openFile) Size() int64                { return f.entry.Size() }
func (f *openFile) Close() error               { return nil }

type openFolder struct {
	*entry
	list []fs.DirEntry
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.name, Err: errors.New("is a folder")}
}

// ReadDir implements fs.ReadDirFile.
func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		list := f.list
		f.list = nil
		return slices.Clone(list), nil
	}
	if len(f.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.list))
	list := slices.Clone(f.list[:n])
	f.list = f.list[n:]
	return list, nil
}
