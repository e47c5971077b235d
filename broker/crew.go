package broker

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// crew lends goroutines to connections for what takes a deep stack: verifying
// and judging, at CONNECT and SUBSCRIBE. A goroutine that is born for a
// connection has a small stack, which an evaluation would make grow by copying,
// a quarter of the cost of a connect, and which would then stay large while the
// connection idles. One of the crew has grown its stack once, for everybody.
//
// There are as many as work at a time; at most crewIdle wait for more.
type crew struct {
	guarded struct {
		sync.Mutex
		idle   []chan func()
		closed bool
	}
	work sync.WaitGroup
}

const crewIdle = 16

// do runs f on another goroutine and returns when it has. A panic of f is one of
// the caller.
func (w *crew) do(f func()) {
	done := make(chan any, 1)
	job := func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Sprintf("%v\n%s", r, debug.Stack())
				return
			}
			done <- nil
		}()
		f()
	}
	w.hand() <- job
	if r := <-done; r != nil {
		panic(r)
	}
}

// start runs f on another goroutine and does not wait.
func (w *crew) start(f func()) { w.hand() <- f }

// hand is where somebody waits for a job.
func (w *crew) hand() chan<- func() {
	w.guarded.Lock()
	defer w.guarded.Unlock()
	if n := len(w.guarded.idle); n > 0 {
		jobs := w.guarded.idle[n-1]
		w.guarded.idle = w.guarded.idle[:n-1]
		return jobs
	}
	jobs := make(chan func(), 1)
	w.work.Go(func() { w.serve(jobs) })
	return jobs
}

// serve does one job after the other until nobody needs it any more.
func (w *crew) serve(jobs chan func()) {
	for job := range jobs {
		job()
		w.guarded.Lock()
		leave := w.guarded.closed || len(w.guarded.idle) >= crewIdle
		if !leave {
			w.guarded.idle = append(w.guarded.idle, jobs)
		}
		w.guarded.Unlock()
		if leave {
			return
		}
	}
}

// close sends everybody home and waits until they are gone. Jobs may still come
// until all connections have ended.
func (w *crew) close() {
	w.guarded.Lock()
	w.guarded.closed = true
	for _, jobs := range w.guarded.idle {
		close(jobs)
	}
	w.guarded.idle = nil
	w.guarded.Unlock()
	w.work.Wait()
}
