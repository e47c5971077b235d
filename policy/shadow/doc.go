// Package shadow lets a policy that is not live judge what the live one was asked,
// beside it, and reports where the two differ.
//
// # The contract
//
//   - [Shadow.Observe] is given questions with the answer that was enforced. It
//     never blocks: what does not fit the queue is dropped and counted, and so is what
//     the candidate has no quota left for.
//   - One goroutine asks the candidate, with the time of the question, and compares
//     with [policy.Compare]. Nobody waits for it and no quota is spent.
//   - Each question stands for as many as its weight says: it was one of a sample.
//   - A shadow ends by itself when the differences reach Options.StopAfter, or when
//     Options.PromoteAfter questions were compared without that; then Promote is
//     called, once. Otherwise Close ends it.
//
// What a session may do later depends on the roles and groups that its connect was
// answered with. A shadow asks about those that were given, so a candidate that
// gives others shows that once, at the connect.
package shadow
