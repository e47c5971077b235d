package storetest

import (
	"sync"

	"github.com/cordon-mq/cordon/broker/store"
)

// Faulty is a store that misbehaves on request and otherwise does as the store
// it wraps. The contract of package store holds throughout: callbacks stay in
// order, run once and run on the committer's goroutine, failed ones included.
type Faulty struct {
	inner store.Store

	faults struct {
		sync.Mutex
		refuse  error // commits fail and are not written
		disavow error // commits are written and reported as failed
		reads   error
		holding bool
		held    []heldCall
		syncs   int
	}
}

type heldCall struct {
	sync bool
	ops  []store.Op
	done func(error)
}

var _ store.Store = (*Faulty)(nil)

// NewFaulty wraps s, which Close of the Faulty closes.
func NewFaulty(s store.Store) *Faulty { return &Faulty{inner: s} }

// FailCommits makes every later commit fail with err, unwritten, until it is
// called with nil.
func (f *Faulty) FailCommits(err error) {
	f.faults.Lock()
	defer f.faults.Unlock()
	f.faults.refuse = err
}

// FailAnswers makes every later commit be written and yet reported to have
// failed with err, as after a sync that failed, until it is called with nil.
func (f *Faulty) FailAnswers(err error) {
	f.faults.Lock()
	defer f.faults.Unlock()
	f.faults.disavow = err
}

// FailReads makes every later Get and Scan fail with err, until it is called
// with nil.
func (f *Faulty) FailReads(err error) {
	f.faults.Lock()
	defer f.faults.Unlock()
	f.faults.reads = err
}

// Hold keeps every later commit waiting, neither written nor answered, until
// Release or Close.
func (f *Faulty) Hold() {
	f.faults.Lock()
	defer f.faults.Unlock()
	f.faults.holding = true
}

// Held returns the number of commits that wait for Release.
func (f *Faulty) Held() int {
	f.faults.Lock()
	defer f.faults.Unlock()
	return len(f.faults.held)
}

// Release passes the held commits on in order and ends Hold. It returns when
// they are passed on, which may be before they are answered.
func (f *Faulty) Release() {
	for {
		f.faults.Lock()
		held := f.faults.held
		f.faults.held = nil
		if len(held) == 0 {
			f.faults.holding = false
		}
		f.faults.Unlock()
		if len(held) == 0 {
			return
		}
		// Commits that arrive meanwhile are still held, and so keep their place.
		for _, call := range held {
			f.pass(call)
		}
	}
}

// Drop forgets the held commits, whose callbacks never run, and ends Hold: what
// a crash leaves behind.
func (f *Faulty) Drop() {
	f.faults.Lock()
	defer f.faults.Unlock()
	f.faults.held = nil
	f.faults.holding = false
}

// Syncs returns how often CommitSync was called.
func (f *Faulty) Syncs() int {
	f.faults.Lock()
	defer f.faults.Unlock()
	return f.faults.syncs
}

// Get implements store.Reader.
func (f *Faulty) Get(key store.Key) ([]byte, error) {
	if err := f.readFault(); err != nil {
		return nil, err
	}
	return f.inner.Get(key)
}

// Scan implements store.Reader.
func (f *Faulty) Scan(prefix store.Prefix, after store.Key, fn func(key store.Key, value []byte) bool) error {
	if err := f.readFault(); err != nil {
		return err
	}
	return f.inner.Scan(prefix, after, fn)
}

// Commit implements store.Writer.
func (f *Faulty) Commit(ops []store.Op, done func(error)) {
	f.submit(heldCall{ops: ops, done: done})
}

// CommitSync implements store.Writer.
func (f *Faulty) CommitSync(ops []store.Op, done func(error)) {
	f.submit(heldCall{sync: true, ops: ops, done: done})
}

// Close releases what is held and closes the wrapped store.
func (f *Faulty) Close() error {
	f.Release()
	return f.inner.Close()
}

func (f *Faulty) readFault() error {
	f.faults.Lock()
	defer f.faults.Unlock()
	return f.faults.reads
}

func (f *Faulty) submit(call heldCall) {
	f.faults.Lock()
	if call.sync {
		f.faults.syncs++
	}
	holding := f.faults.holding
	if holding {
		f.faults.held = append(f.faults.held, call)
	}
	f.faults.Unlock()
	if !holding {
		f.pass(call)
	}
}

// pass hands a call to the wrapped store, with the fault that is due now. A
// refused call goes there too, without its operations, to be answered in its
// turn.
func (f *Faulty) pass(call heldCall) {
	f.faults.Lock()
	refuse, disavow := f.faults.refuse, f.faults.disavow
	f.faults.Unlock()

	done := func(err error) {
		switch {
		case call.done == nil:
		case err != nil:
			call.done(err)
		case refuse != nil:
			call.done(refuse)
		default:
			call.done(disavow)
		}
	}
	switch {
	case refuse != nil:
		f.inner.Commit(nil, done)
	case call.sync:
		f.inner.CommitSync(call.ops, done)
	default:
		f.inner.Commit(call.ops, done)
	}
}
