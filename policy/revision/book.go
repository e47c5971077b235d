package revision

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Book is the history of one policy. It is safe for concurrent use.
type Book struct {
	store Store
	now   func() time.Time

	// changing is the order of changes. It is held while a revision is checked and
	// made live, so neither may call back into what takes it.
	changing sync.Mutex
	guarded  struct {
		sync.Mutex
		history
	}
}

// history is what the log says, entry by entry.
type history struct {
	entries []Entry
	known   map[ID]*Revision
	live    Digest
	pinned  bool
	offered Digest   // last, and not stale
	way     []Digest // that were live, the one that is at the end: the way back
}

// Revision is one bundle that the log tells of.
type Revision struct {
	ID     ID
	Digest Digest
	First  Entry // that brought it
	Last   Entry // that concerned it
	Live   bool
	Pinned bool

	pruned bool // it is in the log alone
}

// Check loads a bundle as the gate does. live makes what was loaded the live
// policy; it is called once the log says so, and may not fail.
type Check func(bundle fs.FS) (live func(), err error)

func conflict(public string) error {
	return &policy.Error{Kind: policy.KindConflict, Field: "revision", Public: public}
}

func invalid(field, public string) error {
	return &policy.Error{Kind: policy.KindInvalid, Field: field, Public: public}
}

// Open reads and verifies the log. now is the clock of the log; nil: time.Now.
// The error of a log that is not what was written is a *BadEntry.
func Open(store Store, now func() time.Time) (*Book, error) {
	if now == nil {
		now = time.Now
	}
	b := &Book{store: store, now: now}
	entries, err := b.read()
	if err != nil {
		return nil, err
	}
	b.guarded.known = map[ID]*Revision{}
	for _, e := range entries {
		b.guarded.add(e)
	}
	if err := b.dropPruned(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Book) read() ([]Entry, error) {
	lines, text, err := b.store.Log()
	if err != nil {
		return nil, err
	}
	var head Head
	if len(text) > 0 {
		if err := json.Unmarshal(text, &head); err != nil {
			return nil, fmt.Errorf("policy log: the head: %w", err)
		}
	}
	return Verify(lines, head)
}

// add is the only place that says what an entry means.
func (h *history) add(e Entry) {
	h.entries = append(h.entries, e)
	r := h.known[e.Revision.ID()]
	if r == nil {
		r = &Revision{ID: e.Revision.ID(), Digest: e.Revision, First: e}
		h.known[r.ID] = r
	}
	r.Last = e
	r.pruned = e.Action == Pruned
	switch e.Action {
	case Stored:
		h.offered = e.Revision
	case Activated:
		h.offered = e.Revision
		h.makeLive(e.Revision)
	case Pinned:
		h.pinned = true
		h.makeLive(e.Revision)
	case RolledBack:
		h.pinned = true
		if len(h.way) > 0 {
			h.way = slices.Clip(h.way[:len(h.way)-1]) // a copy of the state may hold the rest
		}
		h.makeLive(e.Revision)
	case Unpinned:
		h.pinned = false
	case Stale, Tried:
	case Pruned:
		h.way = slices.DeleteFunc(slices.Clone(h.way), func(d Digest) bool { return d == e.Revision })
		h.way = slices.Compact(h.way)
	}
}

func (h *history) makeLive(d Digest) {
	h.live = d
	if len(h.way) == 0 || h.way[len(h.way)-1] != d {
		h.way = append(h.way, d)
	}
}

// state is a copy that outlives the lock.
func (b *Book) state() history {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	h := b.guarded.history
	h.known = nil
	return h
}

func (b *Book) lookup(id ID) (Digest, error) {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	switch r := b.guarded.known[id]; {
	case r == nil:
		return "", &policy.Error{Kind: policy.KindNotFound, Field: "revision", Public: "there is no such revision"}
	case r.pruned:
		return "", &policy.Error{Kind: policy.KindNotFound, Field: "revision", Public: "the revision was pruned: the log names it, and its files are gone"}
	default:
		return r.Digest, nil
	}
}

// appendEntry writes down what is about to be true. The caller holds changing.
func (b *Book) appendEntry(action Action, d Digest, by Author) error {
	return b.appendBuild(action, d, 0, by)
}

// appendBuild is appendEntry for a bundle that has a sequence.
func (b *Book) appendBuild(action Action, d Digest, sequence uint64, by Author) error {
	h := b.state()
	e := Entry{
		Number: uint64(len(h.entries)) + 1, At: b.now().UTC().Round(0), Action: action, Revision: d, Sequence: sequence,
		Who: by.Who, Why: by.Why,
	}
	if n := len(h.entries); n > 0 {
		e.Before = h.entries[n-1].Hash
	}
	e.Hash = e.sum()
	line, err := e.encode()
	if err != nil {
		return err
	}
	head, err := json.Marshal(Head{e.Number, e.Hash})
	if err != nil {
		return fmt.Errorf("encode head of policy log: %w", err)
	}
	if err := b.store.Append(line, head); err != nil {
		return err
	}
	b.guarded.Lock()
	defer b.guarded.Unlock()
	b.guarded.add(e)
	return nil
}

// Activate makes a stored revision live, and pins it.
func (b *Book) Activate(id ID, by Author, check Check) error {
	if err := by.check(); err != nil {
		return err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	d, err := b.lookup(id)
	if err != nil {
		return err
	}
	return b.put(Pinned, d, by, check)
}

// Rollback makes the revision live that was live before, and pins it. Again, it
// goes back further. The error is KindConflict when there is none.
func (b *Book) Rollback(by Author, check Check) (ID, error) {
	if err := by.check(); err != nil {
		return "", err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	h := b.state()
	if len(h.way) < 2 {
		return "", &policy.Error{Kind: policy.KindConflict, Public: "there is no earlier revision"}
	}
	d := h.way[len(h.way)-2]
	return d.ID(), b.put(RolledBack, d, by, check)
}

// Unpin lets what is offered go live again, and what was offered meanwhile. It
// returns the revision that is live then. If the gate refuses what was offered,
// nothing is pinned any more and the live one stays.
func (b *Book) Unpin(by Author, check Check) (ID, error) {
	if err := by.check(); err != nil {
		return "", err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	h := b.state()
	if !h.pinned {
		return "", &policy.Error{Kind: policy.KindConflict, Public: "no revision is pinned"}
	}
	if err := b.appendEntry(Unpinned, h.live, by); err != nil {
		return "", err
	}
	if h.offered == "" || h.offered == h.live {
		return h.live.ID(), nil
	}
	if err := b.put(Activated, h.offered, by, check); err != nil {
		return h.live.ID(), err
	}
	return h.offered.ID(), nil
}

// Resume makes the pinned revision live when a process starts. It reports false
// when none is pinned.
func (b *Book) Resume(check Check) (ID, bool, error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	h := b.state()
	if !h.pinned {
		return "", false, nil
	}
	live, err := b.gate(h.live, check)
	if err != nil {
		return h.live.ID(), true, err
	}
	live()
	return h.live.ID(), true, nil
}

// put checks d, writes the entry, and makes d live, in this order.
func (b *Book) put(action Action, d Digest, by Author, check Check) error {
	live, err := b.gate(d, check)
	if err != nil {
		return err
	}
	if err := b.appendEntry(action, d, by); err != nil {
		return err
	}
	live()
	return nil
}

func (b *Book) gate(d Digest, check Check) (live func(), err error) {
	files, err := b.files(d)
	if err != nil {
		return nil, err
	}
	bundle, err := FS(files)
	if err != nil {
		return nil, err
	}
	live, err = check(bundle)
	if err != nil {
		return nil, &policy.Error{Kind: policy.KindConflict, Op: "activate revision " + string(d.ID()), Public: "the revision does not pass the gate", Err: err}
	}
	return live, nil
}

// files reads a bundle, and compares it with its hash.
func (b *Book) files(d Digest) ([]File, error) {
	archive, err := b.store.Bundle(d.ID())
	if err != nil {
		return nil, err
	}
	files, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("revision %s: %w", d.ID(), err)
	}
	if Sum(files) != d {
		return nil, fmt.Errorf("revision %s: the stored files are not those that were checked", d.ID())
	}
	return files, nil
}

// Files returns the files of a revision, by path. They are the caller's.
func (b *Book) Files(id ID) ([]File, error) {
	d, err := b.lookup(id)
	if err != nil {
		return nil, err
	}
	return b.files(d)
}

// Diff says, file by file, what leads from one revision to another; empty when
// they are the same.
func (b *Book) Diff(from, to ID) (string, error) {
	before, err := b.Files(from)
	if err != nil {
		return "", err
	}
	after, err := b.Files(to)
	if err != nil {
		return "", err
	}
	return Diff(string(from), string(to), before, after), nil
}

// Live is the revision that is live by the log, and whether it is pinned. It is
// empty before the first.
func (b *Book) Live() (id ID, pinned bool) {
	h := b.state()
	if h.live == "" {
		return "", false
	}
	return h.live.ID(), h.pinned
}

// List returns the stored revisions, the latest brought first.
func (b *Book) List() []Revision {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	list := make([]Revision, 0, len(b.guarded.known))
	for _, r := range b.guarded.known {
		if r.pruned {
			continue
		}
		found := *r
		found.Live = r.Digest == b.guarded.live
		found.Pinned = found.Live && b.guarded.pinned
		list = append(list, found)
	}
	slices.SortFunc(list, func(a, b Revision) int { return cmp.Compare(b.First.Number, a.First.Number) })
	return list
}

// Entries returns the log, the oldest first.
func (b *Book) Entries() []Entry { return slices.Clone(b.state().entries) }

// Head names the last entry; zero before the first.
func (b *Book) Head() Head {
	h := b.state()
	if len(h.entries) == 0 {
		return Head{}
	}
	e := h.entries[len(h.entries)-1]
	return Head{e.Number, e.Hash}
}

// Verify reads everything again: the log, which has to reach as far as this Book
// knows, and each bundle. The error of a bad log is a *BadEntry.
func (b *Book) Verify() error {
	b.changing.Lock()
	defer b.changing.Unlock()
	lines, _, err := b.store.Log()
	if err != nil {
		return err
	}
	if _, err := Verify(lines, b.Head()); err != nil {
		return err
	}
	var all []error
	for _, r := range b.List() {
		if _, err := b.files(r.Digest); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
