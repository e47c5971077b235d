package broker

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// sweepRest is how long a worker of a sweep rests after each session. Evaluating
// policies keeps a processor busy for long; only one that has nothing to do looks
// for what came over the network.
const sweepRest = 20 * time.Microsecond

// Sweep judges every session again, after an activation. Until it has come by,
// each session does so itself before its next packet or delivery. A later sweep
// does the work of an earlier one, which ends.
func (b *Broker) Sweep() {
	number := b.sweeps.Add(1)
	b.background(func() {
		began := time.Now()
		var sessions []*session
		for _, sp := range b.listSpaces() {
			sessions = append(sessions, sp.list()...)
		}
		var taken atomic.Int64
		var workers sync.WaitGroup
		for range sweepWorkers() {
			workers.Go(func() {
				rest := time.NewTimer(0)
				defer rest.Stop()
				for {
					i := int(taken.Add(1)) - 1
					if i >= len(sessions) || b.sweeps.Load() != number {
						return
					}
					if s := sessions[i]; s.conn.Load() != nil { // offline ones are judged when they resume
						s.rejudge(context.Background(), false)
						<-rest.C
						rest.Reset(sweepRest)
					}
				}
			})
		}
		workers.Wait()
		if b.sweeps.Load() == number {
			b.cfg.Observer.Sweep(time.Since(began))
		}
	})
}

// sweepWorkers are half of the processors: the other half is for messages, which
// go on meanwhile.
func sweepWorkers() int { return max(1, runtime.GOMAXPROCS(0)/2) }
