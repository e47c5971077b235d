package badgerstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
)

// A process that is killed while it makes a log file leaves an empty one. The
// next start does without it.
func TestOpensBesideAFileThatWasNeverWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := store.In("acme01", 1).Key(store.KindDevice, "d1")
	s, err := badgerstore.Open(dir, badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CommitWait(t.Context(), s, store.Put(key, []byte("kept"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = badgerstore.Open(dir, badgerstore.Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if value, err := s.Get(key); err != nil || string(value) != "kept" {
		t.Errorf("read %q, %v", value, err)
	}
}
