package opa

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa/confined"
	"github.com/cordon-mq/cordon/policy/revision"
)

// Narrowing is a checked, compiled bundle of one organisation. It is asked only
// where the platform's bundle allowed, and can only take away from that. It is
// immutable.
type Narrowing struct {
	revision  string
	files     []revision.File
	program   *confined.Program // nil while it is not compiled yet
	decisions [policy.ActionAdminister + 1]*narrowRule
	words     *words
}

// narrowRule is the decision of one package. It is immutable.
type narrowRule struct {
	entry   string // in the program
	program *confined.Program
	ref     string // for people
	reads   fields
	client  clientFields
	clock   bool
	of      *Narrowing
}

// Revision is the hash of the bundle's files, tests and data included.
func (n *Narrowing) Revision() string { return n.revision }

// Files are what the bundle was made from, by path. They may not be changed.
func (n *Narrowing) Files() []revision.File { return n.files }

// NarrowingSource finds the bundles that organisations have.
type NarrowingSource interface {
	// Narrowing returns the files of the bundle of org; false: it has none. It is
	// asked before the first decision about an organisation, and must be quick.
	Narrowing(org policy.OrgID) (files []revision.File, has bool, err error)
}

// tenant is where the judges of one organisation find what narrows it. One that
// never had a bundle costs this struct and one atomic load for each decision.
type tenant struct {
	org policy.OrgID
	// above is the live bundle with the organisation's on top. nil: there never was
	// one, and the platform's alone counts.
	above atomic.Pointer[snapshot]
	use   atomic.Pointer[tenantUse] // made with the first need

	guarded struct {
		sync.Mutex
		known  bool              // whether the source was asked, or told
		own    *Narrowing        // nil: none
		number policy.Generation // of the changes so far
	}
}

// tenantUse bounds what the rules of one organisation may use.
type tenantUse struct {
	running chan struct{} // evaluations
	loading chan struct{} // compilations and their tests
	decided share
	loaded  share
	failed  atomic.Int64 // Unix nanoseconds of the last load that failed
}

// Bounds of what one organisation's rules may use at once.
const (
	tenantEvaluations = 2
	tenantLoads       = 1
)

func (e *Engine) useOf(t *tenant) *tenantUse {
	if u := t.use.Load(); u != nil {
		return u
	}
	u := &tenantUse{
		running: make(chan struct{}, tenantEvaluations), loading: make(chan struct{}, tenantLoads),
		decided: share{rate: e.narrowing.share, burst: decideBurst}, loaded: share{rate: e.narrowing.share, burst: loadBurst},
	}
	if !t.use.CompareAndSwap(nil, u) {
		u = t.use.Load()
	}
	return u
}

// What an organisation may save up: the evaluations of a fleet that reconnects,
// and a few uploads in a row.
const (
	decideBurst = 5 * time.Second
	loadBurst   = 10 * time.Second
)

// narrowing is what an engine has for the bundles of organisations.
type narrowing struct {
	source  NarrowingSource
	timeout time.Duration
	share   float64
	running chan struct{} // evaluations of all organisations
	loading chan struct{} // compilations of all organisations
	outer   *Engine       // whose bundles of organisations these are; nil: the source says
	// followed says which of outer's are here: the number of its tenant.
	followed struct {
		sync.Mutex
		numbers map[*tenant]policy.Generation
	}
	work sync.WaitGroup

	guarded struct {
		sync.RWMutex
		tenants map[policy.OrgID]*tenant
	}
}

func (n *narrowing) open(o Options) {
	n.source, n.timeout, n.share = o.Narrowings, o.NarrowingTimeout, o.NarrowingShare
	if n.timeout <= 0 {
		n.timeout = 50 * time.Millisecond
	}
	if n.share <= 0 {
		n.share = 0.2
	}
	n.running = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	n.loading = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
}

// tenantOf is nil for facts without an organisation.
func (e *Engine) tenantOf(f *policy.Facts) *tenant {
	if f == nil || f.Principal == nil || f.Principal.Org.IsZero() {
		return nil
	}
	t := e.tenant(f.Principal.Org, true)
	e.learn(t)
	return t
}

func (e *Engine) tenant(org policy.OrgID, create bool) *tenant {
	g := &e.narrowing.guarded
	g.RLock()
	t := g.tenants[org]
	g.RUnlock()
	if t != nil || !create {
		return t
	}
	g.Lock()
	defer g.Unlock()
	if t = g.tenants[org]; t == nil {
		if g.tenants == nil {
			g.tenants = map[policy.OrgID]*tenant{}
		}
		t = &tenant{org: org}
		g.tenants[org] = t
	}
	return t
}

// learn asks the source, once, whether the organisation has a bundle. If so, it is
// compiled when the first decision needs it. The lock is the organisation's own.
func (e *Engine) learn(t *tenant) {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if e.narrowing.outer != nil {
		e.follow(t)
		return
	}
	if t.guarded.known {
		return
	}
	t.guarded.known = true
	if e.narrowing.source == nil {
		return
	}
	if _, has, err := e.narrowing.source.Narrowing(t.org); err != nil || has {
		e.setLocked(t, &Narrowing{}) // one that cannot be read is asked for again
	}
}

// Narrow makes n the bundle of an organisation, or takes it away: nil. A Decide
// that starts after Narrow returned answers from n or a later one. What was
// decided before is for the caller to look at again.
func (e *Engine) Narrow(org policy.OrgID, n *Narrowing) {
	t := e.tenant(org, n != nil)
	if t == nil {
		return // whoever makes it asks the source
	}
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if n == nil && t.guarded.own == nil && t.guarded.known {
		return
	}
	t.guarded.known = true
	e.narrowing.followed.Lock()
	delete(e.narrowing.followed.numbers, t) // what is given stays
	e.narrowing.followed.Unlock()
	e.setLocked(t, n)
	revision := ""
	if n != nil {
		revision = n.revision
	}
	e.log.Info("policy of an organisation activated", "org", org.String(), "revision", revision)
}

// ReloadNarrowing has the source asked again, before the next decision about the
// organisation.
func (e *Engine) ReloadNarrowing(org policy.OrgID) {
	t := e.tenant(org, false)
	if t == nil {
		return // whoever makes it asks the source
	}
	t.guarded.Lock()
	defer t.guarded.Unlock()
	t.guarded.known = true
	e.setLocked(t, &Narrowing{})
}

// NarrowingRevision is that of the organisation's bundle, if it is compiled and
// live.
func (e *Engine) NarrowingRevision(org policy.OrgID) string {
	t := e.tenant(org, false)
	if t == nil {
		return ""
	}
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if t.guarded.own == nil {
		return ""
	}
	return t.guarded.own.revision
}

func (e *Engine) setLocked(t *tenant, n *Narrowing) {
	t.guarded.own = n
	t.guarded.number++
	t.stackLocked(e.live.Load())
}

// stackLocked puts the organisation's bundle on top of live. All that is stacked
// happened: live is loaded with the lock held, which every change of the
// organisation's takes. So the sum of both numbers never stands for two pairs.
func (t *tenant) stackLocked(live *snapshot) *snapshot {
	s := t.stack(live)
	if live.canary != nil {
		s.canary = &canary{live.canary.chosen, t.stack(live.canary.snapshot)}
	}
	t.above.Store(s)
	return s
}

func (t *tenant) stack(live *snapshot) *snapshot {
	s := &snapshot{Bundle: live.Bundle, base: live, own: t.guarded.own, generation: live.generation + t.guarded.number, activated: live.activated}
	for a := range s.entries {
		s.entries[a] = over(live.Bundle.entry(policy.Action(a)), policy.Action(a), t.guarded.own)
	}
	return s
}

// over is an entry point with the organisation's rule on top. Its answers are
// remembered by what either of them can read.
func over(platform *entryPoint, a policy.Action, own *Narrowing) *entryPoint {
	if own == nil || own.decisions[a] == nil || platform == nil && a != policy.ActionReceive {
		return platform
	}
	rule := own.decisions[a]
	both := entryPoint{}
	if platform != nil {
		both = *platform
	}
	both.platform, both.own = platform, rule
	both.reads |= rule.reads
	both.client |= rule.client
	both.clock = both.clock || rule.clock
	return &both
}

// restack follows an activation of the platform's bundle.
func (e *Engine) restack(t *tenant) *snapshot {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	live := e.live.Load()
	if above := t.above.Load(); above.base.generation >= live.generation {
		return above
	}
	return t.stackLocked(live)
}

// sight is what a Decide that starts now answers from.
func (j *judge) sight() *snapshot {
	s := j.stacked()
	if s.canary != nil && j.chosenBy(s.canary) {
		return s.canary.snapshot
	}
	return s
}

// stacked is the live bundle, with the organisation's on top. The order matters: an
// organisation without a bundle now had none when live was loaded.
func (j *judge) stacked() *snapshot {
	live := j.engine.live.Load()
	if j.tenant == nil {
		return live
	}
	above := j.tenant.above.Load()
	if above == nil {
		return live
	}
	if above.base.generation < live.generation {
		return j.engine.restack(j.tenant)
	}
	return above
}

// unready reports whether the organisation has a bundle that is not compiled.
func (s *snapshot) unready() bool { return s.own != nil && s.own.program == nil }

// Bounds of compiling on first need.
const (
	awakenWait  = time.Second     // of one decision, for its turn
	awakenAgain = 5 * time.Second // after a load that failed
)

var errNotAwake = errors.New("the organisation's bundle is not compiled yet")

// awaken compiles the bundle of an organisation that was not needed until now.
func (e *Engine) awaken(ctx context.Context, t *tenant) error {
	u := e.useOf(t)
	if failed := u.failed.Load(); failed != 0 && e.now().UnixNano()-failed < int64(awakenAgain) {
		return errNotAwake
	}
	if e.narrowing.source == nil {
		return errNotAwake
	}
	ctx, cancel := context.WithTimeout(ctx, awakenWait)
	defer cancel()
	if err := enter(ctx, u.loading); err != nil {
		return errNotAwake
	}
	if above := t.above.Load(); above != nil && !above.unready() {
		<-u.loading
		return nil // while we waited
	}
	files, has, err := e.narrowing.source.Narrowing(t.org)
	if err != nil {
		<-u.loading
		u.failed.Store(e.now().UnixNano())
		return fmt.Errorf("the organisation's bundle cannot be read: %w", err)
	}
	// Before the place is free again, so that whoever waits for it finds it done.
	wake := func(n *Narrowing) {
		t.guarded.Lock()
		defer t.guarded.Unlock()
		if above := t.above.Load(); above.unready() { // else somebody replaced it meanwhile
			e.setLocked(t, n)
		}
	}
	if has {
		stored, err := revision.FS(files)
		var report *Report
		if err == nil {
			// The wait for a turn is over; a compilation has its own bound.
			_, report, err = e.loadIn(context.WithoutCancel(ctx), u, stored, false, wake)
		} else {
			<-u.loading
		}
		if err == nil {
			err = report.Err()
		}
		if err != nil {
			u.failed.Store(e.now().UnixNano())
			e.log.Error("policy of an organisation does not load: it is refused", "org", t.org.String(), "err", err)
			return fmt.Errorf("the organisation's bundle does not load: %w", err)
		}
	} else {
		wake(nil)
		<-u.loading
	}
	return nil
}

func enter(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errShare says that an organisation used up its share of the processor.
func errShare() error {
	return &policy.Error{Kind: policy.KindLimit, Op: "load policy", Public: "the organisation has used its share of time for policies; try again later"}
}

// errLoadTime says that loading takes too long. It goes on until it ends, in its
// place, so the organisation waits for it.
func errLoadTime() error {
	return &policy.Error{Kind: policy.KindTooLarge, Op: "load policy", Public: "compiling the bundle takes too long"}
}

// LoadNarrowing is the gate for the bundle of an organisation: LoadNarrowing of
// this package, one at a time for each organisation, few at once for all, within
// the organisation's share of time. The error is KindLimit, KindTooLarge or that
// of ctx.
func (e *Engine) LoadNarrowing(ctx context.Context, org policy.OrgID, fsys fs.FS) (*Narrowing, *Report, error) {
	u := e.useOf(e.tenant(org, true))
	if !u.loaded.left(time.Now()) {
		return nil, nil, errShare()
	}
	waiting, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	if err := enter(waiting, u.loading); err != nil {
		return nil, nil, &policy.Error{Kind: policy.KindUnavailable, Op: "load policy", Public: "another bundle of the organisation is being compiled", Err: err}
	}
	return e.loadIn(ctx, u, fsys, true, func(*Narrowing) {})
}

const (
	loadWait = 5 * time.Second
	loadTime = 10 * time.Second
)

// loadIn loads with the organisation's place for it taken, and frees it when that
// ended. OPA's compiler cannot be interrupted, so it runs apart.
func (e *Engine) loadIn(ctx context.Context, u *tenantUse, fsys fs.FS, tests bool, then func(*Narrowing)) (*Narrowing, *Report, error) {
	type loaded struct {
		n      *Narrowing
		report *Report
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	if err := enter(ctx, e.narrowing.loading); err != nil {
		cancel()
		<-u.loading
		return nil, nil, &policy.Error{Kind: policy.KindUnavailable, Op: "load policy", Public: "too many bundles are being compiled; try again later", Err: err}
	}
	done := make(chan loaded, 1)
	e.narrowing.work.Go(func() {
		defer cancel()
		began := time.Now()
		n, report := loadNarrowing(ctx, fsys, e.schemas, tests)
		u.loaded.take(time.Now(), time.Since(began))
		if n != nil {
			then(n)
		}
		<-e.narrowing.loading
		<-u.loading
		done <- loaded{n, report}
	})
	select {
	case l := <-done:
		return l.n, l.report, nil
	case <-ctx.Done():
		select {
		case l := <-done: // it ended, and cancelled
			return l.n, l.report, nil
		default:
			return nil, nil, errLoadTime()
		}
	}
}
