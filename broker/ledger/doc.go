// Package ledger keeps what is noted about the clients of an organisation beside
// its registry and its messages: whether each is connected, the connection log,
// the last events and the diagnostics of devices, and the traffic of each day. It
// is a typed layer on broker/store.
//
// # Contract
//
//   - Everything lies in the space of one incarnation of one organisation and goes
//     with it. What belongs to a device carries the device's incarnation in its key,
//     so that a namesake begins with nothing.
//   - Everything is bounded for each device: [LogLines] lines, [MaxEvents] events,
//     [MaxDiagnostics] entries of each kind. The oldest make room.
//   - Of violations there are [MaxViolators] clients and a few counts, in one record for
//     each organisation.
//   - Last events and diagnostics are bounded for each organisation, too: [ErrFull]
//     refuses what would take them beyond. Their sum is written with them, and is
//     exceeded by no more than what is being written.
//   - A [Batch] is one atomic write, and reads what it is about to write. Whoever
//     makes batches for the same records makes them one after the other.
//   - Nothing here is a secret, and nothing here decides.
package ledger
