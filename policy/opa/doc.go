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
// An entry point is evaluated by its plan (package plan), which is compared with
// topdown, OPA's interpreter, from time to time, or by topdown where there is none;
// RATIONALE.md says why. Tests, coverage and explanations are topdown's.
//
// Bundles come from a folder ([Engine.Watch]), from an archive as OPA builds and
// signs them ([ReadArchive]; package remote fetches those), or from the book of
// revisions (package revision), which decides what goes live.
//
// # Two layers
//
// An organisation may have a bundle of its own, a [Narrowing]. It is asked after the
// live bundle allowed, with that answer in input.platform, and can only take away:
// of every field the narrower value holds. It is code that nobody vouches for, so it
// passes a gate of its own ([Engine.LoadNarrowing]), is planned and run by package
// confined, within a number of evaluations at once and a share of time for each
// organisation, and its covers count only for topics that both layers cover.
// [Engine.Narrow] makes one live; one that is stored is compiled when the first
// decision needs it, and until it is, its organisation is refused.
//
// A judge's generation is the sum of two counters, which only grow: activations of
// the live bundle, and changes of its organisation's. What is remembered belongs to
// one pair, and is keyed by what either layer can read.
//
// # Covers
//
// An answer to publish or receive may state by covers which other topics have the
// same answer. That collapses the topic and nothing else: every other field that
// the rules can read stays in the key, and a rule that reads input.topic is
// answered for one spelling of the client at a time. Wildcards cover no empty
// level, and at the start nothing that begins with $.
//
// The word of a policy is not taken for it. A session that publishes one topic
// never uses covers; the second topic that they reach starts a proof, beside the
// decisions: a random word and every string constant of the bundle, and what
// names the asker, in each wildcard position, each evaluated and compared. The
// whole of it is done once for principals of the same kind, roles and groups; for
// another one of them, a few random questions. From then on one covered answer of
// 1024 is evaluated and compared. A contradiction is logged with both answers,
// counted in [Stats], and ends the use of covers for that revision, whenever it
// is live. What cannot be settled is not used.
// Before a bundle is ever live, [CheckCovers] does the same with what its tests ask.
//
// # Records
//
// [Engine.Recorder] renders what package audit records: the whole input, the answer
// as it was understood, masked and dropped by the rules of package system.log. From a
// record, [Bundle.Replay] decides again, under any bundle, and lists what differs;
// [Bundle.Explain] says which rules gave the answer, and how far those got that would
// have given another; [Bundle.Describe] makes one of a question that a person wrote.
// None of them guesses: where a mask hides what the rules read, they say so.
//
// # Before a bundle is live
//
// [Engine.Beside] makes an engine that answers as this one would with another bundle,
// the organisations' on top as they are at each moment: for previews and shadows, which
// nobody waits for. [Engine.StartCanary] makes a second bundle live for some principals
// ([Chosen]): one snapshot holds both, so a session sees one or the other and never a
// mixture, and its end is an activation like any other. [Bundle.ReplayNarrowed] is
// Replay with a bundle of the record's organisation on top.
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
//   - A covering answers only after it was proven, under its own generation.
//   - Rules are given what they can read of a request, no more than InputMax bytes,
//     and answer within Timeout and OutputMax bytes; beyond, there is a denial with
//     a cause for each.
//   - Errors, timeouts and panics are never remembered, nor are answers of rules
//     that can read the clock unless they say how long they hold.
//   - No evaluation runs under a lock.
package opa
