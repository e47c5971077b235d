package store

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Engine is the storage below a Store. Reads may come from any goroutine at any
// time between New and Close; Apply and Sync come from one goroutine. An engine
// is given only valid keys, except for the zero Prefix, which means all of
// them, and it need not check any of the limits.
type Engine interface {
	// Get is Reader.Get.
	Get(key Key) ([]byte, error)
	// Scan is Reader.Scan.
	Scan(prefix Prefix, after Key, fn func(key Key, value []byte) bool) error
	// Apply writes ops as one transaction, the later of two operations on one
	// key winning. When it returns, reads see the writes and they survive the
	// death of the process. It keeps neither ops nor their values.
	Apply(ops []Op) error
	// Sync returns when everything applied so far survives the death of the
	// machine.
	Sync() error
	// Close releases the storage. Nothing else is called afterwards.
	Close() error
}

// Durability says what an answered commit survives.
type Durability int

const (
	// Process survives the death of the process, the default.
	Process Durability = iota
	// Power survives the death of the machine, at the price of one sync for
	// each batch.
	Power
)

// ParseDurability reads "process" or "power".
func ParseDurability(s string) (Durability, error) {
	switch s {
	case "process":
		return Process, nil
	case "power":
		return Power, nil
	default:
		return Process, fmt.Errorf("durability %q: neither process nor power", s)
	}
}

// String returns the word that ParseDurability reads.
func (d Durability) String() string {
	switch d {
	case Process:
		return "process"
	case Power:
		return "power"
	default:
		return fmt.Sprintf("durability(%d)", int(d))
	}
}

// DefaultPendingBytes is the bound of a store whose Options do not name one.
const DefaultPendingBytes = 16 << 20

// Options of a Store. The zero value is Process with the default bound.
type Options struct {
	// Durability is what every commit survives.
	Durability Durability
	// PendingBytes bounds the sum of Op.Size that is accepted and not yet
	// written; beyond it Commit blocks. A single call is always accepted when
	// nothing else is pending. 0 means DefaultPendingBytes.
	PendingBytes int
	// Committed is told how long each transaction took to write, its sync
	// included, and whether it failed. It is called before those who wait are
	// answered and must return soon. nil: nobody is.
	Committed func(took time.Duration, err error)
}

// Pending is what a Store made by New also is: it says how many bytes of
// accepted calls are not written yet.
type Pending interface{ Pending() int }

// New returns a Store over engine, after checking the schema of what is stored
// there; an empty engine is given the schema of this program. The store owns
// the engine, and New closes it when it fails, with ErrSchema for data it does
// not understand.
func New(engine Engine, o Options) (Store, error) {
	if o.Durability != Process && o.Durability != Power {
		return nil, errors.Join(fmt.Errorf("open store: unknown %v", o.Durability), engine.Close())
	}
	if err := checkSchema(engine); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), engine.Close())
	}
	k := &keeper{
		engine:    engine,
		committer: newCommitter(engine, o.Durability == Power, cmp.Or(o.PendingBytes, DefaultPendingBytes), o.Committed),
	}
	k.reads.idle.L = &k.reads
	return k, nil
}

// keeper joins an engine and its committer, and keeps reads away from an engine
// that is closed.
type keeper struct {
	engine Engine
	*committer

	reads struct {
		sync.Mutex
		running int
		closed  bool
		idle    sync.Cond // running fell to zero
	}

	closing sync.Once
	err     error // of the first Close
}

var (
	_ Store   = (*keeper)(nil)
	_ Pending = (*keeper)(nil)
)

func (k *keeper) Get(key Key) ([]byte, error) {
	if key.IsZero() {
		return nil, ErrInvalidKey
	}
	if err := k.beginRead(); err != nil {
		return nil, err
	}
	defer k.endRead()
	return k.engine.Get(key)
}

func (k *keeper) Scan(prefix Prefix, after Key, fn func(key Key, value []byte) bool) error {
	if !prefix.valid() {
		return ErrInvalidKey
	}
	if err := k.beginRead(); err != nil {
		return err
	}
	defer k.endRead()
	return k.engine.Scan(prefix, after, fn)
}

func (k *keeper) Close() error {
	k.closing.Do(func() {
		k.committer.stop()
		k.refuseReads()
		k.err = k.engine.Close()
	})
	return k.err
}

// beginRead counts a read. A lock held for reading would not do: a Scan whose
// fn reads would wait for a Close that waits for the Scan.
func (k *keeper) beginRead() error {
	k.reads.Lock()
	defer k.reads.Unlock()
	if k.reads.closed {
		return ErrClosed
	}
	k.reads.running++
	return nil
}

func (k *keeper) endRead() {
	k.reads.Lock()
	defer k.reads.Unlock()
	if k.reads.running--; k.reads.running == 0 {
		k.reads.idle.Broadcast()
	}
}

// refuseReads lets running reads finish and refuses new ones.
func (k *keeper) refuseReads() {
	k.reads.Lock()
	defer k.reads.Unlock()
	k.reads.closed = true
	for k.reads.running > 0 {
		k.reads.idle.Wait()
	}
}
