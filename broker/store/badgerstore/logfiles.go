package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// logFiles are the write-ahead logs of Badger's tables in memory.
//
// Badger's Sync covers only the log that is written to now. When Badger goes on
// to a new log, the old one may hold commits that were never synced, and the
// name of the new one may not be in the folder yet after a loss of power. So
// the first sync after such a change syncs all of them, and the folder. A log
// that is gone meanwhile has become a table, which Badger synced itself.
type logFiles struct {
	dir    string
	synced []string // the logs at the last sync; their names are never used again
}

// sync must not run beside a write, which could begin a new log.
func (l *logFiles) sync() error {
	names, err := l.list()
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	if slices.Equal(names, l.synced) {
		return nil
	}
	for _, name := range names {
		if err := syncFile(filepath.Join(l.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync log: %w", err)
		}
	}
	if err := syncFile(l.dir); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	l.synced = names
	return nil
}

func (l *logFiles) list() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".mem" {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func syncFile(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// removeUnborn removes log files without a byte. Badger makes a file and then
// gives it its size; killed in between, it leaves one behind that it refuses to
// open ever after. Nothing was written to it, so nothing is lost.
func removeUnborn(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			if info.Size() > 0 {
				continue
			}
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}
