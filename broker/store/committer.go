package store

import (
	"fmt"
	"sync"
	"time"
)

// The committer turns calls into transactions.
//
// Problem: storage engines write one transaction, and pay one sync, at a time,
// while many sessions commit at once and each waits for its answer.
//
// Invariants: calls are written and answered in the order of the queue; a call
// is never split over two transactions; queue.bytes is the size of the calls
// that were accepted and not yet written.
//
// Outline: Commit appends to the queue. One goroutine takes the whole queue,
// writes it in as few transactions as the limits allow, and answers each
// transaction's calls before it writes the next.
//
// Rejected: waiting a moment for company. It delays a lone publisher and gains
// nothing under load, where the queue fills while a transaction is written.

// callOverhead is what a call costs in the queue beside its operations, so that
// calls without any are bounded too.
const callOverhead = 64

// keepCalls is the length of queue whose memory is used again.
const keepCalls = 4096

// call is one Commit or CommitSync.
type call struct {
	ops  []Op
	size int // of the operations, and callOverhead
	sync bool
	err  error // refused before it was queued; answered in its turn
	done func(error)
}

type committer struct {
	engine     Engine
	alwaysSync bool
	maxPending int
	committed  func(took time.Duration, err error) // nil: nobody asks

	queue struct {
		sync.Mutex
		calls     []call
		bytes     int
		answering bool // callbacks are running
		closed    bool
		arrived   sync.Cond // calls grew, or closed was set
		room      sync.Cond // bytes fell, or closed was set
	}
	stopped chan struct{} // closed when run has returned

	// Of run's goroutine alone.
	taken  []call // what take returned last, used again for the queue
	ops    []Op   // of the transaction being written
	failed error  // of the sync after which nothing can be promised
}

// newCommitter starts a committer. It runs until stop.
func newCommitter(engine Engine, alwaysSync bool, maxPending int, committed func(time.Duration, error)) *committer {
	c := &committer{
		engine:     engine,
		alwaysSync: alwaysSync,
		maxPending: maxPending,
		committed:  committed,
		stopped:    make(chan struct{}),
	}
	c.queue.arrived.L = &c.queue
	c.queue.room.L = &c.queue
	go c.run()
	return c
}

func (c *committer) Commit(ops []Op, done func(error)) { c.submit(newCall(ops, false, done)) }

func (c *committer) CommitSync(ops []Op, done func(error)) { c.submit(newCall(ops, true, done)) }

// newCall measures and checks a call. A refused one keeps its place in the
// queue, but none of its operations.
func newCall(ops []Op, sync bool, done func(error)) call {
	size := 0
	for _, op := range ops {
		switch {
		case op.key.IsZero():
			return refusedCall(ErrInvalidKey, done)
		case len(op.value) > MaxValue:
			return refusedCall(fmt.Errorf("%w: a value of %d bytes, at most %d", ErrTooLarge, len(op.value), MaxValue), done)
		}
		size += op.Size()
	}
	if len(ops) > MaxBatchOps || size > MaxBatchBytes {
		return refusedCall(fmt.Errorf("%w: %d operations and %d bytes, at most %d and %d",
			ErrTooLarge, len(ops), size, MaxBatchOps, MaxBatchBytes), done)
	}
	return call{ops: ops, size: size + callOverhead, sync: sync, done: done}
}

func refusedCall(err error, done func(error)) call {
	return call{size: callOverhead, err: err, done: done}
}

// submit queues a call as soon as there is room.
func (c *committer) submit(next call) {
	if !c.enqueue(next) && next.done != nil {
		next.done(ErrClosed)
	}
}

// enqueue reports whether the call was accepted.
func (c *committer) enqueue(next call) bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	// A callback that commits must not wait for room, since only the return of
	// that callback can make some. So the bound is soft while callbacks run.
	for !c.queue.answering && !c.queue.closed &&
		c.queue.bytes > 0 && c.queue.bytes+next.size > c.maxPending {
		c.queue.room.Wait()
	}
	if c.queue.closed {
		return false
	}
	c.queue.calls = append(c.queue.calls, next)
	c.queue.bytes += next.size
	c.queue.arrived.Signal()
	return true
}

// Pending is how many bytes of accepted calls are not written yet.
func (c *committer) Pending() int {
	c.queue.Lock()
	defer c.queue.Unlock()
	return c.queue.bytes
}

// stop refuses further calls and returns when the accepted ones are answered.
func (c *committer) stop() {
	c.queue.Lock()
	c.queue.closed = true
	c.queue.arrived.Signal()
	c.queue.room.Broadcast()
	c.queue.Unlock()
	<-c.stopped
}

func (c *committer) run() {
	defer close(c.stopped)
	for {
		calls := c.take()
		if len(calls) == 0 {
			return
		}
		for len(calls) > 0 {
			n, size := fit(calls)
			err := c.write(calls[:n])
			c.answer(calls[:n], size, err)
			calls = calls[n:]
		}
	}
}

// take waits for calls and returns all of them, or none after stop.
func (c *committer) take() []call {
	c.queue.Lock()
	defer c.queue.Unlock()
	for len(c.queue.calls) == 0 && !c.queue.closed {
		c.queue.arrived.Wait()
	}
	if cap(c.taken) > keepCalls {
		c.taken = nil
	}
	c.taken, c.queue.calls = c.queue.calls, c.taken[:0]
	return c.taken
}

// fit returns how many of the leading calls one transaction can hold, at least
// one, and their size.
func fit(calls []call) (n, size int) {
	ops, opBytes := 0, 0
	for _, next := range calls {
		ops += len(next.ops)
		opBytes += next.size - callOverhead
		if n > 0 && (ops > MaxBatchOps || opBytes > MaxBatchBytes) {
			break
		}
		size += next.size
		n++
	}
	return n, size
}

// write makes one transaction of the calls and syncs it if anybody asked.
func (c *committer) write(calls []call) (err error) {
	sync := false
	ops := c.ops[:0]
	for _, next := range calls {
		ops = append(ops, next.ops...)
		sync = sync || next.sync || c.alwaysSync && len(next.ops) > 0
	}
	c.ops = ops
	defer clear(ops) // let go of the values

	if len(ops) == 0 && !sync {
		return nil
	}
	if c.committed != nil {
		began := time.Now()
		defer func() { c.committed(time.Since(began), err) }()
	}
	if c.failed != nil {
		return c.failed
	}
	if len(ops) > 0 {
		if err := c.engine.Apply(ops); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	if sync {
		if err := c.engine.Sync(); err != nil {
			c.failed = fmt.Errorf("%w: sync: %w", ErrFailed, err)
			return c.failed
		}
	}
	return nil
}

// answer gives the room of the calls back and calls them back in order.
func (c *committer) answer(calls []call, size int, err error) {
	c.queue.Lock()
	c.queue.bytes -= size
	c.queue.answering = true
	c.queue.room.Broadcast()
	c.queue.Unlock()

	for _, answered := range calls {
		switch {
		case answered.done == nil:
		case answered.err != nil:
			answered.done(answered.err)
		default:
			answered.done(err)
		}
	}
	clear(calls) // let go of the callbacks

	c.queue.Lock()
	c.queue.answering = false
	c.queue.Unlock()
}
