package broker

import (
	"sync/atomic"
	"testing"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

func spaceOf(t *testing.T) durable.Space {
	t.Helper()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	return durable.In(org, 1)
}

// However many messages go through a queue, it has the same few keys: an
// ordered store keeps traces of every key that was ever deleted.
func TestKeysOfAQueueAreFew(t *testing.T) {
	t.Parallel()
	o := outgoing{total: new(atomic.Int64), budget: &budget{}}
	space := spaceOf(t)
	keys := map[store.Key]struct{}{}
	for i := range 200_000 {
		e := &entry{}
		o.number(e)
		o.send(e, nil)
		keys[space.Entry(1, e.id())] = struct{}{}
		if i >= 10 {
			o.remove(o.inflight[0])
		}
	}
	if len(keys) != durable.Slots {
		t.Errorf("%d keys, want %d", len(keys), durable.Slots)
	}
}

// split loses nothing, keeps to the limits of the store, and puts messages into
// the part that completes the others.
func TestSplit(t *testing.T) {
	t.Parallel()
	space := spaceOf(t)
	entries := func(n, size int) (ops []store.Op) {
		for i := range n {
			ops = append(ops, store.Put(space.Entry(uint64(i), 1), make([]byte, size)))
		}
		return ops
	}
	body := store.Put(space.Message(1), make([]byte, store.MaxValue))
	tests := map[string]struct {
		ops   []store.Op
		parts int
	}{
		"nothing":         {nil, 1},
		"as much as fits": {entries(store.MaxBatchOps, 1), 1},
		"one more":        {entries(store.MaxBatchOps+1, 1), 2},
		"many":            {append([]store.Op{body}, entries(3*store.MaxBatchOps, 1)...), 4},
		"bytes":           {append([]store.Op{body}, entries(20, 200_000)...), 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts := split(tt.ops)
			left := map[store.Key]int{}
			for _, op := range tt.ops {
				left[op.Key()]++
			}
			for i, part := range parts {
				size := 0
				for _, op := range part {
					size += op.Size()
					left[op.Key()]--
					if op.Key().Kind() == store.KindMessage && i != len(parts)-1 {
						t.Errorf("a message is in part %d of %d", i+1, len(parts))
					}
				}
				if len(part) > store.MaxBatchOps || size > store.MaxBatchBytes {
					t.Errorf("part %d has %d operations and %d bytes", i+1, len(part), size)
				}
			}
			for key, n := range left {
				if n != 0 {
					t.Fatalf("%s is written %d times too few", key, n)
				}
			}
			if len(parts) != tt.parts {
				t.Errorf("%d parts, want %d", len(parts), tt.parts)
			}
		})
	}
}
