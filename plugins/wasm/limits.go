package wasm

import (
	"runtime"
	"time"
)

// Limits bound what plugins may use. A zero field takes its default.
type Limits struct {
	Deadline      time.Duration // one verification inside the guest; 50 ms
	StartDeadline time.Duration // start, initialisation and configuration of an instance; 2 s
	Wait          time.Duration // for an instance that others use; 1 s
	// CompileDeadline is for the machine code of one module; 1 minute.
	CompileDeadline time.Duration

	ModuleBytes int // of a .wasm file; 16 MiB
	MemoryBytes int // of one instance; 64 MiB, a multiple of 64 KiB
	InputBytes  int // of a request; 64 KiB
	OutputBytes int // of an answer; 16 KiB
	ConfigBytes int // of a configuration; 1 MiB

	TotalMemoryBytes int           // of all instances of all organisations; 1 GiB
	TotalCalls       int           // running at once, over all plugins; 8 for each processor
	Instances        int           // of one plugin, at once; 2 for each processor
	CallsPerInstance int           // before it is replaced; 10 000
	RecycleBytes     int           // an instance that has grown past this is replaced; 3/4 of MemoryBytes
	IdleAfter        time.Duration // an instance nobody uses is closed; 1 minute
	LogBytes         int           // a second, of one plugin; 1 KiB

	Strikes    int           // missed deadlines in a row until a plugin is quarantined; 3
	Quarantine time.Duration // the first one; doubles up to 5 minutes; 10 s

	Remembered   int           // answers of one plugin; 16 384
	RememberGood time.Duration // longest time a good answer is repeated; 5 minutes
	RememberBad  time.Duration // about how long a bad one is; 1 s
}

const (
	pageBytes      = 64 << 10
	stateBytes     = 4 << 10  // of an AUTH exchange, decoded
	operandBytes   = 64 << 10 // of one argument of a host function
	reasonBytes    = 256
	quarantineMost = 5 * time.Minute
	deadlineMost   = time.Second // what a plugin's .yaml may ask for
	memoryMost     = 256 << 20
	instancesMost  = 64
	stackMost      = 1 << 20 // bytes; looked at when a guest is checked, so that it may be over it by what accountBytes of code can take
)

func (l Limits) withDefaults() Limits {
	processors := runtime.GOMAXPROCS(0)
	setTime(&l.Deadline, 50*time.Millisecond)
	setTime(&l.StartDeadline, 2*time.Second)
	setTime(&l.Wait, time.Second)
	setTime(&l.CompileDeadline, time.Minute)
	setSize(&l.ModuleBytes, 16<<20)
	setSize(&l.MemoryBytes, 64<<20)
	setSize(&l.InputBytes, 64<<10)
	setSize(&l.OutputBytes, 16<<10)
	setSize(&l.ConfigBytes, 1<<20)
	setSize(&l.TotalMemoryBytes, 1<<30)
	setSize(&l.TotalCalls, 8*processors)
	setSize(&l.Instances, 2*processors)
	setSize(&l.CallsPerInstance, 10_000)
	setSize(&l.RecycleBytes, l.MemoryBytes/4*3)
	setTime(&l.IdleAfter, time.Minute)
	setSize(&l.LogBytes, 1<<10)
	setSize(&l.Strikes, 3)
	setTime(&l.Quarantine, 10*time.Second)
	setSize(&l.Remembered, 16_384)
	setTime(&l.RememberGood, 5*time.Minute)
	setTime(&l.RememberBad, time.Second)
	return l
}

func setTime(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

func setSize(n *int, otherwise int) {
	if *n <= 0 {
		*n = otherwise
	}
}

func (l Limits) memoryPages() uint32 { return uint32(max(1, l.MemoryBytes/pageBytes)) }

// checkPages is how much memory a guest asks for when it is to be checked: one
// page more than it can have.
func (l Limits) checkPages() uint32 { return l.memoryPages() + 1 }
