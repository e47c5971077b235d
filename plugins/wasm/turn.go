package wasm

import (
	"runtime"
	"time"
)

// turn is how a call shares the processors with everybody else. The scheduler would
// let a guest have one for 10 ms, and several of them all there are; and while none is
// idle, it looks at the network only every 10 ms. So a guest gives way often. One that
// takes long needs a place, of which there are half as many as processors, and rests
// as long as it runs, a millisecond at a time; what takes very long, twice as long.
type turn struct {
	places chan struct{} // for calls that take long; nil: nobody else is there
	last   time.Time     // it was looked at
	ran    time.Duration // since it gave way, before that
	had    time.Duration // since it rested, before that
	all    time.Duration // that it ran, before that
	holds  bool          // a place
}

const (
	turnTime = 250 * time.Microsecond
	longTime = time.Millisecond      // most calls end before
	veryLong = 10 * time.Millisecond // the start of an instance of a module made by Go ends before

	heavyBytes = 8 << 20 // more than what such an instance begins with
)

// pass lets others go first when the turn is over. It panics if it is the turn of
// others until the deadline. Guests come by every few microseconds: if it took
// longer, somebody else had the processor.
func (t *turn) pass(now, deadline time.Time) {
	if !t.last.IsZero() {
		t.ran += min(now.Sub(t.last), turnTime)
	}
	if t.last = now; t.ran >= turnTime && !t.giveWay(deadline) {
		panic(errDeadline) // wazero makes it the error of the call
	}
}

// heavy does work, which sets so many bytes aside. That takes long at one go if they
// are many: 64 MB are 20 ms. Then it needs a place. It is false if it was the turn of
// others until the deadline, before the work or after it.
func (t *turn) heavy(deadline time.Time, bytes int64, work func()) bool {
	if bytes < heavyBytes {
		work()
		return true
	}
	if t.places != nil && !t.holds && !t.take(deadline) {
		return false
	}
	began := time.Now()
	work()
	t.ran += time.Since(began)
	return t.giveWay(deadline)
}

// giveWay is false if it was the turn of others until the deadline.
func (t *turn) giveWay(deadline time.Time) bool {
	t.had, t.all, t.ran = t.had+t.ran, t.all+t.ran, 0
	switch {
	case t.places == nil, t.had < longTime:
		runtime.Gosched()
	case t.holds:
		rest := t.had
		if t.all >= veryLong {
			rest *= 2
		}
		<-time.After(min(rest, time.Until(deadline))) // and nobody else has the place
		t.end()
		if !t.take(deadline) {
			return false
		}
	case !t.take(deadline):
		return false
	}
	t.last = time.Now()
	return true
}

// take goes to the end of the queue for a place.
func (t *turn) take(deadline time.Time) bool {
	select {
	case t.places <- struct{}{}:
	default:
		late := time.NewTimer(time.Until(deadline))
		defer late.Stop()
		select {
		case t.places <- struct{}{}:
		case <-late.C:
			return false
		}
	}
	t.holds, t.had = true, 0
	return true
}

// end gives the place back, if there is one.
func (t *turn) end() {
	if t.holds {
		t.holds = false
		<-t.places
	}
}
