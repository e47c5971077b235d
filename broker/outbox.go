package broker

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// outbox collects encoded packets for one connection. Whoever delivers only
// copies into memory; a flusher goroutine swaps the buffer and writes it, so
// nobody ever waits for a reader that stopped, and packets that arrive while a
// write is on its way leave together in the next one. There is a flusher only
// while there is something to do: an idle connection has none.
type outbox struct {
	budget *budget
	sent   *atomic.Uint64 // bytes, for metrics
	own    *atomic.Uint64 // of this outbox alone; nil: nobody asks
	stall  time.Duration  // how long a write may make no progress
	drain  func()         // sends what the session owes; see wakeToDrain
	finish func(error)    // called once, when the last flusher has ended

	guarded struct {
		sync.Mutex
		full     [][]byte // chunks that are written first: a backlog never moves in memory
		behind   int      // bytes in full
		buf      []byte
		spare    []byte
		grew     bool   // what was written last did not fit an idle connection's buffer
		counted  int    // bytes that the budget knows of
		writing  int    // bytes taken by the flusher and not yet written
		held     bool   // what is here waits for the store
		due      bool   // the session may send more
		flushing bool   // a flusher is at work, or about to be
		via      *conn  // flushes it before it reads on; nil: nobody but a flusher
		rest     []byte // what a direct write left over
		ended    bool   // nothing more is accepted; what is here is still written
	}
	to      deadliner
	direct  *direct      // nil: there is none
	start   func(func()) // runs a flusher
	written sync.Cond    // a write is done
}

// keepIdle is the largest buffer, in bytes, that an outbox keeps for itself.
const keepIdle = 4 << 10

// chunk is how many bytes a buffer takes before another is begun, and how many
// wait in an outbox that takes only what is urgent. It bounds one write, so that
// the deadline measures progress and not the length of the backlog.
const chunk = 64 << 10

// backlog is how many bytes may wait for a reader that is behind before QoS 0
// messages to it are dropped, and before it is not read from: megabytes more
// would not save one that has stopped, and there may be many.
const backlog = 1 << 20

// deadliner is the part of net.Conn a flusher needs.
type deadliner interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// newOutbox makes an outbox that writes to c, by flushers that start runs. Each
// may call drain; the last one calls finish, with the error that ended it.
func newOutbox(c net.Conn, stall time.Duration, b *budget, sent *atomic.Uint64, start func(func()), drain func(), finish func(error)) *outbox {
	o := &outbox{to: c, direct: newDirect(c), stall: stall, budget: b, sent: sent, start: start, drain: drain, finish: finish}
	o.written.L = &o.guarded.Mutex
	return o
}

// begin locks the outbox and returns its buffer to append to; the caller gives
// it back with commit. It answers false, unlocked, once the outbox has ended or
// when more than limit bytes wait already; limit 0 is none. Where memory is
// short for all connections together, less than limit may wait.
func (o *outbox) begin(limit int) ([]byte, bool) {
	o.guarded.Lock()
	if o.guarded.ended || limit > 0 && o.overLocked(limit) {
		o.guarded.Unlock()
		return nil, false
	}
	if o.guarded.grew && cap(o.guarded.buf) == 0 {
		o.guarded.buf = o.budget.buffers.take()
	}
	return o.guarded.buf, true
}

// waitingLocked is how many bytes are not written yet.
func (o *outbox) waitingLocked() int {
	return o.guarded.behind + len(o.guarded.buf) + o.guarded.writing
}

// commit takes the buffer back, unlocks, and sees that it is written: by via,
// the connection whose own goroutine this is, before it reads on, or else, and
// where via is nil, by a flusher.
func (o *outbox) commit(buf []byte, via *conn) {
	g := &o.guarded
	g.buf = buf
	if len(buf) >= chunk {
		g.full, g.behind, g.buf = append(g.full, buf), g.behind+len(buf), o.budget.buffers.take()
	}
	o.countLocked()
	if via != nil && o.direct != nil && !g.flushing && !g.held && g.behind == 0 {
		known := g.via == via
		g.via = via
		g.Unlock()
		if !known {
			via.touched = append(via.touched, o)
		}
		return
	}
	start := len(buf) > 0 && o.startLocked()
	g.Unlock()
	if start {
		o.start(o.flush)
	}
}

// flushDirect writes what is here without waiting. What the socket does not take
// is left to a flusher.
func (o *outbox) flushDirect() {
	g := &o.guarded
	g.Lock()
	g.via = nil
	if g.flushing || g.held || len(g.buf) == 0 || g.behind > 0 {
		g.Unlock()
		return
	}
	full := g.buf
	g.buf, g.spare, g.flushing, g.writing = g.spare[:0], nil, true, len(full)
	g.Unlock()

	n := o.direct.write(full)
	o.carried(n)

	g.Lock()
	g.writing = 0
	if n < len(full) {
		g.rest, g.writing = full[n:], len(full)-n
	} else {
		o.keepLocked(full)
	}
	more := n < len(full) || g.behind+len(g.buf) > 0 || g.due || g.ended
	g.flushing = more
	o.countLocked()
	g.Unlock()
	o.written.Broadcast()
	if more {
		o.start(o.flush)
	}
}

// carried counts n bytes that were written.
func (o *outbox) carried(n int) {
	o.sent.Add(uint64(n))
	if o.own != nil {
		o.own.Add(uint64(n))
	}
}

// countLocked tells the budget how much memory is used now.
func (o *outbox) countLocked() {
	used := cap(o.guarded.buf) + cap(o.guarded.spare) + o.guarded.behind + o.guarded.writing
	if used != o.guarded.counted {
		o.budget.add(used - o.guarded.counted)
		o.guarded.counted = used
	}
}

// startLocked reports whether the caller has to start a flusher.
func (o *outbox) startLocked() bool {
	if o.guarded.flushing || o.guarded.held && !o.guarded.ended {
		return false
	}
	o.guarded.flushing = true
	return true
}

// hold keeps everything back until release, or the end.
func (o *outbox) hold() {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	o.guarded.held = true
}

// release lets what was held be written.
func (o *outbox) release() {
	o.guarded.Lock()
	o.guarded.held = false
	start := (o.guarded.behind+len(o.guarded.buf) > 0 || o.guarded.due) && o.startLocked()
	o.guarded.Unlock()
	if start {
		o.start(o.flush)
	}
}

// replace puts buf in the place of everything that was held.
func (o *outbox) replace(buf []byte) {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	if !o.guarded.ended {
		o.guarded.full, o.guarded.behind, o.guarded.buf = nil, 0, append(o.guarded.buf[:0], buf...)
		o.countLocked()
	}
}

// wakeToDrain has the flusher call drain before it writes: for who has
// something for the session and may not take the time to send it.
func (o *outbox) wakeToDrain() {
	o.guarded.Lock()
	o.guarded.due = true
	start := !o.guarded.ended && o.startLocked()
	o.guarded.Unlock()
	if start {
		o.start(o.flush)
	}
}

// busy reports whether so much is to be written that what can wait should.
func (o *outbox) busy() bool {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	return o.guarded.behind > 0
}

// end stops accepting. What is here is written, and then finish is called.
func (o *outbox) end() {
	o.guarded.Lock()
	start := false
	if !o.guarded.ended {
		o.guarded.ended, o.guarded.due = true, false
		if o.guarded.held { // what it waited for did not happen
			o.guarded.full, o.guarded.behind, o.guarded.buf = nil, 0, nil
		}
		start = o.startLocked()
	}
	o.guarded.Unlock()
	o.written.Broadcast()
	if start {
		o.start(o.flush)
	}
}

// over reports whether more than limit bytes wait to be written.
func (o *outbox) over(limit int) bool {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	return o.overLocked(limit)
}

func (o *outbox) overLocked(limit int) bool {
	return o.waitingLocked() > o.budget.most(min(limit, backlog))
}

// await waits while more than limit bytes wait to be written, until end is
// called. It is how a client that does not read is not read from either, or its
// answers would fill the memory.
func (o *outbox) await(limit int) {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	for !o.guarded.ended && o.overLocked(limit) {
		o.written.Wait()
	}
}

// flush writes until there is nothing left to do. With the last one it also
// says goodbye to the connection.
func (o *outbox) flush() {
	for {
		full, due, done := o.next()
		switch {
		case due:
			o.drain()
		case done:
			return
		default:
			if err := o.write(full); err != nil {
				o.fail(err)
				return
			}
		}
	}
}

// next takes what is to be written, or says that the session is to be drained,
// or that this flusher is done.
func (o *outbox) next() (full []byte, due, done bool) {
	g := &o.guarded
	g.Lock()
	if g.rest != nil {
		full, g.rest = g.rest, nil
		g.Unlock()
		return full, false, false
	}
	g.writing = 0
	o.written.Broadcast()
	idle := g.behind+len(g.buf) == 0 || g.held && !g.ended
	switch {
	case g.due && !(g.held && !g.ended) && g.behind == 0:
		g.due = false
		g.Unlock()
		return nil, true, false
	case !idle && g.behind > 0:
		full = g.full[0]
		g.full[0] = nil
		g.full, g.behind, g.writing = g.full[1:], g.behind-len(full), len(full)
		if len(g.full) == 0 {
			g.full = nil
		}
		o.countLocked()
		g.Unlock()
		return full, false, false
	case !idle:
		full = g.buf
		g.buf, g.spare, g.writing = g.spare[:0], nil, len(full)
		o.countLocked()
		g.Unlock()
		return full, false, false
	case g.ended:
		g.Unlock()
		o.close(nil)
		return nil, false, true
	}
	if cap(g.buf) > keepIdle && len(g.buf) == 0 {
		g.buf = nil
	}
	if cap(g.spare) > keepIdle {
		g.spare = nil
	}
	o.countLocked()
	if o.direct != nil {
		_ = o.to.SetWriteDeadline(time.Time{}) // or a direct write would find it passed
	}
	g.flushing = false
	g.Unlock()
	return nil, false, true
}

// write writes full and keeps its memory for the next one.
func (o *outbox) write(full []byte) error {
	for rest := full; len(rest) > 0; {
		n := min(len(rest), chunk)
		if err := o.to.SetWriteDeadline(time.Now().Add(o.stall)); err != nil {
			return err
		}
		n, err := o.to.Write(rest[:n])
		o.carried(max(n, 0))
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	o.guarded.Lock()
	o.keepLocked(full)
	o.guarded.Unlock()
	return nil
}

// keepLocked keeps the memory of what was written: a small buffer here, for the
// next packets, a grown one where every connection finds it. A burst must not
// cost memory for the rest of a connection's life.
func (o *outbox) keepLocked(full []byte) {
	g := &o.guarded
	if g.grew = cap(full) > keepIdle; g.grew {
		o.budget.buffers.give(full[:0])
		return
	}
	g.spare = full[:0]
}

// fail ends an outbox whose connection does not take any more.
func (o *outbox) fail(err error) {
	o.guarded.Lock()
	o.guarded.ended, o.guarded.writing = true, 0
	o.guarded.Unlock()
	o.written.Broadcast()
	o.close(err)
}

// close gives the memory back and tells the owner.
func (o *outbox) close(err error) {
	o.guarded.Lock()
	o.guarded.full, o.guarded.behind, o.guarded.buf, o.guarded.spare, o.guarded.rest = nil, 0, nil, nil, nil
	o.countLocked()
	o.guarded.Unlock()
	o.finish(err)
}
