// Package revision keeps every policy bundle that passed the gate, and the book
// of which one was live when, by whose hand and why.
//
// # Life of a revision
//
//  1. A bundle that was loaded and checked is offered: [Book.Offer] stores it
//     under the hash of its content and makes it live, unless another revision is
//     pinned. What is stored already is not stored twice.
//  2. [Book.Activate] makes a stored revision live and pins it: what is offered
//     later is stored and waits, also over restarts. [Book.Rollback] does the same
//     with the revision that was live before.
//  3. [Book.Unpin] ends that, and makes the revision that was offered last live.
//  4. [Book.Prune] deletes the bundles of revisions that nobody heard of for
//     longest. Their entries stay.
//
// # Old builds
//
// A signature says who built a bundle and not when: whoever holds an old archive
// can send it again. Where a builder numbers its builds ([Offering.Sequence]), the
// book remembers the highest of each source, and an older one is kept but does not
// go live by itself. Without numbers it goes live, and [Outcome.Again] has that
// told. RATIONALE.md says why.
//
// # Invariants
//
//   - What is live, what is pinned and what came before follow from the log alone.
//     An entry is on disk before what it says comes true.
//   - Each entry holds the hash of the one before it and its own. [Verify] names
//     the first entry that was changed, moved, inserted or left out. Whoever may
//     write the whole folder can forge a whole log: [Book.Head], kept elsewhere,
//     shows that too.
//   - A stored bundle is compared with its hash whenever it is read.
//   - The live revision, the one before it and the one offered last are never
//     pruned.
//   - A revision is checked again before it becomes live: a newer version of the
//     program may refuse what an older one accepted. If it is refused, nothing
//     changes.
//   - The live revision changes only while the book holds the order of changes, so
//     the log and the engine cannot disagree about which came last.
package revision
