package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine records what the committer does, and does it when it is let.
type engine struct {
	state struct {
		sync.Mutex
		values  map[store.Key][]byte
		applied [][]store.Op
		syncs   int
		closed  bool
	}
	gate     chan struct{} // each Apply after the first takes one; nil for no gate
	applyErr error
	syncErr  error
}

func newEngine() *engine {
	e := &engine{}
	e.state.values = map[store.Key][]byte{}
	return e
}

func (e *engine) Get(key store.Key) ([]byte, error) {
	e.state.Lock()
	defer e.state.Unlock()
	value, ok := e.state.values[key]
	if !ok {
		return nil, store.ErrNotFound
	}
	return value, nil
}

// Scan shows what is there in no order.
func (e *engine) Scan(prefix store.Prefix, _ store.Key, fn func(store.Key, []byte) bool) error {
	e.state.Lock()
	values := maps.Clone(e.state.values)
	e.state.Unlock()
	for key, value := range values {
		if prefix.Covers(key) && !fn(key, value) {
			break
		}
	}
	return nil
}

func (e *engine) Apply(ops []store.Op) error {
	if e.gate != nil {
		<-e.gate
	}
	e.state.Lock()
	defer e.state.Unlock()
	if e.applyErr != nil {
		return e.applyErr
	}
	e.state.applied = append(e.state.applied, append([]store.Op(nil), ops...))
	for _, op := range ops {
		e.state.values[op.Key()] = append([]byte{}, op.Value()...)
	}
	return nil
}

func (e *engine) Sync() error {
	e.state.Lock()
	defer e.state.Unlock()
	e.state.syncs++
	return e.syncErr
}

func (e *engine) Close() error {
	e.state.Lock()
	defer e.state.Unlock()
	e.state.closed = true
	return nil
}

// start returns a store over e that has forgotten how it was opened.
func (e *engine) start(t *testing.T, o store.Options) store.Store {
	t.Helper()
	s, err := store.New(e, o)
	if err != nil {
		t.Fatal(err)
	}
	e.state.Lock()
	defer e.state.Unlock()
	e.state.applied, e.state.syncs = nil, 0
	return s
}

func (e *engine) counts() (transactions, syncs int) {
	e.state.Lock()
	defer e.state.Unlock()
	return len(e.state.applied), e.state.syncs
}

func (e *engine) wantCounts(t *testing.T, transactions, syncs int) {
	t.Helper()
	if gotT, gotS := e.counts(); gotT != transactions || gotS != syncs {
		t.Errorf("%d transactions and %d syncs, want %d and %d", gotT, gotS, transactions, syncs)
	}
}

func put(n int, size int) store.Op {
	return store.Put(store.In("org001", 1).Key(store.KindQueue, store.Uint64(uint64(n))), make([]byte, size))
}

// However many calls wait, a batch costs one transaction and one sync.
func TestOneSyncPerBatch(t *testing.T) {
	tests := []struct {
		durability store.Durability
		commitSync bool // one of the waiting calls is CommitSync
		syncs      int
	}{
		{store.Process, false, 0},
		{store.Process, true, 1},
		{store.Power, false, 2},
		{store.Power, true, 2},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.durability, " ", test.commitSync), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				s := e.start(t, store.Options{Durability: test.durability})
				e.gate = make(chan struct{})
				answered := 0
				s.Commit([]store.Op{put(0, 1)}, func(error) { answered++ })
				synctest.Wait() // the committer is busy with the first
				for n := range 100 {
					commit := s.Commit
					if test.commitSync && n == 50 {
						commit = s.CommitSync
					}
					commit([]store.Op{put(n, 1)}, func(error) { answered++ })
				}
				close(e.gate)
				synctest.Wait()
				if answered != 101 {
					t.Errorf("%d answers, want 101", answered)
				}
				e.wantCounts(t, 2, test.syncs)
				s.Commit(nil, nil) // nothing to write, nothing to sync
				synctest.Wait()
				e.wantCounts(t, 2, test.syncs)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An idle store commits at once: no time passes on the fake clock.
func TestIdleCommitsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{})
		defer s.Close()
		for n := range 3 {
			answered := false
			s.Commit([]store.Op{put(n, 1)}, func(error) { answered = true })
			synctest.Wait()
			if !answered {
				t.Errorf("commit %d waits for something", n)
			}
		}
		e.wantCounts(t, 3, 0)
	})
}

// Batches respect the limits and never split a call.
func TestBatchLimits(t *testing.T) {
	t.Parallel()
	manyOps := func(n int) []store.Op {
		ops := make([]store.Op, n)
		for i := range ops {
			ops[i] = put(i, 0)
		}
		return ops
	}
	tests := []struct {
		name  string
		calls [][]store.Op
		want  []int // operations of each transaction
	}{
		{"by count", [][]store.Op{manyOps(10000), manyOps(6000), manyOps(1000), manyOps(1)}, []int{16000, 1001}},
		{"by bytes", [][]store.Op{{put(1, 900<<10)}, {put(2, 900<<10)}, {put(3, 900<<10)}, {put(4, 1)}}, []int{2, 2}},
		{"refused calls weigh nothing", [][]store.Op{manyOps(16000), manyOps(16385), manyOps(384)}, []int{16384}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				s := e.start(t, store.Options{})
				e.gate = make(chan struct{})
				s.Commit([]store.Op{put(0, 0)}, nil)
				synctest.Wait()
				for _, ops := range test.calls {
					s.Commit(ops, nil)
				}
				close(e.gate)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				var got []int
				for _, ops := range e.state.applied[1:] {
					got = append(got, len(ops))
				}
				if fmt.Sprint(got) != fmt.Sprint(test.want) {
					t.Errorf("transactions of %v operations, want %v", got, test.want)
				}
			})
		})
	}
}

// Commit blocks while too much is pending, and goes on as soon as there is
// room.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{PendingBytes: 1000})
		e.gate = make(chan struct{})
		s.Commit([]store.Op{put(0, 5000)}, nil) // alone, even a larger call is accepted
		synctest.Wait()

		accepted := false
		go func() {
			s.Commit([]store.Op{put(1, 1)}, nil)
			accepted = true
		}()
		synctest.Wait()
		if accepted {
			t.Error("accepted beyond the bound")
		}
		e.gate <- struct{}{}
		synctest.Wait()
		if !accepted {
			t.Error("still blocked when there is room")
		}
		close(e.gate)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A callback that commits does not wait for room that only its own return would
// make, even when others have filled the queue.
func TestCallbackNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{PendingBytes: 1000})
		defer s.Close()
		answered := make(chan error, 1)
		s.Commit([]store.Op{put(0, 1)}, func(error) {
			for n := range 100 {
				s.Commit([]store.Op{put(n, 900)}, nil)
			}
			s.Commit(nil, func(err error) { answered <- err })
		})
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
}

// Close answers what was accepted, and refuses who waits for room.
func TestCloseReleasesBlockedCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{PendingBytes: 1000})
		e.gate = make(chan struct{})
		first, second := make(chan error, 1), make(chan error, 1)
		s.Commit([]store.Op{put(0, 5000)}, func(err error) { first <- err })
		go s.Commit([]store.Op{put(1, 1)}, func(err error) { second <- err })
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		if err := <-second; !errors.Is(err, store.ErrClosed) {
			t.Errorf("blocked call: %v, want %v", err, store.ErrClosed)
		}
		if e.state.closed {
			t.Error("the engine was closed under a write")
		}
		close(e.gate)
		if err := <-first; err != nil {
			t.Errorf("accepted call: %v", err)
		}
		if err := <-closed; err != nil || !e.state.closed {
			t.Errorf("close: %v, engine closed: %v", err, e.state.closed)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		s := e.start(t, store.Options{})
		e.gate = make(chan struct{})
		impatient := errors.New("impatient")
		ctx, cancel := context.WithCancelCause(t.Context())
		answer := make(chan error)
		go func() { answer <- store.CommitWait(ctx, s, put(0, 1)) }()
		synctest.Wait()
		cancel(impatient)
		if err := <-answer; !errors.Is(err, impatient) {
			t.Errorf("cancelled while waiting: %v, want %v", err, impatient)
		}
		if err := store.CommitSyncWait(ctx, s, put(1, 1)); !errors.Is(err, impatient) {
			t.Errorf("cancelled before: %v, want %v", err, impatient)
		}
		close(e.gate)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		e.wantCounts(t, 1, 0) // the second was never begun
	})
}

// A failed transaction fails its calls and no others.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("fault")
	e := newEngine()
	s := e.start(t, store.Options{Durability: store.Power})
	e.applyErr = fault
	if err := store.CommitWait(t.Context(), s, put(0, 1)); !errors.Is(err, fault) || errors.Is(err, store.ErrFailed) {
		t.Errorf("commit: %v, want %v", err, fault)
	}
	e.wantCounts(t, 0, 0) // what was not written is not synced
	e.applyErr = nil
	if err := store.CommitWait(t.Context(), s, put(1, 1)); err != nil {
		t.Errorf("commit after the fault: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// After a failed sync nothing is promised any more, even if the next would
// succeed.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("fault")
	e := newEngine()
	s := e.start(t, store.Options{})
	e.syncErr = fault
	if err := store.CommitWait(t.Context(), s, put(0, 1)); err != nil {
		t.Errorf("commit without sync: %v", err)
	}
	if err := store.CommitSyncWait(t.Context(), s, put(1, 1)); !errors.Is(err, fault) || !errors.Is(err, store.ErrFailed) {
		t.Errorf("commit with sync: %v, want %v and %v", err, store.ErrFailed, fault)
	}
	e.syncErr = nil
	for _, commit := range []func(context.Context, store.Writer, ...store.Op) error{store.CommitWait, store.CommitSyncWait} {
		if err := commit(t.Context(), s, put(2, 1)); !errors.Is(err, store.ErrFailed) {
			t.Errorf("commit after the failed sync: %v, want %v", err, store.ErrFailed)
		}
	}
	e.wantCounts(t, 2, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever asked hears of each transaction before its callers do, and how much
// waits can be read at any time.
func TestCommittedAndPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		var heard []error
		s := e.start(t, store.Options{Committed: func(_ time.Duration, err error) { heard = append(heard, err) }})
		heard = nil // of how it was opened
		e.gate = make(chan struct{})
		pending := s.(store.Pending)
		if n := pending.Pending(); n != 0 {
			t.Errorf("%d bytes wait in an idle store", n)
		}
		key := store.In("org001", 1).Key(store.KindMessage, store.Uint64(1))
		answered := make(chan int, 2)
		s.Commit([]store.Op{store.Put(key, make([]byte, 1000))}, func(error) { answered <- len(heard) })
		synctest.Wait()
		if n := pending.Pending(); n < 1000 {
			t.Errorf("%d bytes wait", n)
		}
		e.gate <- struct{}{}
		if n := <-answered; n != 1 || heard[0] != nil {
			t.Errorf("answered after %v", heard)
		}
		e.state.Lock()
		e.applyErr = errors.New("disk")
		e.state.Unlock()
		s.Commit([]store.Op{store.Delete(key)}, func(error) { answered <- len(heard) })
		e.gate <- struct{}{}
		if n := <-answered; n != 2 || heard[1] == nil {
			t.Errorf("answered after %v", heard)
		}
		s.Commit(nil, func(error) { answered <- len(heard) }) // writes nothing
		if n := <-answered; n != 2 {
			t.Errorf("answered after %v", heard)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := pending.Pending(); n != 0 {
			t.Errorf("%d bytes wait in a closed store", n)
		}
	})
}
