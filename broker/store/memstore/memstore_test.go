package memstore_test

import (
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, disk *memstore.Disk, o store.Options) store.Store {
	s, err := disk.Open(o)
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
	for _, durability := range []store.Durability{store.Process, store.Power} {
		t.Run(durability.String(), func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) store.Store {
				return open(t, memstore.NewDisk(), store.Options{Durability: durability})
			})
		})
	}
}

func TestPersistence(t *testing.T) {
	t.Parallel()
	var disks sync.Map
	storetest.RunPersistent(t, func(_ *testing.T, dir string) (store.Store, error) {
		disk, _ := disks.LoadOrStore(dir, memstore.NewDisk())
		return disk.(*memstore.Disk).Open(store.Options{})
	})
}

// What a Scan shows does not outlive the call.
func TestScanOverwritesValue(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	defer s.Close()
	scope := store.In("org001", 1)
	if err := store.CommitWait(t.Context(), s, store.Put(scope.Key(store.KindDevice, "d1"), []byte("value"))); err != nil {
		t.Fatal(err)
	}
	var kept []byte
	err := s.Scan(scope.All(), store.Key{}, func(_ store.Key, value []byte) bool {
		kept = value
		return true
	})
	if err != nil || string(kept) == "value" {
		t.Errorf("kept %q, %v; want it overwritten", kept, err)
	}
}

func TestUnknownDurability(t *testing.T) {
	t.Parallel()
	disk := memstore.NewDisk()
	if s, err := disk.Open(store.Options{Durability: 7}); err == nil {
		t.Errorf("opened %v with an unknown durability", s)
	}
	if _, err := disk.Open(store.Options{Durability: 7}); errors.Is(err, store.ErrLocked) {
		t.Errorf("the refusal left the disk locked: %v", err)
	}
}
