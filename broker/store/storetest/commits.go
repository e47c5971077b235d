package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
)

// testAtomic moves a coin between two keys while others look.
func testAtomic(t *testing.T, s store.Store) {
	commit(t, s, store.Put(device("left"), nil))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				if got := scan(t, s, org().All(), store.Key{}); len(got) != 1 {
					t.Errorf("a scan saw %q, want one key", got)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	from, to := device("left"), device("right")
	for range 200 {
		commit(t, s, store.Delete(from), store.Put(to, nil))
		from, to = to, from
	}
	close(done)
	readers.Wait()
}

func testLaterWins(t *testing.T, s store.Store) {
	commit(t, s,
		store.Put(device("a"), []byte("1")), store.Put(device("a"), []byte("2")),
		store.Put(device("b"), []byte("1")), store.Delete(device("b")),
		store.Delete(device("c")), store.Put(device("c"), []byte("1")))
	wantScan(t, s, org().All(), store.Key{}, "a=2", "c=1")

	// Calls that share a transaction follow one another as well.
	var calls sync.WaitGroup
	for n := range 100 {
		calls.Add(1)
		s.Commit([]store.Op{store.Put(device("a"), fmt.Append(nil, n))}, func(err error) {
			if err != nil {
				t.Errorf("commit %d: %v", n, err)
			}
			calls.Done()
		})
	}
	calls.Wait()
	wantValue(t, s, device("a"), "99")
}

func testCallbacks(t *testing.T, s store.Store) {
	const calls = 500
	var got []string // written by the committer's goroutine only
	for n := range calls {
		// Refused and empty calls keep their place.
		ops := []store.Op{store.Put(device("d1"), fmt.Append(nil, n))}
		switch n % 5 {
		case 3:
			ops = []store.Op{store.Put(store.Key{}, nil)}
		case 4:
			ops = nil
		}
		commit := s.Commit
		if n%50 == 0 {
			commit = s.CommitSync
		}
		commit(ops, func(err error) { got = append(got, fmt.Sprint(n, " ", err)) })
		if n%7 == 0 {
			s.Commit([]store.Op{store.Put(device("d2"), nil)}, nil)
		}
	}
	commit(t, s) // an empty call is answered after all earlier ones
	if len(got) != calls {
		t.Fatalf("%d callbacks, want %d", len(got), calls)
	}
	for n, line := range got {
		want := fmt.Sprint(n, " <nil>")
		if n%5 == 3 {
			want = fmt.Sprint(n, " ", store.ErrInvalidKey)
		}
		if line != want {
			t.Errorf("callback %d was %q, want %q", n, line, want)
		}
	}
}

func testCallbackCommits(t *testing.T, s store.Store) {
	const depth = 20
	finished := make(chan error, 1)
	var next func(n int)
	next = func(n int) {
		s.Commit([]store.Op{store.Put(device("d1"), fmt.Append(nil, n))}, func(err error) {
			got, readErr := s.Get(device("d1"))
			switch {
			case err != nil || readErr != nil || string(got) != fmt.Sprint(n):
				finished <- fmt.Errorf("after commit %d (%w): read %q, %w", n, err, got, readErr)
			case n == depth:
				finished <- nil
			default:
				next(n + 1)
			}
		})
	}
	next(0)
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

func testLimits(t *testing.T, s store.Store) {
	many := func(n int) []store.Op {
		ops := make([]store.Op, n)
		for i := range ops {
			ops[i] = store.Put(org().Key(store.KindMessage, store.Uint64(uint64(i))), nil)
		}
		return ops
	}
	big := func(size int) []store.Op {
		const pieces = 4
		ops := make([]store.Op, pieces)
		for i := range ops {
			ops[i] = store.Put(device(fmt.Sprint(i)), nil)
			size -= ops[i].Size()
		}
		for i := range ops {
			ops[i] = store.Put(ops[i].Key(), make([]byte, size/pieces))
		}
		return ops
	}
	tests := []struct {
		name string
		ops  []store.Op
		want error
	}{
		{"one operation too many", many(store.MaxBatchOps + 1), store.ErrTooLarge},
		{"some bytes too many", big(store.MaxBatchBytes + 4), store.ErrTooLarge},
		{"one byte of value too many", []store.Op{store.Put(device("v"), make([]byte, store.MaxValue+1))}, store.ErrTooLarge},
		{"all operations", many(store.MaxBatchOps), nil},
		{"all bytes", big(store.MaxBatchBytes), nil},
		{"all of a value", []store.Op{store.Put(device("v"), bytes.Repeat([]byte{7}, store.MaxValue))}, nil},
		{"all of a key", []store.Op{store.Put(org().Key(store.KindWill, strings.Repeat("k", 64900)), nil)}, nil},
	}
	for _, test := range tests {
		err := store.CommitWait(t.Context(), s, test.ops...)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		for _, op := range []store.Op{test.ops[0], test.ops[len(test.ops)-1]} {
			if test.want == nil {
				wantValue(t, s, op.Key(), string(op.Value()))
			} else {
				wantNone(t, s, op.Key())
			}
		}
	}
}

func testInvalidKeys(t *testing.T, s store.Store) {
	if _, err := s.Get(store.Key{}); !errors.Is(err, store.ErrInvalidKey) {
		t.Errorf("get: %v, want %v", err, store.ErrInvalidKey)
	}
	if err := s.Scan(store.Prefix{}, store.Key{}, func(store.Key, []byte) bool { return true }); !errors.Is(err, store.ErrInvalidKey) {
		t.Errorf("scan: %v, want %v", err, store.ErrInvalidKey)
	}
	err := store.CommitWait(t.Context(), s, store.Put(device("d1"), nil), store.Delete(store.In("", 1).Key(store.KindDevice)))
	if !errors.Is(err, store.ErrInvalidKey) {
		t.Errorf("commit: %v, want %v", err, store.ErrInvalidKey)
	}
	wantNone(t, s, device("d1"))
}

// testLargeBatches commits more than one transaction can hold, at once.
func testLargeBatches(t *testing.T, s store.Store) {
	const calls, size = 40, 200 << 10
	var pending sync.WaitGroup
	for n := range calls {
		pending.Add(1)
		value := bytes.Repeat([]byte{byte(n)}, size)
		s.Commit([]store.Op{store.Put(device(fmt.Sprint(n)), value)}, func(err error) {
			if err != nil {
				t.Errorf("commit %d: %v", n, err)
			}
			pending.Done()
		})
	}
	pending.Wait()
	for n := range calls {
		wantValue(t, s, device(fmt.Sprint(n)), strings.Repeat(string([]byte{byte(n)}), size))
	}
}

// testHammer lets many goroutines commit, each in its own order, while others
// read.
func testHammer(t *testing.T, s store.Store) {
	const writers, commits = 8, 200
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			own := org().Key(store.KindSession, fmt.Sprint("client", w))
			last := -1
			var answered sync.WaitGroup
			for n := range commits {
				answered.Add(1)
				ops := []store.Op{
					store.Put(own, fmt.Append(nil, n)),
					store.Put(org().Key(store.KindQueue, fmt.Sprint(w), store.Uint64(uint64(n))), nil),
				}
				s.Commit(ops, func(err error) {
					if err != nil || n != last+1 {
						t.Errorf("writer %d: commit %d answered after %d: %v", w, n, last, err)
					}
					last = n
					answered.Done()
				})
				if n%20 == 0 {
					answered.Wait()
					wantValue(t, s, own, fmt.Sprint(n))
				}
			}
			answered.Wait()
			if got := len(scan(t, s, org().Prefix(store.KindQueue, fmt.Sprint(w)), store.Key{})); got != commits {
				t.Errorf("writer %d: %d keys, want %d", w, got, commits)
			}
		})
	}
	work.Wait()
}

func testDeletePrefix(t *testing.T, s store.Store) {
	neighbour := store.In("org001", 2).Key(store.KindDevice, "sensor", "d1")
	commit(t, s, store.Put(neighbour, []byte("stays")), store.Put(org().Key(store.KindDeviceType, "sensor"), nil))
	var ops []store.Op
	for n := range 2500 {
		ops = append(ops, store.Put(device(fmt.Sprint(n)), nil))
	}
	commit(t, s, ops...)

	if err := store.DeletePrefix(t.Context(), s, org().Prefix(store.KindDevice)); err != nil {
		t.Fatal(err)
	}
	wantScan(t, s, org().All(), store.Key{}, "sensor=")
	if err := store.DeletePrefix(t.Context(), s, org().All()); err != nil {
		t.Fatal(err)
	}
	wantScan(t, s, org().All(), store.Key{})
	wantValue(t, s, neighbour, "stays")

	for _, prefix := range []store.Prefix{{}, store.Global().All(), store.Global().Prefix(store.KindDirectory)} {
		if err := store.DeletePrefix(t.Context(), s, prefix); !errors.Is(err, store.ErrInvalidKey) {
			t.Errorf("delete prefix %q: %v, want %v", prefix.Bytes(), err, store.ErrInvalidKey)
		}
	}
	wantValue(t, s, store.SchemaKey(), string(store.SchemaValue(store.SchemaVersion)))
}

func testClosePending(t *testing.T, s store.Store) {
	const calls = 300
	answered := 0
	for n := range calls {
		s.Commit([]store.Op{store.Put(device(fmt.Sprint(n)), nil)}, func(err error) {
			if err != nil {
				t.Errorf("commit %d: %v", n, err)
			}
			if _, err := s.Get(device(fmt.Sprint(n))); err != nil {
				t.Errorf("read during close: %v", err)
			}
			answered++
		})
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if answered != calls {
		t.Errorf("%d answered when Close returned, want %d", answered, calls)
	}
}

func testClosed(t *testing.T, s store.Store) {
	// Close waits for a scan that runs, and lets it end in peace.
	commit(t, s, store.Put(device("a"), nil), store.Put(device("b"), nil))
	started, scanned := make(chan struct{}), make(chan []string, 1)
	proceed := make(chan struct{})
	go func() {
		var seen []string
		err := s.Scan(org().All(), store.Key{}, func(key store.Key, _ []byte) bool {
			if len(seen) == 0 {
				close(started)
				<-proceed
			}
			seen = append(seen, key.Parts()[1])
			return true
		})
		scanned <- append(seen, fmt.Sprint(err))
	}()
	<-started
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- s.Close() }()
	}
	close(proceed)
	if got, want := <-scanned, []string{"a", "b", "<nil>"}; !slices.Equal(got, want) {
		t.Errorf("scan beside close: %q, want %q", got, want)
	}
	for range 2 {
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	}

	if _, err := s.Get(device("a")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("get: %v, want %v", err, store.ErrClosed)
	}
	if err := s.Scan(org().All(), store.Key{}, func(store.Key, []byte) bool { return true }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("scan: %v, want %v", err, store.ErrClosed)
	}
	for _, err := range []error{
		store.CommitWait(t.Context(), s, store.Delete(device("a"))),
		store.CommitSyncWait(t.Context(), s),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("commit: %v, want %v", err, store.ErrClosed)
		}
	}
	s.Commit(nil, nil) // nobody to tell
}
