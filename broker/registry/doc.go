// Package registry knows organisations, device types, devices, API keys and
// users, and checks their credentials. It is a typed layer on broker/store and
// holds the built-in verifiers "token" and "claim".
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
// A role of an API key, a user or a gateway is a name. What it permits is in the tables
// of the policy, or in a [Role] that the organisation made: then Refresh puts it into
// the principal's Permissions. Keys and users have such roles as principals of this
// package's verifier alone; a registered gateway has them whoever verified it.
//
// # Connections
//
// What an organisation demands of connections is a part of its record, so that an edit
// is one change of it. Nothing here decides about a connection: ConnectionFacts tells the
// policy which level holds for a client, and whether its address is on the list.
// ClaimedFacts does so for one that nobody has verified, which learns nothing by it.
//
// # Groups
//
// A device is in at most 10 groups, its record says in which, and an index leads from a
// group to its devices. Gateways and API keys reach groups, as [Reach] says. Both name a
// group in one incarnation, so a group is deleted by deleting its record: what names it
// leads nowhere from then on, also when there is a namesake, and is dropped when it is
// written next. The index of a deleted group is removed in the background, and what is
// left of it after a crash goes with its devices or with the organisation.
//
// A gateway has a group of its own from its registration to its deletion. Records from
// before there were groups reach every device, until they are given some.
//
// # Claims
//
// A claim registers devices that show its token. Spending it, the device and the
// device's credential are one commit, so no crash spends one without the other and no
// race spends more than there is. That credential names the claim until the device
// has used a token of its own; until then, and never after, HandOver makes it another
// one. Nobody knows the first. The token exists as text only where HandOver returns it.
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
