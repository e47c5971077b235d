package store

import (
	"context"
	"errors"
	"io"
)

// Sentinels that callers act on. Errors returned by a store wrap them.
var (
	// ErrNotFound says that no such key is stored.
	ErrNotFound = errors.New("store: not found")
	// ErrClosed says that the store was closed, or is closing.
	ErrClosed = errors.New("store: closed")
	// ErrSchema says that the stored data is not of this program's schema.
	ErrSchema = errors.New("store: schema not understood")
	// ErrLocked says that another process, or another store of this one, has
	// the data open.
	ErrLocked = errors.New("store: already in use")
	// ErrTooLarge says that one call exceeds MaxBatchOps or MaxBatchBytes, or
	// one value MaxValue. Nothing of the call was written.
	ErrTooLarge = errors.New("store: too large for one commit")
	// ErrInvalidKey says that a key or prefix was never properly built: its
	// scope was incomplete, or it or one of its parts is too long.
	ErrInvalidKey = errors.New("store: invalid key")
	// ErrFailed says that an earlier sync failed, so that nothing can be
	// promised any more until the store is opened again.
	ErrFailed = errors.New("store: storage failed")
)

// Limits of one call, the same for every backend, so that what passes in
// memory passes on disk.
const (
	// MaxBatchOps is the largest number of operations in one call, and in one
	// transaction of the committer.
	MaxBatchOps = 16384
	// MaxBatchBytes is the largest sum of Op.Size in one call, and in one
	// transaction of the committer.
	MaxBatchBytes = 2 << 20
	// MaxValue is the largest value, in bytes.
	MaxValue = 1<<20 - 1
)

// Reader reads committed data. Its methods may be called from any goroutine,
// callbacks of Commit and of Scan included.
type Reader interface {
	// Get returns the value of key; the caller owns it. It returns
	// ErrNotFound, ErrInvalidKey or ErrClosed, or what the storage reports.
	Get(key Key) ([]byte, error)

	// Scan calls fn for each key under prefix that sorts after `after`, in
	// ascending order, until fn returns false. The zero after starts at the
	// beginning; the last key seen resumes a scan. The value is valid only
	// until fn returns and must not be changed. Scan sees the store as it was
	// when it began; fn may read and write the store.
	Scan(prefix Prefix, after Key, fn func(key Key, value []byte) bool) error
}

// Writer commits operations in order.
type Writer interface {
	// Commit writes ops as one atomic step and then calls done (which may be
	// nil) with the outcome, exactly once, from the committer's goroutine.
	// Of two operations on one key the later wins. No ops at all is a valid
	// call: its done runs after those of all earlier calls.
	//
	// The store owns ops and the values in them until done runs; the caller
	// must not change them before.
	//
	// Commit does not wait for the write, but blocks while more than
	// Options.PendingBytes are pending. done must return soon, because no other
	// commit is answered meanwhile. It may call Commit and CommitSync, which
	// then do not block, but must not wait for an answer, nor call Close.
	//
	// A call made after Close began is answered with ErrClosed by the
	// calling goroutine, before Commit returns.
	Commit(ops []Op, done func(error))

	// CommitSync is Commit whose done runs only when ops, and everything
	// accepted before them, are on disk, whatever the durability mode.
	CommitSync(ops []Op, done func(error))
}

// Store is an ordered key-value store with one committer. See the package
// comment for what it promises.
type Store interface {
	Reader
	Writer
	// Close refuses new calls, finishes accepted ones, calls them back, waits
	// for running reads and closes the storage. Later calls of Close wait for
	// the first and return its error.
	io.Closer
}

// opOverhead is what an operation costs beside its key and value, rounded up
// from what the backends keep per entry.
const opOverhead = 32

// Op is one write of a commit. Make it with Put or Delete.
type Op struct {
	key    Key
	value  []byte
	delete bool
}

// Put stores value under key and replaces what was there. A nil value is
// stored as an empty one. The value belongs to the store until the commit has
// been answered.
func Put(key Key, value []byte) Op { return Op{key: key, value: value} }

// Delete removes key. Removing what is not there is not an error.
func Delete(key Key) Op { return Op{key: key, delete: true} }

// Key returns the key that is written.
func (o Op) Key() Key { return o.key }

// Value returns what a put stores; it still belongs to the operation.
func (o Op) Value() []byte { return o.value }

// IsDelete reports whether the operation removes its key.
func (o Op) IsDelete() bool { return o.delete }

// Size is what the operation counts towards MaxBatchBytes and
// Options.PendingBytes, in bytes.
func (o Op) Size() int { return len(o.key.raw) + len(o.value) + opOverhead }

// CommitWait commits ops and waits for the outcome. If ctx ends first it
// returns the cause, and the outcome is unknown: the write may still happen.
// It must not be called from a callback of Commit.
func CommitWait(ctx context.Context, w Writer, ops ...Op) error {
	return wait(ctx, w.Commit, ops)
}

// CommitSyncWait is CommitWait by way of CommitSync: when it returns nil, ops
// are on disk.
func CommitSyncWait(ctx context.Context, w Writer, ops ...Op) error {
	return wait(ctx, w.CommitSync, ops)
}

func wait(ctx context.Context, commit func([]Op, func(error)), ops []Op) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	answer := make(chan error, 1)
	commit(ops, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// deleteStep is the number of keys that DeletePrefix removes in one commit.
const deleteStep = 1024

// DeletePrefix removes every key under prefix, in steps; it is not atomic. It is
// meant for data that nothing leads to any more: delete the record that names
// the incarnation first, stop its writers, then call this to free the space.
// Interrupted by ctx, an error or a crash, it may be repeated. The keys
// of the global scope cannot be removed this way.
func DeletePrefix(ctx context.Context, s Store, prefix Prefix) error {
	if !prefix.valid() || prefix.global() {
		return ErrInvalidKey
	}
	var after Key
	for {
		ops := make([]Op, 0, deleteStep)
		size := 0
		err := s.Scan(prefix, after, func(key Key, _ []byte) bool {
			op := Delete(key)
			if size += op.Size(); size > MaxBatchBytes {
				return false
			}
			ops, after = append(ops, op), key
			return len(ops) < deleteStep
		})
		if err != nil {
			return err
		}
		if len(ops) == 0 {
			return nil
		}
		if err := CommitWait(ctx, s, ops...); err != nil {
			return err
		}
	}
}
