package opa

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// maxLinks is how many links may lead to one place.
const maxLinks = 40

// places are where a change of a bundle shows, by their paths without links: the
// kernel tells of an inode, and two names of one would hide each other.
type places struct {
	folders map[string]bool // of the bundle: whatever counts in them
	names   map[string]bool // single names: links on the way, and what they lead to
}

// placesOf finds the places of the bundle in dir. What cannot be read is left out:
// the poll finds it.
func placesOf(dir string) places {
	p := places{map[string]bool{}, map[string]bool{}}
	if folder, err := p.resolve(dir); err == nil {
		p.names[folder] = true // it may be replaced as a whole
		p.walk(folder, 0)
	}
	return p
}

// resolve follows the links of a path, one by one, and notes each of them: each
// may be swapped. Of a path that does not exist it notes where it ends.
func (p places) resolve(name string) (string, error) {
	const root = string(filepath.Separator)
	split := func(s string) []string { return strings.Split(filepath.Clean(s), root) }
	at, rest := root, split(name)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0]) // "." and ".." of what has no links are plain text
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			p.names[next] = true
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		p.names[next] = true
		if links++; links > maxLinks {
			return "", errors.New("too many links")
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			at = root
		}
		rest = append(split(to), rest...)
	}
	return at, nil
}

// walk notes a folder and what is below, as far as a bundle may reach.
func (p places) walk(folder string, depth int) {
	if p.folders[folder] || depth > maxDepth || len(p.folders)+len(p.names) > 2*maxFiles {
		return
	}
	p.folders[folder] = true
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		name := filepath.Join(folder, entry.Name())
		switch {
		case entry.IsDir():
			p.walk(name, depth+1)
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := p.resolve(name)
			if err != nil {
				continue
			}
			if info, err := os.Stat(target); err == nil && info.IsDir() {
				p.walk(target, depth+1)
			} else {
				p.names[target] = true
			}
		}
	}
}

// watch renews the watches: a path may be another inode than before.
func (p places) watch(notify *fsnotify.Watcher) {
	for _, name := range notify.WatchList() {
		_ = notify.Remove(name) // it may be gone already
	}
	watched := map[string]bool{}
	add := func(folder string) {
		if !watched[folder] {
			watched[folder] = true
			_ = notify.Add(folder) // or the poll finds out
		}
	}
	for folder := range p.folders {
		add(folder)
	}
	for name := range p.names {
		add(filepath.Dir(name))
	}
}

// concern leaves out what happens beside the bundle, and files in its folders that
// are none of its own: an editor's, or somebody's notes.
func (p places) concern(event fsnotify.Event) bool {
	if p.names[event.Name] {
		return true
	}
	base := filepath.Base(event.Name)
	if !p.folders[filepath.Dir(event.Name)] || strings.HasPrefix(base, ".") {
		return false
	}
	f := file{path: base}
	return event.Op != fsnotify.Write || f.isModule() || f.isData()
}
