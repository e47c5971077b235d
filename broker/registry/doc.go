// Package registry knows organisations, device types, devices, API keys and
// users, and checks their credentials. It is a typed layer on broker/store and
// holds the built-in verifier "token".
//
// # Contract
//
//   - A bulk call is many commits. Each holds whole devices, and other writers have
//     their turn between two of them.
//   - Every look-up reads the store; successful checks of slow hashes are remembered
//     under a version that is read again, and a bounded number of records until they
//     are written. Nothing is held, or read at Open, for each device.
//   - Writes are serialised, and each is one atomic commit. What may take
//     something away (an edit, a deletion, a replaced token) is on disk before
//     the call returns, in every durability mode.
//   - After the commit, and before the call returns, the watchers are told in
//     the order in which they registered, and changes reach all of them in the
//     order of their commits.
//   - Watchers and the edit functions of the Update calls run under the lock of
//     the writers. They may read the registry, and must not write to it.
//   - A [Registry] expects to be the only one on its store.
//
// # Roles
//
// A role of an API key or a user is a name. What it permits is in the tables of the
// policy, or in a [Role] that the organisation made: then Refresh puts it into the
// principal's Permissions. Only principals of this package's verifier have such roles.
//
// # Numbers
//
// One counter, stored and never reused, numbers the writes. The number of a
// write is the incarnation of the organisation or device that it creates, the
// version of the credential that it makes, and the stamp of each record that
// it touches. Devices of one commit of a bulk call share theirs. A principal's Version is the highest stamp it was made from, so
// it grows whenever one of those records changes.
//
// # Checking a credential
//
//  1. Find the organisation and the credential. Where there is none, a dummy
//     takes its place, and the answer is already no.
//  2. Compare the token with the stored hashes: the current one, and the one
//     before it while its grace lasts.
//  3. Read the records afresh and let [Registry.Refresh] say whether they
//     still stand. A token that matched while its device was being deleted
//     ends here.
//
// A deletion can still return between step 3 and the use of the principal.
// Whoever keeps a principal therefore makes it findable for its watcher first,
// calls Refresh second, and relies on it third.
//
// # What a failure costs
//
// Within one organisation every failed check of a device costs the same,
// whether the device exists or not: one fast hash, and one slow hash as well
// if the organisation ever had a self-chosen token. Organisations that only use
// generated tokens never pay for slow hashes, so a fleet that keeps trying a
// revoked token cannot occupy the processor. Slow hashes are bounded, together
// and per organisation. API keys and users always have generated secrets.
//
// # Export and import
//
// An export is a scan of the store as it is at one moment. An import writes into an
// incarnation that no name leads to, with the tombstone of a deleted one; when
// all of it was read and checked, one commit takes the tombstone away and puts the
// name in its place. A record kind that is not in the table of parts fails every
// export, so that none is forgotten there.
//
// # Deletion
//
// A deleted organisation disappears with its directory entry, in one commit;
// its keys are removed afterwards. A mark stays until the next [Open], which
// removes again whatever a writer left there meanwhile. A namesake has another
// incarnation and starts empty.
//
// # Invariants
//
//   - No secret is in an error, a log line or the store.
//   - A record that cannot be read refuses.
//   - An organisation's records are only found through its own identifier; an
//     API key shown for another organisation is unknown there.
package registry
