package wasm

import (
	"runtime"
	"time"
)

// turn is how a call shares the processors with everybody else. The scheduler would
// let a guest have one for 10 ms, and several of them all there are; and while none is
// idle, it looks at the network only every 10 ms. So a guest gives way often. One that
// takes long needs a place, of which there are half as many as processors, and rests
// in between, as long as it runs.
type turn struct {
	places chan struct{} // for calls that take long; nil: nobody else is there
	last   time.Time     // it was looked at
	ran    time.Duration // since it gave way, before that
	had    time.Duration // since it rested, before that
	holds  bool          // a place
}

const (
	turnTime = 250 * time.Microsecond
	longTime = time.Millisecond // most calls end before
)

// pass lets others go first when the turn is over. It panics if it is the turn of
// others until the deadline. Guests come by every few microseconds: if it took
// longer, somebody else had the processor.
func (t *turn) pass(now, deadline time.Time) {
	if !t.last.IsZero() {
		t.ran += min(now.Sub(t.last), turnTime)
	}
	if t.last = now; t.ran < turnTime {
		return
	}
	if t.had += t.ran; t.had >= longTime && t.places != nil {
		t.rest(deadline)
		t.had = 0
	} else {
		runtime.Gosched()
	}
	t.last, t.ran = time.Now(), 0
}

// rest keeps the place for a while in which nobody uses it, and goes to the end of
// the queue.
func (t *turn) rest(deadline time.Time) {
	if t.holds {
		<-time.After(longTime)
		t.end()
	}
	select {
	case t.places <- struct{}{}:
	default:
		late := time.NewTimer(time.Until(deadline))
		defer late.Stop()
		select {
		case t.places <- struct{}{}:
		case <-late.C:
			panic(errDeadline) // wazero makes it the error of the call
		}
	}
	t.holds = true
}

// end gives the place back, if there is one.
func (t *turn) end() {
	if t.holds {
		t.holds = false
		<-t.places
	}
}
