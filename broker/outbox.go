package broker

import (
	"io"
	"sync"
	"time"
)

// outbox collects encoded packets for one connection. Whoever delivers only
// copies into memory; one flusher goroutine swaps the buffer and writes it, so
// nobody ever waits for a reader that stopped, and packets that arrive while a
// write is on its way leave together in the next one.
type outbox struct {
	guarded struct {
		sync.Mutex
		buf     []byte
		writing int  // bytes taken by the flusher and not yet written
		ended   bool // nothing more is accepted; what is here is still written
	}
	wake    sync.Cond // there is something to write
	written sync.Cond // a write is done
}

// keepBuffer is the largest buffer an outbox keeps between writes: a burst must
// not cost memory for the rest of the connection's life.
const keepBuffer = 64 << 10

// writeChunk bounds one write, so that the deadline measures progress and not
// the length of the backlog.
const writeChunk = 64 << 10

func newOutbox() *outbox {
	o := &outbox{}
	o.wake.L, o.written.L = &o.guarded.Mutex, &o.guarded.Mutex
	return o
}

// begin locks the outbox and returns its buffer to append to; the caller gives
// it back with commit. It answers false, unlocked, once the outbox has ended or
// when more than limit bytes wait already; limit 0 is none.
func (o *outbox) begin(limit int) ([]byte, bool) {
	o.guarded.Lock()
	if o.guarded.ended || limit > 0 && len(o.guarded.buf)+o.guarded.writing > limit {
		o.guarded.Unlock()
		return nil, false
	}
	return o.guarded.buf, true
}

// commit takes the buffer back, unlocks, and wakes the flusher if there is
// something to write.
func (o *outbox) commit(buf []byte) {
	o.guarded.buf = buf
	wake := len(buf) > 0 && o.guarded.writing == 0
	o.guarded.Unlock()
	if wake {
		o.wake.Signal()
	}
}

// end stops accepting. The flusher writes what is here and returns.
func (o *outbox) end() {
	o.guarded.Lock()
	o.guarded.ended = true
	o.guarded.Unlock()
	o.wake.Broadcast()
	o.written.Broadcast()
}

// await waits while more than limit bytes wait to be written, until end is
// called. It is how a client that does not read is not read from either, or its
// answers would fill the memory.
func (o *outbox) await(limit int) {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	for !o.guarded.ended && len(o.guarded.buf)+o.guarded.writing > limit {
		o.written.Wait()
	}
}

// deadliner is the part of net.Conn a flusher needs.
type deadliner interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// flush writes until end is called and everything is written, or a write fails.
func (o *outbox) flush(w deadliner, stall time.Duration) error {
	var spare []byte
	for {
		o.guarded.Lock()
		o.guarded.writing = 0
		o.written.Broadcast()
		for len(o.guarded.buf) == 0 && !o.guarded.ended {
			o.wake.Wait()
		}
		full := o.guarded.buf
		o.guarded.buf, o.guarded.writing = spare, len(full)
		o.guarded.Unlock()
		if len(full) == 0 {
			return nil
		}
		for rest := full; len(rest) > 0; {
			n := min(len(rest), writeChunk)
			if err := w.SetWriteDeadline(time.Now().Add(stall)); err != nil {
				return err
			}
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if spare = full[:0]; cap(spare) > keepBuffer {
			spare = nil
		}
	}
}
