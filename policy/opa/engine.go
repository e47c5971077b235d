package opa

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// Options of an Engine. The zero value is usable.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
	// Now is the clock of Until and of time.now_ns; nil: time.Now.
	Now func() time.Time
	// Timeout bounds one evaluation; 0: 100 ms.
	Timeout time.Duration
	// InputMax bounds what one evaluation is given: bytes of the facts and of the
	// fields of the request that its rules can read; 0: 256 KiB.
	InputMax int
	// OutputMax bounds an answer, in bytes; 0: 64 KiB.
	OutputMax int
	// MemoryEntries bounds the answers one Judge remembers; 0: 256.
	MemoryEntries int
	// Schemas type the bundles that Watch loads; see Load. nil: not typed.
	Schemas fs.FS
	// Evaluated is told how long each evaluation took, by the goroutine that did
	// it; nil: nobody is.
	Evaluated func(took time.Duration)
	// Narrowings finds the bundles of organisations; nil: there are those that
	// Narrow was given.
	Narrowings NarrowingSource
	// NarrowingTimeout bounds one evaluation of an organisation's rules, the wait for
	// its turn included; 0: 50 ms.
	NarrowingTimeout time.Duration
	// NarrowingShare is how much of one processor the rules of one organisation may
	// use over time, and once more compiling them; 0: 0.2.
	NarrowingShare float64
	// Offer is given each bundle that Watch loaded, and activates it or not: also
	// one that is live, when the folder held another one in between. Its error is
	// logged. nil: what is not live is activated.
	Offer func(*Bundle) error
}

// Engine answers from its live bundle. It implements policy.Decider and is safe
// for concurrent use.
type Engine struct {
	nextSample    atomic.Int64 // Unix nanoseconds; see sampleDue
	narrowing     narrowing
	log           *slog.Logger
	now           func() time.Time
	timeout       time.Duration
	inputMax      int
	outputMax     int
	memoryEntries int
	schemas       fs.FS
	offer         func(*Bundle) error
	evaluated     func(took time.Duration)

	live atomic.Pointer[snapshot]

	seed     maphash.Seed
	idPrefix string
	idCount  atomic.Uint64
	judges   atomic.Uint64
	counters counters
	checks   checks

	// activating holds back a second Activate until the watchers have heard of
	// the first. No judge takes it.
	activating sync.Mutex
	watchers   struct {
		sync.Mutex
		list []func(policy.Generation)
	}
}

var _ policy.Decider = (*Engine)(nil)

// snapshot is a live bundle and its number, or that with the bundle of one
// organisation on top. All but coversOff and what is remembered is immutable.
type snapshot struct {
	*Bundle
	generation policy.Generation // the sum of both
	activated  time.Time
	coversOff  atomic.Bool // an answer contradicted what covers stated
	recurring  recurring
	shapes     map[string]*shape // of the goroutine that checks

	canary *canary // who is chosen is answered from that; nil: nobody is

	base    *snapshot // the platform's alone; nil: this is it
	own     *Narrowing
	entries [policy.ActionAdminister + 1]*entryPoint // where base is not nil
}

func (s *snapshot) entry(a policy.Action) *entryPoint {
	if s.base == nil {
		return s.Bundle.entry(a)
	}
	if int(a) >= len(s.entries) {
		return nil
	}
	return s.entries[a]
}

// coversDistrusted reports whether covers was contradicted.
func (s *snapshot) coversDistrusted() bool {
	return s.coversOff.Load() || s.base != nil && s.base.coversOff.Load()
}

// probeWords are what covers are probed with.
func (s *snapshot) probeWords() *words {
	if s.own == nil || s.own.words == nil {
		return s.words
	}
	return &words{levels: slices.Concat(s.words.levels, s.own.words.levels), topics: slices.Concat(s.words.topics, s.own.words.topics)}
}

// New makes an engine without a bundle: everything is denied with
// CauseUndefined until the first Activate.
func New(o Options) *Engine {
	e := &Engine{
		log: o.Log, now: o.Now, timeout: o.Timeout, inputMax: o.InputMax, outputMax: o.OutputMax,
		memoryEntries: o.MemoryEntries, schemas: o.Schemas, offer: o.Offer, evaluated: o.Evaluated, seed: maphash.MakeSeed(),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.timeout <= 0 {
		e.timeout = 100 * time.Millisecond
	}
	if e.inputMax <= 0 {
		e.inputMax = 256 << 10
	}
	if e.outputMax <= 0 {
		e.outputMax = 64 << 10
	}
	if e.memoryEntries <= 0 {
		e.memoryEntries = 256
	}
	e.narrowing.open(o)
	var random [5]byte
	_, _ = rand.Read(random[:]) // never fails: the process ends instead
	e.idPrefix = idEncoding.EncodeToString(random[:])
	e.live.Store(&snapshot{Bundle: &Bundle{}})
	return e
}

// Activate makes b the live bundle and then calls the watchers, in the order
// they were given, before it returns. A canary ends. A Decide that starts after Activate
// returned answers from b or a later one. A watcher may judge but not activate.
// A nil b takes the policy away: everything is denied.
func (e *Engine) Activate(b *Bundle) policy.Generation {
	if b == nil {
		b = &Bundle{}
	}
	e.activating.Lock()
	defer e.activating.Unlock()

	next := e.succeed(b, e.live.Load())
	e.goLive(next)
	e.log.Info("policy activated", "revision", b.revision, "generation", uint64(next.generation))
	return next.generation
}

// succeed is b as what comes after live.
func (e *Engine) succeed(b *Bundle, live *snapshot) *snapshot {
	next := &snapshot{Bundle: b, generation: live.generation + 1, activated: e.now()}
	next.coversOff.Store(e.checks.distrusts(b.revision))
	return next
}

// goLive makes next the live one and tells the watchers; activating is held.
func (e *Engine) goLive(next *snapshot) {
	e.live.Store(next)
	e.watchers.Lock()
	watchers := e.watchers.list
	e.watchers.Unlock()
	for _, fn := range watchers {
		fn(next.generation)
	}
}

// OnActivate adds a watcher of later activations.
func (e *Engine) OnActivate(fn func(policy.Generation)) {
	e.watchers.Lock()
	defer e.watchers.Unlock()
	e.watchers.list = append(e.watchers.list[:len(e.watchers.list):len(e.watchers.list)], fn)
}

// Revision is that of the live bundle; empty when there is none.
func (e *Engine) Revision() string { return e.live.Load().revision }

// Generation is that of the live bundle; 0 before the first Activate.
func (e *Engine) Generation() policy.Generation { return e.live.Load().generation }

func (b *Bundle) entry(a policy.Action) *entryPoint {
	if int(a) >= len(b.decisions) {
		return nil
	}
	return b.decisions[a]
}

// Close ends the checks of covers, which run beside the decisions, and waits for
// them and for what is being compiled. The engine still decides afterwards, and takes no covers on trust.
func (e *Engine) Close() {
	e.checks.close()
	e.narrowing.work.Wait()
}

// Verifiers asks cordon.connect.verifiers. A missing or failing rule is an error.
// The slice is shared and may not be changed.
func (e *Engine) Verifiers(ctx context.Context, c *policy.Client, org *policy.Organisation) ([]policy.VerifierRef, error) {
	snap := e.live.Load()
	var key askedKey
	keyed := false
	if entry := snap.verifiers; entry != nil && !entry.clock {
		if key, keyed = entry.client.askedBy(c, org); keyed {
			if refs, known := snap.recurring.verifiersFor(key); known {
				return refs, nil
			}
		}
	}
	request := policy.Request{Action: policy.ActionConnect, Time: e.now()}
	facts, cause, err := e.newConstant(&policy.Facts{Client: c, Org: org})
	var value ast.Value
	if cause == policy.CauseNone {
		value, cause, err = e.evaluate(ctx, snap.verifiers, facts.input(&request, readAll), request.Time)
	}
	if cause != policy.CauseNone {
		e.counters.deny(cause)
		return nil, refuseVerifiers(fmt.Errorf("%s: %w", cause, err))
	}
	refs, err := decodeVerifiers(value)
	if err != nil {
		e.counters.deny(policy.CauseMalformed)
		return nil, refuseVerifiers(fmt.Errorf("%s: %w", policy.CauseMalformed, err))
	}
	if keyed {
		snap.recurring.keepVerifiers(key, refs)
	}
	return refs, nil
}

func refuseVerifiers(err error) error {
	err = withoutQuoted(err)
	return &policy.Error{Kind: policy.KindForbidden, Op: "choose verifiers", Public: policy.CausePolicy.Public(), Err: err}
}

// idEncoding has no letters that are easily mistaken for others. Read only.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID is 16 characters: 8 random ones of this process, 8 that count.
func (e *Engine) newID() string {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], e.idCount.Add(1))
	return e.idPrefix + idEncoding.EncodeToString(n[3:])
}

// Bundle is the live one. It is empty before the first Activate.
func (e *Engine) Bundle() *Bundle { return e.live.Load().Bundle }
