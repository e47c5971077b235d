package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
)

// Run checks the contract of package store. open returns an empty store for
// one test and sees to it that it is closed when the test ends; the suite may
// have closed it before.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"get what was put", testGet},
		{"values are copies", testCopies},
		{"scan in order", testScanOrder},
		{"scan exactly a prefix", testScanPrefix},
		{"scan resumes", testScanResumes},
		{"scan sees one moment", testScanSnapshot},
		{"a commit is atomic", testAtomic},
		{"the later operation wins", testLaterWins},
		{"callbacks in order, once", testCallbacks},
		{"callbacks may commit and read", testCallbackCommits},
		{"limits of a call", testLimits},
		{"invalid keys are refused", testInvalidKeys},
		{"large batches", testLargeBatches},
		{"agrees with a sorted map", testModel},
		{"many committers", testHammer},
		{"delete a prefix", testDeletePrefix},
		{"close finishes what was accepted", testClosePending},
		{"closed", testClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.test(t, open(t))
		})
	}
}

// org returns the scope that most tests use.
func org() store.Scope { return store.In("org001", 1) }

func device(id string) store.Key { return org().Key(store.KindDevice, "sensor", id) }

// commit writes ops and fails the test if that fails.
func commit(t testing.TB, s store.Writer, ops ...store.Op) {
	t.Helper()
	if err := store.CommitWait(t.Context(), s, ops...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// wantValue fails the test unless key holds want.
func wantValue(t testing.TB, s store.Reader, key store.Key, want string) {
	t.Helper()
	if got, err := s.Get(key); err != nil || string(got) != want {
		t.Errorf("get %v: %.40q, %v; want %.40q", key, got, err, want)
	}
}

// wantNone fails the test unless key is not there.
func wantNone(t testing.TB, s store.Reader, key store.Key) {
	t.Helper()
	if got, err := s.Get(key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get %v: %.40q, %v; want %v", key, got, err, store.ErrNotFound)
	}
}

// scan returns what is under prefix as "last part=value".
func scan(t testing.TB, s store.Reader, prefix store.Prefix, after store.Key) []string {
	t.Helper()
	var found []string
	err := s.Scan(prefix, after, func(key store.Key, value []byte) bool {
		name := ""
		if parts := key.Parts(); len(parts) > 0 {
			name = parts[len(parts)-1]
		}
		found = append(found, fmt.Sprintf("%s=%s", name, value))
		return true
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return found
}

func wantScan(t testing.TB, s store.Reader, prefix store.Prefix, after store.Key, want ...string) {
	t.Helper()
	if got := scan(t, s, prefix, after); !slices.Equal(got, want) {
		t.Errorf("scan: %q, want %q", got, want)
	}
}
