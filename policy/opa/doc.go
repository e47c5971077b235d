// Package opa is the decision point: it loads a bundle of Rego modules, checks
// it, and answers what the enforcement points ask. It is the only package that
// imports Open Policy Agent.
//
// # From folder to answer
//
//  1. [Load] reads a bundle from an fs.FS, parses it as Rego v1, compiles it
//     strictly against the capabilities that are left (nothing reaches the
//     network, the environment or randomness) and against the JSON schemas of
//     input and answers, and runs its own tests. Its [Report] lists every
//     problem with file:line:col. A Bundle that has none is ready to run.
//  2. [Engine.Activate] makes a bundle the live one: one pointer swap, then the
//     watchers are told. Nothing is ever edited in place.
//  3. [Engine.Judge] makes a judge for one holder of facts. It turns a request
//     into an ast.Value, evaluates the entry point of its action, reads the
//     answer strictly, and remembers it.
//
// # Invariants
//
//   - Whatever goes wrong denies, with its own Cause: undefined, malformed,
//     error, timeout, panic. A failing built-in is an error.
//   - A Decide that starts after Activate returned never answers from an older
//     bundle: the live snapshot is read first, and memory belongs to one.
//   - What is remembered is found again only by a request that is equal in every
//     field the compiled rules of that action can read. The fields are compared
//     in full; a hash only finds the candidate. A policy that uses input other
//     than by constant names is given the whole request as its key.
//   - Errors, timeouts and panics are never remembered, nor are answers of rules
//     that can read the clock unless they say how long they hold.
//   - No evaluation runs under a lock.
package opa
