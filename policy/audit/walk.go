package audit

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// walkBatch is how many events one batch of a Walk has at most.
const walkBatch = 1000

// Walk hands over every event of a time, both ends included, in batches of events as
// JSON writes them; ParseEvent reads one. A nil tenant is all of them. Tenants come by
// name and their events the newest first. The slices are the callee's, and no read of
// the storage is open meanwhile. It ends early with the error of fn, or that of ctx.
func (st *Store) Walk(ctx context.Context, t *Tenant, since, until time.Time, fn func(events [][]byte) error) error {
	oldest, newest := max(unixNano(since, 0), st.o.Now().Add(-st.o.Age).UnixNano()), unixNano(until, maxTime)
	segments := st.segments(t, oldest, newest)
	slices.SortStableFunc(segments, func(a, b where) int { return cmp.Compare(a.tenant, b.tenant) })
	begin, end := "", position(time.Unix(0, oldest), 0)
	if newest < maxTime {
		begin = position(time.Unix(0, newest).Add(1), 0)
	}
	for _, w := range segments {
		for at, more := begin, true; more; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var batch [][]byte
			var err error
			if batch, at, more, err = st.batch(w, at, end); err != nil {
				return err
			}
			if len(batch) == 0 {
				continue
			}
			if err := fn(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// batch reads what one segment has between two positions, the first excluded, and
// says where it left off and whether there may be more.
func (st *Store) batch(w where, begin, end string) (batch [][]byte, at string, more bool, err error) {
	var after Key
	if at = begin; at != "" {
		after = Key{partEvent, w.tenant, w.segment, at}
	}
	err = st.storage.Scan(Key{partEvent, w.tenant, w.segment}, after, func(key Key, value []byte) bool {
		if key[3] > end {
			return false
		}
		if more = len(batch) == walkBatch; more {
			return false
		}
		at = key[3]
		batch = append(batch, slices.Clone(value))
		return true
	})
	return batch, at, more, err
}

func unixNano(t time.Time, otherwise int64) int64 {
	if t.IsZero() {
		return otherwise
	}
	return t.UnixNano()
}
