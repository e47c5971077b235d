package storetest_test

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newFaulty(t *testing.T) *storetest.Faulty {
	f := storetest.NewFaulty(memstore.New())
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// An idle Faulty is a store like any other.
func TestFaultyWithoutFaults(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return newFaulty(t) })
}

func TestFaults(t *testing.T) {
	t.Parallel()
	fault := errors.New("the disk is on fire")
	key := store.In("org001", 1).Key(store.KindDevice, "d1")
	f := newFaulty(t)
	put := func(value string) error {
		return store.CommitWait(t.Context(), f, store.Put(key, []byte(value)))
	}
	want := func(value string) {
		t.Helper()
		if got, err := f.Get(key); err != nil || string(got) != value {
			t.Errorf("get: %q, %v; want %q", got, err, value)
		}
	}
	if err := put("first"); err != nil {
		t.Fatal(err)
	}

	f.FailCommits(fault)
	if err := put("refused"); !errors.Is(err, fault) {
		t.Errorf("refused commit: %v, want %v", err, fault)
	}
	want("first")

	f.FailCommits(nil)
	f.FailAnswers(fault)
	if err := store.CommitSyncWait(t.Context(), f, store.Put(key, []byte("disavowed"))); !errors.Is(err, fault) {
		t.Errorf("disavowed commit: %v, want %v", err, fault)
	}
	want("disavowed")

	f.FailAnswers(nil)
	f.FailReads(fault)
	if _, err := f.Get(key); !errors.Is(err, fault) {
		t.Errorf("get: %v, want %v", err, fault)
	}
	all := store.In("org001", 1).All()
	if err := f.Scan(all, store.Key{}, func(store.Key, []byte) bool { return true }); !errors.Is(err, fault) {
		t.Errorf("scan: %v, want %v", err, fault)
	}

	f.FailReads(nil)
	if err := put("last"); err != nil {
		t.Errorf("commit after the faults: %v", err)
	}
	want("last")
	if got := f.Syncs(); got != 1 {
		t.Errorf("%d syncs counted, want 1", got)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	key := store.In("org001", 1).Key(store.KindDevice, "d1")
	f := newFaulty(t)
	var answers []string
	put := func(value string) {
		f.Commit([]store.Op{store.Put(key, []byte(value))}, func(error) { answers = append(answers, value) })
	}

	f.Hold()
	put("lost")
	if _, err := f.Get(key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get while held: %v, want %v", err, store.ErrNotFound)
	}
	f.Drop()

	f.Hold()
	put("one")
	put("two")
	if got := f.Held(); got != 2 {
		t.Errorf("%d held, want 2", got)
	}
	f.Release()
	put("three")
	if err := store.CommitWait(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(answers, want) {
		t.Errorf("answers: %q, want %q", answers, want)
	}

	// Close releases what is held.
	f.Hold()
	put("four")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := answers[len(answers)-1]; got != "four" {
		t.Errorf("last answer is %q, want %q", got, "four")
	}
}
