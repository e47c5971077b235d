package badgerstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/cordon-mq/cordon/broker/store"
)

// Options of a Store. The zero value is usable.
type Options struct {
	store.Options
	// Logger receives what Badger says of trouble; what it says of its daily
	// work is logged at debug level. Nil means silence.
	Logger *slog.Logger
}

// Store is a store in a folder.
type Store struct {
	store.Store
	engine *engine
}

// Open opens the store in folder dir, which it creates if need be with mode
// 0700. It returns store.ErrLocked while another process, or another Store of
// this one, has the folder open, and store.ErrSchema for data of another schema.
func Open(dir string, o Options) (*Store, error) {
	e, err := openEngine(dir, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("open store in %q: %w", dir, err)
	}
	s, err := store.New(e, o.Options)
	if err != nil {
		return nil, fmt.Errorf("store in %q: %w", dir, err)
	}
	return &Store{Store: s, engine: e}, nil
}

// Pending is how many bytes of accepted commits are not written yet.
func (s *Store) Pending() int { return s.Store.(store.Pending).Pending() }

// Compact rewrites the stored tables into one level, which removes what deleted
// keys left behind. It may take minutes and slows writes meanwhile, so call it
// at quiet times. Close waits for it. It returns store.ErrClosed after Close.
func (s *Store) Compact() error {
	s.engine.maintenance.Lock()
	defer s.engine.maintenance.Unlock()
	if s.engine.maintenance.closed {
		return store.ErrClosed
	}
	if err := s.engine.db.Flatten(compactors); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

// engine is a store.Engine on Badger.
type engine struct {
	db   *badger.DB
	lock *os.File // the folder, locked
	logs logFiles

	maintenance struct {
		sync.Mutex
		closed bool
	}
}

func openEngine(dir string, logger *slog.Logger) (_ *engine, err error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := removeUnborn(dir); err != nil {
		return nil, err
	}
	db, err := badger.Open(badgerOptions(dir, logger))
	if err != nil {
		return nil, err
	}
	return &engine{db: db, lock: lock, logs: logFiles{dir: dir}}, nil
}

// lockFolder creates the folder, closes it to everybody else and locks it. The
// lock ends with the file, or with the process.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := prepareFolder(folder); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

func prepareFolder(folder *os.File) error {
	info, err := folder.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return syscall.ENOTDIR
	}
	// Badger locks the folder in the same way, but says so only in prose.
	err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("%w by another Cordon", store.ErrLocked)
	case err != nil:
		return fmt.Errorf("lock folder: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return folder.Chmod(0o700)
	}
	return nil
}

const (
	// memTableSize is what Badger collects in memory before it writes a table.
	// A transaction may take 15 % of it, which is just above
	// store.MaxBatchBytes and, in entries, above store.MaxBatchOps.
	memTableSize = 16 << 20
	// indexCacheSize bounds the table indices held in memory.
	indexCacheSize = 16 << 20
	// compactors is the smallest number that Badger takes.
	compactors = 2
)

// badgerOptions returns Badger's defaults shrunk to a small machine.
func badgerOptions(dir string, logger *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithBypassLockGuard(true). // lockFolder holds the same lock
		WithSyncWrites(false).     // the committer syncs
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithLogger(quietLogger{logger}).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithNumLevelZeroTables(3).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(compactors).
		WithValueLogFileSize(16 << 20).
		WithValueThreshold(store.MaxValue + 1).
		WithCompression(options.None). // values are compact already, so blocks are read where they are mapped
		WithBlockCacheSize(0).
		WithIndexCacheSize(indexCacheSize)
}

func (e *engine) Get(key store.Key) ([]byte, error) {
	var value []byte
	err := e.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key.Bytes())
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return nil, store.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("get %v: %w", key, err)
	case value == nil:
		return []byte{}, nil
	}
	return value, nil
}

func (e *engine) Scan(prefix store.Prefix, after store.Key, fn func(key store.Key, value []byte) bool) error {
	err := e.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = prefix.Bytes()
		found := txn.NewIterator(o)
		defer found.Close()

		start := max(string(prefix.Bytes()), string(after.Bytes()))
		for found.Seek([]byte(start)); found.Valid(); found.Next() {
			key, err := store.ParseKey(found.Item().Key())
			if err != nil {
				return err
			}
			if key == after {
				continue
			}
			more := true
			err = found.Item().Value(func(value []byte) error {
				more = fn(key, value)
				return nil
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return nil
}

func (e *engine) Apply(ops []store.Op) error {
	return e.db.Update(func(txn *badger.Txn) error {
		for _, op := range ops {
			var err error
			if op.IsDelete() {
				err = txn.Delete(op.Key().Bytes())
			} else {
				err = txn.Set(op.Key().Bytes(), op.Value())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *engine) Sync() error {
	if err := e.logs.sync(); err != nil {
		return err
	}
	return e.db.Sync()
}

func (e *engine) Close() error {
	e.maintenance.Lock()
	defer e.maintenance.Unlock()
	e.maintenance.closed = true
	return errors.Join(e.db.Close(), e.lock.Close())
}
