// Package audit is the decision log: what was decided, for whom and why, in the
// shape of Open Policy Agent's decision log events, so that whatever reads those
// reads these.
//
// # From decision to record
//
//  1. [Log] stands around a policy.Decider. Each denial, and one permit of as many
//     as [Sample] says, becomes an [Entry]: a copy that nobody changes any more.
//  2. Entries wait in a ring of bounded length. Nothing ever waits for the ring:
//     when it is full, the entry is dropped and counted.
//  3. One goroutine has them rendered (a [Renderer] writes input and result as
//     JSON, masks what the bundle says, and drops what it says), and hands each
//     [Event] to the live listeners and to the queue of every [Sink].
//  4. Each sink has a goroutine and a bounded queue of its own, so that a slow
//     server does not hold up a file.
//
// # Invariants
//
//   - Deciding never waits for the log. A permit that is not sampled costs a random
//     number and no allocation.
//   - Denials are not sampled. The same answer to one holder within a second is one
//     record at once, and one with the count of the others when the second is over.
//   - What is lost is counted by [Log.Stats]: in the ring, in the queue of a sink, by
//     a sink that failed.
//   - An organisation that is refused without end loses its own records and not those
//     of others: each has its own rate here and its own share of a [Store].
//   - No record holds a payload, a password or a token: requests and facts have none.
//   - A Weight says for how many decisions a record stands; sums of Count times Weight
//     estimate all of them.
package audit
