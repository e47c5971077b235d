package broker

import (
	"sync"
	"sync/atomic"
)

// budget is the memory that messages and packets on their way to clients may
// take together. Nobody may have more than there is left: whoever holds most
// yields first, and one that holds little always finds room.
type budget struct {
	total   int64 // bytes
	used    atomic.Int64
	buffers buffers
}

// buffers are grown buffers that no outbox needs at the moment.
type buffers struct {
	guarded struct {
		sync.Mutex
		free [][]byte
	}
}

// buffersKept bounds how many there are, each of at most two chunks.
const buffersKept = 64

// take returns an empty buffer of about a chunk.
func (bs *buffers) take() []byte {
	bs.guarded.Lock()
	defer bs.guarded.Unlock()
	n := len(bs.guarded.free)
	if n == 0 {
		return make([]byte, 0, chunk)
	}
	b := bs.guarded.free[n-1]
	bs.guarded.free = bs.guarded.free[:n-1]
	return b
}

// give takes a buffer back.
func (bs *buffers) give(b []byte) {
	if cap(b) < chunk || cap(b) > 2*chunk {
		return
	}
	bs.guarded.Lock()
	defer bs.guarded.Unlock()
	if len(bs.guarded.free) < buffersKept {
		bs.guarded.free = append(bs.guarded.free, b)
	}
}

func (b *budget) add(n int) { b.used.Add(int64(n)) }

// most is limit, or what is left where that is less.
func (b *budget) most(limit int) int {
	return int(max(0, min(int64(limit), b.total-b.used.Load())))
}
