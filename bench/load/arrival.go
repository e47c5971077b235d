package load

import (
	"context"
	"math/rand/v2"
	"runtime"
	"syscall"
	"time"
)

// arrive sends messages when they are due. The moments are of a Poisson process
// with a fixed seed, so every broker sees the same; publishers take turns. What
// is late is sent at once and stays late: its latency counts from when it was due.
//
// It sleeps in the kernel on a thread of its own, because the runtime's timers
// are good to a millisecond only.
func (r *flow) arrive(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	moments := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // moments, not secrets
	mean := float64(time.Second) / r.Rate
	due := time.Since(r.began)
	turn := 0
	late := make([]*source, 0, len(r.sources))
	for ctx.Err() == nil {
		now := time.Since(r.began)
		for ; due <= now; due += time.Duration(moments.ExpFloat64() * mean) {
			s := r.sources[turn%len(r.sources)]
			turn++
			s.guarded.Lock()
			if len(s.guarded.out) == 0 {
				late = append(late, s)
			}
			s.guarded.out = s.appendNext(s.guarded.out, due)
			s.guarded.Unlock()
		}
		for _, s := range late {
			s.guarded.Lock()
			err := s.writeLocked(s.guarded.out)
			s.guarded.Unlock()
			if err != nil {
				return err
			}
		}
		late = late[:0]
		sleep(due - time.Since(r.began))
	}
	return nil
}

// sleep waits in the kernel for d, at most 10 ms: then the context is looked at.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := syscall.NsecToTimespec(int64(min(d, 10*time.Millisecond)))
	_ = syscall.Nanosleep(&ts, nil) // interrupted: the caller looks at the clock
}
