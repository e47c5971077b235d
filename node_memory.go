package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// returnMemory gives memory back to the system once the process has come to
// rest. After a storm of connections half of it is garbage that nothing would
// collect for minutes, because an idle process does not allocate.
func (n *node) returnMemory() {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/automatic:gc-cycles"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	var cycles, allocated, returned uint64
	n.every(2*time.Second, func() {
		metrics.Read(samples)
		atRest := samples[0].Value.Uint64() == cycles && samples[1].Value.Uint64()-allocated < restBytes
		cycles, allocated = samples[0].Value.Uint64(), samples[1].Value.Uint64()
		if atRest && allocated-returned > restBytes {
			debug.FreeOSMemory()
			metrics.Read(samples)
			cycles, allocated = samples[0].Value.Uint64(), samples[1].Value.Uint64()
			returned = allocated
		}
	})
}

// restBytes is how much an idle process may allocate in one look, and how much
// it must have allocated since the last time for another to be worth it.
const restBytes = 4 << 20
