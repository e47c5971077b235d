package ledger

import (
	"context"
	"errors"
	"sync"

	"github.com/cordon-mq/cordon/broker/store"
)

// ErrFull says that the last events and diagnostics of an organisation have reached
// their bound. Nothing was written; what takes no more room than what it replaces
// still is.
var ErrFull = errors.New("no room for more last events and diagnostics of the organisation")

// DefaultRoom is the bound of an organisation's last events and diagnostics together
// where Bounded said nothing else, in bytes of keys and values.
const DefaultRoom = 1 << 30

// Bounded gives each organisation its own bound, and returns l. It is called before l
// is used, and room must be safe for concurrent use.
func (l *Ledger) Bounded(room func(Tenant) int64) *Ledger {
	l.room.bound = room
	return l
}

// room is what a Ledger knows of the sizes of organisations: a record of each has
// the sum, and is written together with what it counts.
type room struct {
	bound func(Tenant) int64 // nil: DefaultRoom
	// adding makes batches that change sums wait for each other.
	adding sync.Mutex
}

func (r *room) of(t Tenant) int64 {
	if r.bound == nil {
		return DefaultRoom
	}
	return r.bound(t)
}

func sizeKey(t Tenant) store.Key { return t.scope().Key(store.KindNoting, "size") }

// Size is how much room the last events and diagnostics of an organisation take.
func (l *Ledger) Size(t Tenant) (int64, error) { return sizeOf(l.store, t) }

// sizeOf reads the sum, or adds up what there is where nobody has yet.
func sizeOf(s store.Reader, t Tenant) (n int64, err error) {
	n, ok, err := read[int64](s, sizeKey(t))
	if ok || err != nil {
		return n, err
	}
	for _, kind := range []store.Kind{store.KindLastEvent, store.KindDiagnostic} {
		err := s.Scan(t.scope().Prefix(kind), store.Key{}, func(key store.Key, value []byte) bool {
			n += int64(store.Put(key, value).Size())
			return true
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// note adds a record that is counted, unless it grows what there is beyond the
// bound: then it is ErrFull, and the batch is as it was.
func (b *Batch) note(t Tenant, key store.Key, record any) error {
	value, err := encode(record)
	if err != nil {
		return err
	}
	op := store.Put(key, value)
	before, err := b.sizeAt(key)
	if err != nil {
		return err
	}
	more := int64(op.Size()) - before
	if more > 0 {
		so, err := sizeOf(b.store, t)
		if err != nil {
			return err
		}
		if so+b.grown[t]+more > b.room.of(t) {
			return ErrFull
		}
	}
	b.count(t, op, more)
	return nil
}

// drop removes a record that is counted.
func (b *Batch) drop(t Tenant, key store.Key) error {
	before, err := b.sizeAt(key)
	if err != nil {
		return err
	}
	b.count(t, store.Delete(key), -before)
	return nil
}

// dropAll removes all counted records under a prefix.
func (b *Batch) dropAll(t Tenant, under store.Prefix) error {
	var failure error
	err := b.store.Scan(under, store.Key{}, func(key store.Key, _ []byte) bool {
		failure = b.drop(t, key)
		return failure == nil
	})
	return errors.Join(err, failure)
}

// count adds op, of which n bytes more or less are expected.
func (b *Batch) count(t Tenant, op store.Op, n int64) {
	if b.grown == nil {
		b.grown, b.counted = map[Tenant]int64{}, map[store.Key]Tenant{}
	}
	b.grown[t] += n
	b.counted[op.Key()] = t
	b.add(op)
}

// sizeAt is the size of what is, or is about to be, under key.
func (b *Batch) sizeAt(key store.Key) (int64, error) {
	value, err := b.get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return int64(store.Put(key, value).Size()), err
}

// commitCounted writes ops with the sums that they change. What they replace is
// looked at again: another batch may have been there.
func (b *Batch) commitCounted(ctx context.Context, ops []store.Op, counted map[store.Key]Tenant) error {
	b.room.adding.Lock()
	defer b.room.adding.Unlock()
	sums := map[Tenant]int64{}
	for _, op := range ops {
		t, ok := counted[op.Key()]
		if !ok {
			continue
		}
		value, err := b.store.Get(op.Key())
		if err == nil {
			sums[t] -= int64(store.Put(op.Key(), value).Size())
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if !op.IsDelete() {
			sums[t] += int64(op.Size())
		}
	}
	for t, more := range sums {
		so, err := sizeOf(b.store, t)
		if err != nil {
			return err
		}
		value, err := encode(max(so+more, 0))
		if err != nil {
			return err
		}
		ops = append(ops, store.Put(sizeKey(t), value))
	}
	return store.CommitWait(ctx, b.store, ops...)
}
