package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// folderPlatform is the folder of plugins that serve several organisations.
const folderPlatform = "_platform"

// place is where a plugin lies: the folder below the plugins folder, which may
// be empty, and the name without .wasm.
type place struct{ folder, name string }

func (p place) String() string { return filepath.Join(p.folder, p.name) }

// files are the paths a plugin is read from.
type files struct{ module, settings string }

func filesOf(dir string, p place) files {
	base := filepath.Join(dir, p.folder, p.name)
	return files{base + ".wasm", base + ".yaml"}
}

// source is a plugin as it was read from disk, before anything of it ran.
type source struct {
	place
	binary   []byte
	module   [sha256.Size]byte // of binary
	settings *settings
	secrets  map[string]octets
	digest   [sha256.Size]byte // of everything above
	warnings []string
}

// read reads the files of p, bounded by limits.
func read(p place, f files, limits Limits) (*source, error) {
	s := &source{place: p}
	var err error
	if s.binary, err = readBounded(f.module, limits.ModuleBytes); err != nil {
		return nil, err
	}
	text, err := readBounded(f.settings, settingsBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.settings, err = parseSettings(text); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(f.settings), err)
	}
	if s.settings.Name != "" && s.settings.Name != p.name {
		return nil, fmt.Errorf("the settings are those of %q", s.settings.Name)
	}
	s.module = sha256.Sum256(s.binary)
	if want := s.settings.SHA256; want != "" && !strings.EqualFold(want, hex.EncodeToString(s.module[:])) {
		return nil, fmt.Errorf("the module has SHA-256 %x, not the %s of its settings", s.module, want)
	}
	if err := s.readSecrets(filepath.Dir(f.settings)); err != nil {
		return nil, err
	}
	s.digest = s.sum(text)
	return s, nil
}

// readSecrets reads the files that the settings name. No error repeats any of
// their contents.
func (s *source) readSecrets(dir string) error {
	s.secrets = map[string]octets{}
	for name, path := range s.settings.Secrets {
		path = secretPath(dir, path)
		b, err := readBounded(path, secretBytes)
		if err != nil {
			return fmt.Errorf("secret %q: %w", name, err)
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			s.warnings = append(s.warnings, fmt.Sprintf("the file of secret %q can be read by others: chmod 600", name))
		}
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		s.secrets[name] = b
	}
	return nil
}

func secretPath(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (s *source) sum(text []byte) [sha256.Size]byte {
	h := sha256.New()
	add := func(b []byte) {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	add(s.module[:])
	add(text)
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		add([]byte(name))
		add(s.secrets[name])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// stamp is what tells from outside that a file changed.
type stamp struct {
	size, modified int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{-1, 0}
	}
	return stamp{info.Size(), info.ModTime().UnixNano()}
}

// stamps are those of all files that s was read from, or would have been.
func (f files) stamps(s *settings) map[string]stamp {
	all := map[string]stamp{f.module: stampOf(f.module), f.settings: stampOf(f.settings)}
	if s != nil {
		for _, path := range s.Secrets {
			path = secretPath(filepath.Dir(f.settings), path)
			all[path] = stampOf(path)
		}
	}
	return all
}

// list finds the modules of a plugins folder. What cannot be a plugin is left
// out, with the reason. unread are folders that are there and could not be read:
// nobody knows what is in them.
func list(dir string) (found []place, odd map[string]error, unread map[string]bool, err error) {
	odd, unread = map[string]error{}, map[string]bool{}
	top, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	collect := func(folder string, entries []os.DirEntry) {
		for _, e := range entries {
			name, isModule := strings.CutSuffix(e.Name(), ".wasm")
			if !isModule || strings.HasPrefix(name, ".") {
				continue
			}
			p := place{folder, name}
			if err := checkName(name); err != nil {
				odd[p.String()+".wasm"] = err
				continue
			}
			found = append(found, p)
		}
	}
	collect("", top)
	for _, e := range top {
		name := e.Name()
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		if _, err := policy.ParseOrgID(name); err != nil && name != folderPlatform {
			odd[name] = fmt.Errorf("the folder is neither an organisation nor %s", folderPlatform)
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil {
			odd[name], unread[name] = err, true
			continue
		}
		collect(name, entries)
	}
	return found, odd, unread, nil
}

func checkName(name string) error {
	if _, err := policy.ParseID("name", name); err != nil {
		return err
	}
	if plugins.Reserved(name) {
		return errors.New("the name belongs to a built-in verifier")
	}
	return nil
}
