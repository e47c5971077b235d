// Package plan evaluates one rule of a compiled policy faster than topdown, OPA's
// interpreter, does: OPA's planner writes the rule and all it needs as a plan of
// simple statements (package ir), and [Compile] makes Go closures of the plan.
//
// # What it promises
//
// A Program gives the value that topdown gives, or no value where topdown gives
// none. Where topdown ends with an error, a Program ends with one too, though it
// may be another one: whoever gets an error asks topdown, which also has the last
// word where it finds no error. It stops earlier at errors than topdown does, and
// it evaluates what the indexes of topdown leave out, so the other way round there
// is nothing to ask.
//
// What it does not claim, Compile refuses with [ErrUnsupported]: statements that
// no plan has today, jumps out of loops, print(), rules of so many bodies that an
// index finds the right one faster, and policies whose plan would grow out of
// proportion (the planner writes a reference with a variable once for each rule
// that it may mean, and what follows with it).
//
// # How it works
//
// A function of the plan becomes a function over a frame of slots, each a
// *ast.Term or nil for undefined: OPA's own values, so that built-ins are called
// as topdown calls them and nothing is converted. A statement becomes a closure,
// unless what it does is known when compiling: constants are folded, also whole
// literals and, where no rule replaces data, what is looked up in data by name.
// References into input by names are looked up once per evaluation. A rule without
// arguments is evaluated once for each pair of input and data.
//
// # Invariants
//
//   - A Program is immutable and safe for concurrent use. Each evaluation has a
//     machine of its own, taken from a pool and emptied before it goes back.
//   - A value that anybody else can see is never changed: what is being built is
//     in a builder until it is first read, and a copy is made afterwards.
//   - Cancellation is looked at before every call and in every turn of a loop.
//   - The call graph of a plan has no cycle, so that the stack has its full size
//     from the start.
package plan
