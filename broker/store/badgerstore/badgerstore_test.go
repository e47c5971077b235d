package badgerstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/broker/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string, o badgerstore.Options) *badgerstore.Store {
	t.Helper()
	s, err := badgerstore.Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, t.TempDir(), badgerstore.Options{})
	})
}

func TestPersistence(t *testing.T) {
	t.Parallel()
	for _, durability := range []store.Durability{store.Process, store.Power} {
		t.Run(durability.String(), func(t *testing.T) {
			t.Parallel()
			storetest.RunPersistent(t, func(_ *testing.T, dir string) (store.Store, error) {
				s, err := badgerstore.Open(dir, badgerstore.Options{Options: store.Options{Durability: durability}})
				if err != nil {
					return nil, err // not a nil *Store in an interface
				}
				return s, nil
			})
		})
	}
}

// The folder is for its owner only, also when it was there before.
func TestFolderIsPrivate(t *testing.T) {
	t.Parallel()
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "made", "[by] us"), loose} {
		open(t, dir, badgerstore.Options{})
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o700 {
			t.Errorf("%s: mode %o, want 700", filepath.Base(dir), got)
		}
	}
}

func TestOpenRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := badgerstore.Open(file, badgerstore.Options{}); err == nil {
		t.Errorf("opened %v in a file", s)
	}

	dir := t.TempDir()
	open(t, dir, badgerstore.Options{})
	_, err := badgerstore.Open(dir, badgerstore.Options{})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "another Cordon") {
		t.Errorf("second open: %v, want %v by another Cordon", err, store.ErrLocked)
	}
}

// More data than one table in memory holds, so that logs change, tables are
// written and merged, and syncs cover several logs.
func TestManyTables(t *testing.T) {
	t.Parallel()
	const calls = 100
	scope := store.In("org001", 1)
	key := func(n int) store.Key { return scope.Key(store.KindMessage, store.Uint64(uint64(n))) }
	value := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 500<<10) }

	dir := t.TempDir()
	s := open(t, dir, badgerstore.Options{})
	for n := range calls {
		commit := store.CommitWait
		if n%20 == 0 {
			commit = store.CommitSyncWait
		}
		if err := commit(t.Context(), s, store.Put(key(n), value(n))); err != nil {
			t.Fatal(err)
		}
	}
	if tables, err := filepath.Glob(filepath.Join(dir, "*.sst")); err != nil || len(tables) == 0 {
		t.Fatalf("tables: %v, %v; the test needs some", tables, err)
	}
	if err := store.DeletePrefix(t.Context(), s, scope.Prefix(store.KindMessage, store.Uint64(7))); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(); err != nil {
		t.Fatalf("compact: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("compact after close: %v, want %v", err, store.ErrClosed)
	}

	s = open(t, dir, badgerstore.Options{})
	for n := range calls {
		got, err := s.Get(key(n))
		if n == 7 {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("deleted message: %v, want %v", err, store.ErrNotFound)
			}
		} else if err != nil || !bytes.Equal(got, value(n)) {
			t.Errorf("message %d: %d bytes, %v", n, len(got), err)
		}
	}
}

// Badger logs through the given logger, and its daily work only at debug level.
func TestLogger(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var log syncBuffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		s := open(t, t.TempDir(), badgerstore.Options{Logger: logger})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := log.Len() > 0, level == slog.LevelDebug; got != want {
			t.Errorf("at level %v it logged: %v, want %v\n%s", level, got, want, log.String())
		}
	}
}

type syncBuffer struct {
	mu struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Write(p)
}

func (b *syncBuffer) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Len()
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.String()
}

func BenchmarkCommitWait(b *testing.B) {
	for _, durability := range []store.Durability{store.Process, store.Power} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%v/callers=%d", durability, callers), func(b *testing.B) {
				s, err := badgerstore.Open(b.TempDir(), badgerstore.Options{Options: store.Options{Durability: durability}})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				scope, value := store.In("org001", 1), make([]byte, 64)
				b.SetParallelism(callers)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for n := uint64(0); pb.Next(); n++ {
						key := scope.Key(store.KindQueue, "client", store.Uint64(n%5000))
						if err := store.CommitWait(b.Context(), s, store.Put(key, value)); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
