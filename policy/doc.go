// Package policy owns the words everyone shares: who asks (Principal), what is
// asked (Action, Request), what is answered (Decision), and who answers
// (Decider). Everything else in Cordon points here; this package imports only
// the standard library and policy/topic.
//
// # The contract
//
// The broker and the REST API are enforcement points: they build a [Request]
// from a verified [Principal] and ask a [Judge]. The policy engine is the
// decision point: it answers with a [Decision] and never with an error beside
// it. Whatever goes wrong inside (a rule that is undefined, an answer of the
// wrong shape, a timeout, a panic, a missing package) is itself a Decision that
// denies, with its own [Cause].
//
// # Invariants
//
//   - The zero Decision denies.
//   - Values of OrgID, ID and ClientID come from their Parse functions.
//   - A Principal is verified. What a client merely claims is a
//     plugins.Credential, and never reaches a Request.
//   - Facts, Decision and everything they point to are immutable once handed
//     out; whoever needs another value builds a new one.
//   - No decision outlives its generation: a Judge looks at the live bundle
//     before it answers from memory, and a registry change replaces the Facts.
package policy
