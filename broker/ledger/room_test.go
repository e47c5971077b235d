package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
)

// noted adds up what a tenant has.
func noted(t interface{ Fatal(...any) }, st store.Store, of ledger.Tenant) (n int64) {
	scope := store.In(of.Org.String(), of.Incarnation)
	for _, kind := range []store.Kind{store.KindLastEvent, store.KindDiagnostic} {
		err := st.Scan(scope.Prefix(kind), store.Key{}, func(key store.Key, value []byte) bool {
			n += int64(store.Put(key, value).Size())
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Whatever is noted and forgotten in whatever order, the sum is that of what there
// is, and no organisation's is beyond its bound.
func TestTheSumIsWhatThereIs(t *testing.T) {
	t.Parallel()
	_, acme, rival := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		st := memstore.New()
		defer func() { _ = st.Close() }()
		const bound = 6000
		ctx := t.Context()
		start := func() *ledger.Ledger { return ledger.On(st).Bounded(func(ledger.Tenant) int64 { return bound }) }
		l := start()
		b := l.Batch()
		check := func(err error) {
			if err != nil && !errors.Is(err, ledger.ErrFull) {
				rt.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			of := rapid.SampledFrom([]ledger.Tenant{acme, rival}).Draw(rt, "tenant")
			d := rapid.SampledFrom([]ledger.Device{d1, next, d12}).Draw(rt, "device")
			name := fmt.Sprint(rapid.IntRange(0, 7).Draw(rt, "name"))
			size := rapid.IntRange(0, 1500).Draw(rt, "size")
			switch rapid.IntRange(0, 8).Draw(rt, "what") {
			case 0, 1, 2:
				check(b.PutEvent(of, d, &ledger.Event{Name: name, Payload: make([]byte, size), Time: noon}))
			case 3, 4:
				check(l.AddDiagnostic(ctx, of, d, ledger.DiagnosticLog, ledger.Diagnostic{ID: name, Message: string(make([]byte, size/8)), Time: noon}))
			case 5:
				check(l.ClearDiagnostics(ctx, of, d, ledger.DiagnosticLog))
			case 6:
				check(b.Forget(of, d))
			case 7:
				check(b.ForgetEvents(of, noon.Add(1)))
			case 8:
				_, err := l.DropDiagnostic(ctx, of, d, ledger.DiagnosticLog, name)
				check(err)
			}
			if rapid.Bool().Draw(rt, "commit") {
				check(b.Commit(ctx))
			}
			if rapid.IntRange(0, 9).Draw(rt, "again") == 0 {
				check(b.Commit(ctx))
				l = start()
				b = l.Batch()
			}
		}
		check(b.Commit(ctx))
		for _, of := range []ledger.Tenant{acme, rival} {
			sum, err := l.Size(of)
			check(err)
			// Two batches under way at once know nothing of each other.
			if got := noted(rt, st, of); got != sum || got > 2*bound {
				rt.Fatalf("%v has %d bytes, and the sum is %d of about %d", of, got, sum, bound)
			}
		}
	})
}

// A full organisation is refused what grows, and may replace and remove; another one
// does not notice.
func TestFull(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	_, acme, rival := open(t)
	l := ledger.On(st).Bounded(func(of ledger.Tenant) int64 {
		if of == acme {
			return 2700
		}
		return 1 << 20
	})
	event := func(of ledger.Tenant, name string, size int) error {
		b := l.Batch()
		err := b.PutEvent(of, d1, &ledger.Event{Name: name, Payload: make([]byte, size), Time: noon})
		must(t, b.Commit(t.Context()))
		return err
	}
	diagnostic := func(of ledger.Tenant, id string) error {
		return l.AddDiagnostic(t.Context(), of, d1, ledger.DiagnosticLog, ledger.Diagnostic{ID: id, Message: string(make([]byte, 100)), Time: noon})
	}
	must(t, event(acme, "a", 1500))
	for _, err := range []error{event(acme, "b", 1500), event(acme, "a", 3000), diagnostic(acme, "x"), diagnostic(acme, "y")} {
		if !errors.Is(err, ledger.ErrFull) {
			t.Errorf("error %v", err)
		}
	}
	if all, err := l.Events(acme, d1, noon); err != nil || len(all) != 1 || len(all[0].Payload) != 1500 {
		t.Errorf("events = %d, %v", len(all), err)
	}
	must(t, event(rival, "a", 100_000))
	must(t, diagnostic(rival, "x"))
	must(t, event(acme, "a", 1500))
	must(t, event(acme, "a", 100))
	must(t, diagnostic(acme, "x"))
	if size, err := l.Size(acme); err != nil || size != noted(t, st, acme) {
		t.Errorf("size %d of %d, %v", size, noted(t, st, acme), err)
	}
}

// Several writers do not lose each other's sums.
func TestSumsOfSeveralWriters(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	_, acme, _ := open(t)
	l := ledger.On(st)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 40 {
				b := l.Batch()
				d := ledger.Device{Type: "sensor", ID: d1.ID, Incarnation: uint64(i + 1)}
				err := b.PutEvent(acme, d, &ledger.Event{Name: fmt.Sprint(n % 5), Payload: make([]byte, n), Time: noon})
				if err := errors.Join(err, b.Commit(t.Context()), l.AddDiagnostic(t.Context(), acme, d, ledger.ErrorCodes, ledger.Diagnostic{ID: fmt.Sprint(n), Time: noon})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if size, err := l.Size(acme); err != nil || size != noted(t, st, acme) {
		t.Errorf("size %d of %d, %v", size, noted(t, st, acme), err)
	}
}
