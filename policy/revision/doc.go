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
//   - A revision is checked again before it becomes live: a newer version of the
//     program may refuse what an older one accepted. If it is refused, nothing
//     changes.
//   - The live revision changes only while the book holds the order of changes, so
//     the log and the engine cannot disagree about which came last.
package revision
