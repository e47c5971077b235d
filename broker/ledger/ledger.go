package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Tenant is one incarnation of an organisation.
type Tenant struct {
	Org         policy.OrgID
	Incarnation uint64
}

func (t Tenant) scope() store.Scope { return store.In(t.Org.String(), t.Incarnation) }

// Device is one incarnation of a device.
type Device struct {
	Type, ID    policy.ID
	Incarnation uint64
}

func (d Device) parts(more ...string) []string {
	return append([]string{string(d.Type), string(d.ID), store.Uint64(d.Incarnation)}, more...)
}

// Ledger is the ledger of one store. It is safe for concurrent use.
type Ledger struct {
	store store.Store
	// diagnosing makes writers of diagnostics wait for each other.
	diagnosing sync.Mutex
	recent     recent
	room       room
}

// On returns the ledger on st, which stays the caller's.
func On(st store.Store) *Ledger { return &Ledger{store: st} }

// Batch is one write under way. One goroutine uses it.
type Batch struct {
	store   store.Store
	recent  *recent
	pages   map[store.Key]page // newest ones of logs
	ops     []store.Op
	bytes   int // of ops, at most
	pending map[store.Key]int
	room    *room
	grown   map[Tenant]int64     // by how many bytes, of what is counted
	counted map[store.Key]Tenant // whose those records are
}

// Batch begins a write.
func (l *Ledger) Batch() *Batch {
	return &Batch{store: l.store, recent: &l.recent, pending: map[store.Key]int{}, room: &l.room}
}

// Full reports whether the batch should be committed before more is added.
func (b *Batch) Full() bool { return len(b.ops) >= 1024 || b.bytes >= store.MaxBatchBytes/2 }

// Commit writes the batch and waits until it is stored. The batch is empty then.
func (b *Batch) Commit(ctx context.Context) error {
	if len(b.ops) == 0 {
		return nil
	}
	ops, counted := b.ops, b.counted
	b.ops, b.bytes = nil, 0
	b.grown, b.counted = nil, nil
	clear(b.pending)
	var err error
	if len(counted) > 0 {
		err = b.commitCounted(ctx, ops, counted)
	} else {
		err = store.CommitWait(ctx, b.store, ops...)
	}
	b.recent.put(b.pages, err == nil)
	clear(b.pages)
	return err
}

func (b *Batch) add(op store.Op) {
	b.bytes += op.Size()
	if i, ok := b.pending[op.Key()]; ok {
		b.ops[i] = op
		return
	}
	b.pending[op.Key()] = len(b.ops)
	b.ops = append(b.ops, op)
}

func (b *Batch) get(key store.Key) ([]byte, error) {
	if i, ok := b.pending[key]; ok {
		if b.ops[i].IsDelete() {
			return nil, store.ErrNotFound
		}
		return b.ops[i].Value(), nil
	}
	return b.store.Get(key)
}

// A value is a format byte and what it says: a JSON text, or the layout of a type
// that has one of its own.
const (
	formatJSON = 1
	formatOwn  = 2
)

// own is a record with a layout of its own.
type own interface {
	appendTo(b []byte) []byte
	parse(value []byte) error
}

func encode(record any) ([]byte, error) {
	if o, ok := record.(own); ok {
		return o.appendTo(make([]byte, 0, 256)), nil
	}
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append([]byte{formatJSON}, text...), nil
}

// errDamaged is a value that nobody here wrote.
var errDamaged = errors.New("record is damaged")

func decode[T any](value []byte) (record T, err error) {
	if o, ok := any(&record).(own); ok && len(value) > 0 && value[0] == formatOwn {
		err := o.parse(value)
		return record, err
	}
	if len(value) == 0 || value[0] != formatJSON {
		return record, errDamaged
	}
	if err := json.Unmarshal(value[1:], &record); err != nil {
		return record, errDamaged
	}
	return record, nil
}

func (b *Batch) put(key store.Key, record any) error {
	value, err := encode(record)
	if err == nil {
		b.add(store.Put(key, value))
	}
	return err
}

// getter is a store, or a batch.
type getter interface {
	Get(store.Key) ([]byte, error)
}

// read returns the record under key; ok is false where there is none, or it
// cannot be read.
func read[T any](s getter, key store.Key) (record T, ok bool, err error) {
	value, err := s.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return record, false, nil
	case err != nil:
		return record, false, err
	}
	record, err = decode[T](value)
	return record, err == nil, nil
}

// Get lets read look into the batch.
func (b *Batch) Get(key store.Key) ([]byte, error) { return b.get(key) }
