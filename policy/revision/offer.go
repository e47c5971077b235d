package revision

import "errors"

// Offering is a bundle that passed the gate.
type Offering struct {
	Files []File // may not change afterwards
	By    Author // its source, which is what the log calls it
	// Sequence is the number that its builder gave the build; 0: none. Of one
	// source, a build does not go live by itself once it has offered one with the
	// same or a higher number.
	Sequence uint64
}

// Outcome is what became of an Offering.
type Outcome struct {
	ID ID
	// Live: it is live now. Otherwise another revision is pinned, or it is stale.
	Live bool
	// Stale: its source has offered a later build. It is kept, so that somebody may
	// activate it by hand.
	Stale bool
	// Again: it has no sequence, its source offered it before, and another bundle
	// since. That is how a rollback looks, and how a replay does.
	Again bool
}

// Offer stores a bundle, and makes it live unless another revision is pinned or it
// is stale. live is also called for what is live already, since a process that
// just started has nothing live.
func (b *Book) Offer(o Offering, live func()) (Outcome, error) {
	if err := o.By.check(); err != nil {
		return Outcome{}, err
	}
	b.changing.Lock()
	defer b.changing.Unlock()

	d := Sum(o.Files)
	h := b.state()
	s := h.sourceOf(o.By, d)
	out := Outcome{ID: d.ID(), Again: s.again && o.Sequence == 0}
	if s.newest > 0 && (o.Sequence < s.newest || o.Sequence == s.newest && d != s.newestDigest) {
		out.Stale, out.Again = true, false
		if s.notedStale {
			return out, nil
		}
		if err := b.keep(d, o.Files); err != nil {
			return Outcome{}, err
		}
		return out, b.appendBuild(Stale, d, o.Sequence, o.By)
	}
	if err := b.keep(d, o.Files); err != nil {
		return Outcome{}, err
	}
	action := Activated
	if h.pinned {
		action = Stored
	}
	if h.offered != d || !h.pinned && h.live != d || o.Sequence > s.newest {
		if err := b.appendBuild(action, d, o.Sequence, o.By); err != nil {
			return Outcome{}, err
		}
	}
	if h.pinned && h.live != d {
		return out, nil
	}
	live()
	out.Live = true
	return out, nil
}

// source is what the log says of one source and a bundle that it offers.
type source struct {
	newest       uint64 // highest sequence; 0: it gives none
	newestDigest Digest
	again        bool // the bundle came before, and another one after it
	notedStale   bool // that it is stale is the last thing the log says of the bundle
}

func (h *history) sourceOf(by Author, d Digest) (s source) {
	var came bool
	for i := range h.entries {
		e := &h.entries[i]
		if e.Revision == d {
			s.notedStale = e.Action == Stale
		}
		if e.Who != by.Who || e.Why != by.Why || e.Action != Stored && e.Action != Activated {
			continue
		}
		if e.Sequence > s.newest {
			s.newest, s.newestDigest = e.Sequence, e.Revision
		}
		came = came || e.Revision == d
		s.again = came && e.Revision != d
	}
	return s
}

// keep stores files, unless that happened before.
func (b *Book) keep(d Digest, files []File) error {
	known, stored := b.known(d.ID())
	switch {
	case known != "" && known != d:
		return conflict("another bundle has the same revision")
	case stored:
		if _, err := b.files(d); err == nil {
			return nil
		}
		// What is stored is damaged, and here is what it was.
	}
	archive, err := pack(files)
	if err != nil {
		return err
	}
	if again, err := unpack(archive); err != nil || Sum(again) != d {
		return errors.Join(invalid("bundle", "has files that cannot be stored"), err)
	}
	return b.store.PutBundle(d.ID(), archive)
}

// known is the digest of a revision that the log names, and whether its bundle is
// kept; empty when there is none.
func (b *Book) known(id ID) (d Digest, stored bool) {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if r := b.guarded.known[id]; r != nil {
		return r.Digest, !r.pruned
	}
	return "", false
}
