// Package store keeps what the broker must not lose: an ordered key-value
// store with one committer, behind an interface that is narrow on purpose.
//
// # Contract
//
//   - Keys are built, never spelt. A [Key] comes from a [Scope] (an
//     organisation in one incarnation, or the global scope), a [Kind] and
//     length-prefixed parts. No key of one organisation is a prefix of a key
//     of another, and a [Prefix] finds exactly the keys that begin with its
//     parts.
//   - A call of Commit is atomic: all of its operations become visible and
//     durable together, or none does.
//   - Calls take effect in the order in which they were accepted, and their
//     callbacks run in that order, each exactly once, one at a time, on the
//     committer's goroutine. When a callback has been told nil, every Get and
//     Scan that starts afterwards sees the write.
//   - Reads never wait for writes. A Scan sees one moment of the store.
//   - Close finishes what was accepted, then closes.
//
// # Durability
//
// With [Process], a commit that was answered survives the death of the
// process (kill -9). With [Power], it survives the death of the machine too:
// each batch costs one sync, however many calls it holds. CommitSync syncs in
// both modes, and covers everything accepted before it.
//
// A sync that failed is final. The kernel may have dropped the pages it could
// not write, so that a later sync would succeed and prove nothing: every later
// commit is refused with [ErrFailed] until the store is opened again.
//
// # The committer
//
// One goroutine takes everything that waits, writes it as one transaction,
// syncs if it must, and calls back. It never waits for company: an idle store
// commits at once, and a busy one batches what arrived while the last batch
// was written. Batches are bounded by [MaxBatchOps] and [MaxBatchBytes], and so
// is a single call: a larger one is refused with [ErrTooLarge] rather than
// split, because a split call is not atomic. What is accepted and not yet
// written is bounded by [Options.PendingBytes]; beyond it Commit blocks.
//
// # Parts
//
// An [Engine] is the storage below the committer. Package badgerstore keeps it
// on disk, package memstore in memory; package storetest holds the suite that
// both must pass, and fault injection for the tests of other packages.
package store
