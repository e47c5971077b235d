package registry

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// counter holds the number of the last write.
type counter struct {
	Last uint64 `json:"last"`
}

// weight says what a write must survive before its call returns.
type weight bool

const (
	creation weight = false // what the store's durability mode promises
	removal  weight = true  // power loss: what was taken away must not come back
)

// writing is one write in the making. It is used under the writer's lock.
type writing struct {
	registry *Registry
	now      time.Time // UTC, whole milliseconds
	stamp    uint64    // the number of this write
	reserved uint64    // one that nothing else has, if the write took two
	ops      []store.Op
	size     int // of ops
	changes  []Change
	// pending finds the last operation on a key. Only bulk calls have it: theirs is
	// the only write whose later parts depend on earlier ones.
	pending map[store.Key]int
	// regrouped are changes of groups, each once: they are told after all others.
	regrouped []Change
	// members counts the devices of groups that more are put into.
	members map[GroupRef]int
	gone    []store.Prefix // what nothing leads to any more after the commit
}

// write runs fill and commits what it gathered, as one step, then tells the
// watchers. The lock is held throughout, so that changes are told in the order
// of their commits; administration is rare. Once handed to the store, a write
// is waited for whatever ctx says: its outcome is never unknown.
func (r *Registry) write(ctx context.Context, op string, kind weight, fill func(*writing) error) error {
	r.writer.Lock()
	defer r.writer.Unlock()
	if r.writer.closed {
		return at(op, &policy.Error{Kind: policy.KindUnavailable, Public: "shutting down"})
	}
	if ctx.Err() != nil {
		return at(op, &policy.Error{Kind: policy.KindUnavailable, Err: context.Cause(ctx)})
	}
	w := &writing{registry: r, now: r.moment(), stamp: r.writer.last + 1}
	if err := fill(w); err != nil {
		return at(op, err)
	}
	if err := save(w, counterKey(), counter{Last: w.stamp}); err != nil {
		return at(op, err)
	}
	r.writer.last = w.stamp // a failed write's number is not used again
	commit := store.CommitWait
	if kind == removal {
		commit = store.CommitSyncWait
	}
	err := commit(context.WithoutCancel(ctx), r.store, w.ops...)
	r.cache.forget(w.ops)
	r.trusts.forget(w.ops)
	if err == nil || r.visible(w) {
		r.watchers.tell(append(w.changes, w.regrouped...))
		r.sweep(w.gone)
	}
	return at(op, err)
}

// sweep frees the space of what nothing leads to any more. What a crash keeps it from
// goes with the organisation.
func (r *Registry) sweep(gone []store.Prefix) {
	if len(gone) == 0 {
		return
	}
	r.background.Go(func() {
		for _, prefix := range gone {
			if err := store.DeletePrefix(r.ctx, r.store, prefix); err != nil && r.ctx.Err() == nil {
				r.log.Error("remove index of deleted group", "error", err)
			}
		}
	})
}

// visible reports whether a write whose commit failed takes effect all the
// same: written, but not known to be on disk. Readers act on it, so the
// watchers must.
func (r *Registry) visible(w *writing) bool {
	last, err := load[counter](r.store, counterKey())
	return err == nil && last.Record.Last == w.stamp
}

// reserve takes two numbers for this write. The first is for proofs that were
// replaced before they came here.
func (w *writing) reserve() {
	w.reserved = w.stamp
	w.stamp++
}

// moment is now as records keep it.
func (r *Registry) moment() time.Time { return r.now().UTC().Truncate(time.Millisecond) }

// put stores record under this write's stamp and returns it as a reader will
// see it, sharing nothing with the caller.
func put[T any](w *writing, key store.Key, record T) (T, error) {
	value, err := encode(stamped[T]{w.stamp, record})
	if err != nil {
		return record, err
	}
	back, err := decode[T](value)
	if err != nil {
		return record, err
	}
	w.add(store.Put(key, value))
	return back.Record, nil
}

// save is put where nobody wants to see what was stored.
func save[T any](w *writing, key store.Key, record T) error {
	value, err := encode(stamped[T]{w.stamp, record})
	if err != nil {
		return err
	}
	w.add(store.Put(key, value))
	return nil
}

func (w *writing) delete(key store.Key) { w.add(store.Delete(key)) }

// absent refuses with policy.KindExists if key is stored.
func (w *writing) absent(key store.Key, what string) error {
	_, err := w.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	default:
		return &policy.Error{Kind: policy.KindExists, Public: "this " + what + " exists already"}
	}
}

// tell gathers a change for the watchers.
func (w *writing) tell(change Change) { w.changes = append(w.changes, change) }

// missing turns store.ErrNotFound into policy.KindNotFound.
func missing(err error, what string) error {
	if errors.Is(err, store.ErrNotFound) {
		return &policy.Error{Kind: policy.KindNotFound, Public: "no such " + what}
	}
	return err
}

func invalid(field, rule string) error {
	return &policy.Error{Kind: policy.KindInvalid, Field: field, Public: rule}
}

// at makes err a boundary error that says what was being done. An edit's own
// error, of whatever type, stays reachable through errors.Is.
func at(op string, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*policy.Error](err); ok {
		if known.Op != "" {
			return err
		}
		named := *known
		named.Op = op
		return &named
	}
	kind := policy.KindInternal
	if errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		kind = policy.KindUnavailable
	}
	return &policy.Error{Kind: kind, Op: op, Err: err}
}
