package store_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cordon-mq/cordon/broker/store"
)

// The engine is not closed under a read, and a read inside a read that began
// before Close says so instead of touching a closed engine.
func TestCloseWaitsForReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{})
		op := put(0, 1)
		if err := store.CommitWait(t.Context(), s, op); err != nil {
			t.Fatal(err)
		}
		proceed, scanned, closed := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		var inner error
		go func() {
			scanned <- s.Scan(op.Key().Scope().All(), store.Key{}, func(store.Key, []byte) bool {
				<-proceed
				_, inner = s.Get(op.Key())
				return true
			})
		}()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if e.state.closed {
			t.Error("the engine was closed under a scan")
		}
		close(proceed)
		if err := <-scanned; err != nil {
			t.Errorf("scan: %v", err)
		}
		if !errors.Is(inner, store.ErrClosed) {
			t.Errorf("get inside the scan: %v, want %v", inner, store.ErrClosed)
		}
		if err := <-closed; err != nil || !e.state.closed {
			t.Errorf("close: %v, engine closed: %v", err, e.state.closed)
		}
	})
}

// The schema record is on disk before anything is written beside it.
func TestSchemaIsSynced(t *testing.T) {
	t.Parallel()
	e := newEngine()
	s, err := store.New(e, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e.wantCounts(t, 1, 1)

	for name, broken := range map[string]*engine{
		"unwritten": {applyErr: errors.New("fault")},
		"unsynced":  {syncErr: errors.New("fault")},
	} {
		broken.state.values = map[store.Key][]byte{}
		if _, err := store.New(broken, store.Options{}); err == nil || !broken.state.closed {
			t.Errorf("%s schema: %v, engine closed: %v; want an error and a closed engine", name, err, broken.state.closed)
		}
	}
}

func TestDurabilityWords(t *testing.T) {
	t.Parallel()
	for _, durability := range []store.Durability{store.Process, store.Power} {
		if got, err := store.ParseDurability(durability.String()); err != nil || got != durability {
			t.Errorf("%v parses as %v, %v", durability, got, err)
		}
	}
	for _, word := range []string{"", "Power", "durability(2)"} {
		if got, err := store.ParseDurability(word); err == nil {
			t.Errorf("%q parses as %v", word, got)
		}
	}
	if got := store.Durability(2).String(); got != "durability(2)" {
		t.Errorf("an unknown durability prints %q", got)
	}
}
