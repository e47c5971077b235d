// Package confined evaluates rules that nobody vouches for: those an organisation
// uploads. It is safe to run beside everything else in one process.
//
// # Why not OPA's own evaluator
//
// That one is right for rules the operator wrote, and cannot be confined. It counts
// neither memory nor the depth of its own stack: a bundle of forty lines, each of
// which holds the one before twice, ends the whole process with a stack overflow
// that nothing can recover from (2^20 elements, one ==). So rules are planned by
// OPA, into the intermediate form that it publishes, and carried out here.
//
// # What bounds an evaluation
//
//   - Time: every statement may be the last one; see [Limits].
//   - Memory: whatever is put into an array, set or object is charged with all that
//     is inside of it, so what is shared counts each time it appears. No value can
//     be larger than what the evaluation may spend.
//   - Built-ins: an allow-list. What an allowed one returns is bounded by what it is
//     given, and so is the time it takes, because nothing can interrupt it. What is
//     returned is charged as well. See [Allowed].
//   - Numbers: short, and with small exponents, before arithmetic is done on them:
//     1e999999999 is short to write and takes gigabytes to add one to.
//   - Stack: nested calls and blocks are counted.
//   - Source: what compiling costs more for than the length of it is bounded before
//     ([CheckModules]), since OPA's compiler cannot be interrupted.
//
// Whatever is beyond a bound ends the evaluation with an error of class
// [ErrBounds]; the caller denies.
//
// # Invariants
//
//   - The answers are those of OPA: its own conformance cases are run against both.
//   - A failing built-in ends the evaluation with an error, as the strict mode of
//     OPA does.
//   - A Program is immutable and may be run by many goroutines.
//   - Explain gives the answer that Run gives, within the same limits. What it notes is
//     no larger than the program.
package confined
