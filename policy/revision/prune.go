package revision

import (
	"cmp"
	"slices"
)

// Prune deletes the bundles of the revisions that were last heard of longest ago,
// until at most most are kept. It spares the live one, the one before it, and the
// one that was offered last, whatever most is. The log goes on naming what was
// pruned; offered again, it is stored again. The result is what was deleted.
func (b *Book) Prune(most int, by Author) (gone []ID, err error) {
	if err := by.check(); err != nil {
		return nil, err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	h := b.state()
	list := b.List()
	slices.SortFunc(list, func(a, b Revision) int { return cmp.Compare(a.Last.Number, b.Last.Number) })
	for left := len(list); left > most && len(list) > 0; list = list[1:] {
		d := list[0].Digest
		if d == h.live || d == h.offered || len(h.way) > 1 && d == h.way[len(h.way)-2] {
			continue
		}
		// The entry comes first: one whose bundle is left is put right by Open, and a
		// bundle that is missing without an entry would be damage.
		if err := b.appendEntry(Pruned, d, by); err != nil {
			return gone, err
		}
		if err := b.store.DropBundle(d.ID()); err != nil {
			return gone, err
		}
		gone = append(gone, d.ID())
		left--
	}
	return gone, nil
}

// dropPruned deletes what a crash left between an entry and its bundle: of the
// last entry, as each is followed by its bundle.
func (b *Book) dropPruned() error {
	h := b.state()
	n := len(h.entries)
	if n == 0 || h.entries[n-1].Action != Pruned {
		return nil
	}
	return b.store.DropBundle(h.entries[n-1].Revision.ID())
}
