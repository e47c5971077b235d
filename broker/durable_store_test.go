package broker_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/store/storetest"
)

// tap is the store as the broker sees it; the registry has one without. It
// counts what is written, and holds commits back or stalls who commits when a
// test says so. Reads pass.
type tap struct {
	*storetest.Faulty
	guarded struct {
		sync.Mutex
		holding bool
		stalled bool
		delay   func(store.Op) bool // who commits such an operation is stalled
		stalls  int                 // who cannot return from Commit
		moving  sync.Cond           // stalled was cleared
		held    []tapped
		changes int                    // commits that change something
		puts    map[store.Kind]int     // by what they write
		keys    map[store.Key]struct{} // that were ever written
	}
}

type tapped struct {
	ops  []store.Op
	done func(error)
}

func newTap(s store.Store) *tap {
	p := &tap{Faulty: storetest.NewFaulty(s)}
	p.guarded.moving.L = &p.guarded
	p.guarded.puts, p.guarded.keys = map[store.Kind]int{}, map[store.Key]struct{}{}
	return p
}

// Commit implements store.Writer.
func (p *tap) Commit(ops []store.Op, done func(error)) {
	p.guarded.Lock()
	for p.guarded.stalled || p.guarded.delay != nil && slices.ContainsFunc(ops, p.guarded.delay) {
		p.guarded.stalls++
		p.guarded.moving.Wait()
		p.guarded.stalls--
	}
	p.countLocked(ops)
	holding := p.guarded.holding
	if holding {
		p.guarded.held = append(p.guarded.held, tapped{ops, done})
	}
	p.guarded.Unlock()
	if !holding {
		p.Faulty.Commit(ops, done)
	}
}

func (p *tap) countLocked(ops []store.Op) {
	if len(ops) > 0 {
		p.guarded.changes++
	}
	for _, op := range ops {
		if !op.IsDelete() {
			p.guarded.puts[op.Key().Kind()]++
			p.guarded.keys[op.Key()] = struct{}{}
		}
	}
}

// hold keeps every later commit waiting, until it is passed on.
func (p *tap) hold() {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	p.guarded.holding = true
}

// holds is how many commits wait.
func (p *tap) holds() int {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return len(p.guarded.held)
}

// pass passes on the n commits that have waited longest; the others stay.
func (p *tap) pass(n int) {
	p.guarded.Lock()
	first := p.guarded.held[:n]
	p.guarded.held = p.guarded.held[n:]
	p.guarded.Unlock()
	for _, c := range first {
		p.Faulty.Commit(c.ops, c.done)
	}
}

// settle waits until what was passed on so far is stored.
func (p *tap) settle() {
	done := make(chan struct{})
	p.Faulty.Commit(nil, func(error) { close(done) })
	<-done
}

// release passes on all that wait, in their order, and holds no more. Whoever is
// stalled goes on.
func (p *tap) release() {
	p.stall(false)
	p.delayed(nil)
	for {
		p.guarded.Lock()
		n := len(p.guarded.held)
		if n == 0 {
			p.guarded.holding = false
		}
		p.guarded.Unlock()
		if n == 0 {
			return
		}
		p.pass(n) // what arrives meanwhile is still held, and keeps its place
	}
}

// stall lets nobody return from Commit any more: a disk that is far behind.
func (p *tap) stall(on bool) {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	p.guarded.stalled = on
	p.guarded.moving.Broadcast()
}

// delayed stalls who commits an operation that is one of those; nil: nobody.
func (p *tap) delayed(one func(store.Op) bool) {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	p.guarded.delay = one
	p.guarded.moving.Broadcast()
}

// stalls is how many cannot return from Commit.
func (p *tap) stalls() int {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return p.guarded.stalls
}

// changes is how many commits changed something so far.
func (p *tap) changes() int {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return p.guarded.changes
}

// puts is how many records of a kind were written so far.
func (p *tap) puts(kind store.Kind) int {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return p.guarded.puts[kind]
}

// names is how many keys of a kind were ever written.
func (p *tap) names(kind store.Kind) (n int) {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	for key := range p.guarded.keys {
		if key.Kind() == kind {
			n++
		}
	}
	return n
}

// scopes are those of all organisations there are.
func (w *world) scopes() (list []store.Scope) {
	w.t.Helper()
	orgs, _, err := w.registry.Organisations(ctx, registry.Page{Limit: 1000})
	must(w.t, err)
	for _, o := range orgs {
		list = append(list, store.In(o.ID.String(), o.Incarnation))
	}
	return list
}

// stored lists the keys of a kind, in all organisations.
func (w *world) stored(kind store.Kind) []store.Key {
	w.t.Helper()
	return w.storedIn(kind, w.scopes())
}

func (w *world) storedIn(kind store.Kind, scopes []store.Scope) (keys []store.Key) {
	w.t.Helper()
	for _, scope := range scopes {
		must(w.t, w.store.Scan(scope.Prefix(kind), store.Key{}, func(key store.Key, _ []byte) bool {
			keys = append(keys, key)
			return true
		}))
	}
	return keys
}

// kindsOfSessions are what a session that has ended leaves none of.
var kindsOfSessions = []store.Kind{
	store.KindSession, store.KindSubscription, store.KindMessage, store.KindQueue, store.KindInbound, store.KindWill,
}

// nothingStored waits until no session has anything in the store, nor in former
// scopes of an organisation.
func (w *world) nothingStored(former ...store.Scope) {
	w.t.Helper()
	for _, kind := range kindsOfSessions {
		eventually(w.t, func() bool { return len(w.storedIn(kind, append(w.scopes(), former...))) == 0 })
	}
}

// image is a disk that holds what w's holds at this moment: what is left of it
// when the process is killed.
func (w *world) image() *memstore.Disk {
	w.t.Helper()
	var ops []store.Op
	for _, prefix := range append(w.scopes(), store.Global()) {
		must(w.t, w.store.Scan(prefix.All(), store.Key{}, func(key store.Key, value []byte) bool {
			ops = append(ops, store.Put(key, bytes.Clone(value)))
			return true
		}))
	}
	disk := memstore.NewDisk()
	write(w.t, disk, ops...)
	return disk
}

// write changes a disk that nobody has open.
func write(t *testing.T, disk *memstore.Disk, ops ...store.Op) {
	t.Helper()
	st, err := disk.Open(storeOptions)
	must(t, err)
	for len(ops) > 0 {
		n := min(len(ops), 1024)
		must(t, store.CommitWait(ctx, st, ops[:n]...))
		ops = ops[n:]
	}
	must(t, st.Close())
}

// shut stops w and returns its disk.
func (w *world) shut() *memstore.Disk {
	w.t.Helper()
	w.stop()
	return w.disk
}

// again is a world like w on another disk, or the same after w was shut.
func (w *world) again(disk *memstore.Disk) *world {
	w.t.Helper()
	next := newWorldOn(w.t, w.bundle, disk, w.cfg)
	for name, o := range w.orgs {
		next.orgs[name] = &organisation{w: next, id: o.id, key: o.key, tokens: o.tokens, secrets: o.secrets}
	}
	return next
}

// edit changes the registry on a disk that nobody has open.
func edit(t *testing.T, disk *memstore.Disk, change func(*registry.Registry)) {
	t.Helper()
	st, err := disk.Open(storeOptions)
	must(t, err)
	reg, err := registry.Open(st, registry.Options{})
	must(t, err)
	change(reg)
	reg.Close()
	must(t, st.Close())
}

// nothing fails the test if anything comes, however long one waits. It is for
// tests in a bubble, where waiting costs no time.
func (c *client) nothing() {
	c.t.Helper()
	if len(c.inbox) > 0 {
		c.t.Fatalf("got %+v, want nothing", c.inbox[0])
	}
	if p, err := c.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got %+v, %v; want nothing", p, err)
	}
}
