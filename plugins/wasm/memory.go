package wasm

import (
	"context"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/experimental"
)

// budget is the memory all instances may use together.
type budget struct {
	most    int64
	used    atomic.Int64
	reclaim func() // closes what is idle
}

func (b *budget) take(n int64) bool {
	if b.tryTake(n) {
		return true
	}
	b.reclaim()
	return b.tryTake(n)
}

func (b *budget) tryTake(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// linearMemory is the memory of one instance, on the account of a budget. It
// lies in the Go heap: a use after it was freed would read garbage, not fault.
//
// It is also where a guest is stopped, see rewrite.go.
type linearMemory struct {
	budget   *budget
	taken    int64
	most     uint64 // bytes the guest may have
	check    uint64 // bytes it asks for to be checked
	deadline time.Time
	turn     *turn
	stack    reflect.Value // of the call that runs
	b        []byte
}

var _ experimental.LinearMemory = (*linearMemory)(nil)

// newLinearMemory takes the minimum of m from the budget, for wazero cannot bear a
// first allocation that fails.
func newLinearMemory(b *budget, m *module, l Limits) (*linearMemory, bool) {
	minimum := int64(m.memoryMin) * pageBytes
	if !b.take(minimum) {
		return nil, false
	}
	return &linearMemory{
		budget: b, taken: minimum,
		most:  uint64(min(m.memoryMax, l.memoryPages())) * pageBytes,
		check: uint64(l.checkPages()) * pageBytes,
	}, true
}

// until sets the deadline of the calls to come to that of ctx, which has one.
func (m *linearMemory) until(ctx context.Context) {
	m.deadline, _ = ctx.Deadline()
	m.turn = &turn{}
	if c := callOf(ctx); c != nil {
		m.turn = &c.turn
	}
}

// Allocate implements experimental.MemoryAllocator, once.
func (m *linearMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate grows by a quarter at least, so that a guest that grows page by
// page does not copy its memory each time; nil where it or the budget is used up.
// It ends the guest after its deadline. The first time it is not the guest who
// asks, so that nothing may end.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if m.b == nil {
		m.b = make([]byte, size)
		return m.b
	}
	now := time.Now()
	if !now.Before(m.deadline) {
		panic(errDeadline) // wazero makes it the error of the call
	}
	if stackBytes(m.stack) > stackMost {
		panic(errStack)
	}
	m.turn.pass(now, m.deadline)
	switch {
	case size == m.check, size > m.most:
		return nil
	case size <= uint64(cap(m.b)):
		m.b = m.b[:size]
		return m.b
	}
	capacity := max(size, min(m.most, uint64(cap(m.b))/4*5))
	if !m.reserve(capacity) {
		return nil
	}
	var grown []byte
	if !m.turn.heavy(m.deadline, int64(capacity), func() { grown = make([]byte, size, capacity) }) {
		panic(errDeadline)
	}
	// Nothing stops a copy, not even for the garbage collection.
	for at := 0; at < len(m.b); at += copyBytes {
		copy(grown[at:], m.b[at:min(at+copyBytes, len(m.b))])
		m.turn.pass(time.Now(), m.deadline)
	}
	m.b = grown
	return m.b
}

const copyBytes = 1 << 20

func (m *linearMemory) reserve(capacity uint64) bool {
	more := int64(capacity) - m.taken
	if more > 0 && !m.budget.take(more) {
		return false
	}
	m.taken += max(more, 0)
	return true
}

// Free returns everything to the budget. It may come twice.
func (m *linearMemory) Free() {
	m.budget.give(m.taken)
	m.taken, m.b = 0, nil
}
