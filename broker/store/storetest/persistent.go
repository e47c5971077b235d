package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
)

const newerSchema = store.SchemaVersion + 41

// RunPersistent checks what must survive Close and Open. open opens the store
// kept in folder dir, again and again in one test; it does not close it.
func RunPersistent(t *testing.T, open func(t *testing.T, dir string) (store.Store, error)) {
	tests := []struct {
		name string
		test func(t *testing.T, reopen func() (store.Store, error))
	}{
		{"keeps everything", testReopen},
		{"one at a time", testLocked},
		{"a newer schema is refused", testSchema(store.SchemaValue(newerSchema),
			fmt.Sprint("version ", newerSchema), fmt.Sprint("up to ", store.SchemaVersion), "newer program")},
		{"an older schema is refused", testSchema(store.SchemaValue(0),
			"version 0", fmt.Sprint("version ", store.SchemaVersion), "older program")},
		{"a damaged schema is refused", testSchema([]byte("1"), "damaged")},
		{"data without a schema is refused", testNoSchema},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.test(t, func() (store.Store, error) { return open(t, dir) })
		})
	}
}

// opened returns the store or ends the test; it is closed at the latest when
// the test ends.
func opened(t *testing.T, reopen func() (store.Store, error)) store.Store {
	t.Helper()
	s, err := reopen()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(t, s) })
	return s
}

func closed(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func testReopen(t *testing.T, reopen func() (store.Store, error)) {
	const calls = 200
	s := opened(t, reopen)
	for n := range calls {
		s.Commit([]store.Op{store.Put(device(fmt.Sprint(n)), fmt.Append(nil, "value ", n))}, nil)
	}
	closed(t, s)

	s = opened(t, reopen)
	for n := range calls {
		wantValue(t, s, device(fmt.Sprint(n)), fmt.Sprint("value ", n))
	}
	commit(t, s, store.Delete(device("0")), store.Put(device("1"), []byte("new")))
	closed(t, s)

	s = opened(t, reopen)
	wantNone(t, s, device("0"))
	wantValue(t, s, device("1"), "new")
	if got := len(scan(t, s, org().All(), store.Key{})); got != calls-1 {
		t.Errorf("%d keys, want %d", got, calls-1)
	}
}

func testLocked(t *testing.T, reopen func() (store.Store, error)) {
	s := opened(t, reopen)
	if second, err := reopen(); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("second open: %v, %v; want %v", second, err, store.ErrLocked)
	}
	commit(t, s, store.Put(device("d1"), []byte("undisturbed")))
	closed(t, s)
	wantValue(t, opened(t, reopen), device("d1"), "undisturbed")
}

// testSchema expects data with that schema record to be refused in those words.
func testSchema(record []byte, words ...string) func(*testing.T, func() (store.Store, error)) {
	return func(t *testing.T, reopen func() (store.Store, error)) {
		s := opened(t, reopen)
		commit(t, s, store.Put(store.SchemaKey(), record))
		closed(t, s)

		// Refused twice alike: the refusal releases what it opened.
		for range 2 {
			refused, err := reopen()
			if !errors.Is(err, store.ErrSchema) {
				t.Fatalf("open: %v, %v; want %v", refused, err, store.ErrSchema)
			}
			for _, word := range words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		}
	}
}

func testNoSchema(t *testing.T, reopen func() (store.Store, error)) {
	s := opened(t, reopen)
	commit(t, s, store.Delete(store.SchemaKey()), store.Put(device("d1"), nil))
	closed(t, s)
	if refused, err := reopen(); !errors.Is(err, store.ErrSchema) {
		t.Fatalf("open: %v, %v; want %v", refused, err, store.ErrSchema)
	}
}
