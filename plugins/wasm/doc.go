// Package wasm runs token verifiers that are WebAssembly modules: the plugins of
// a folder. It is the only package that imports wazero.
//
// # The contract
//
//  1. [Open] reads the folder, [Host.Run] watches it. DIR/ORG/NAME.wasm serves ORG,
//     DIR/_platform/NAME.wasm the organisations that its .yaml lists, DIR/NAME.wasm
//     the only organisation there is. README.md describes the .yaml.
//  2. A module is judged (exports, imports, sizes), rewritten so that it can always be
//     stopped, compiled, started, configured and self-tested. Only then it takes the
//     place of the version before; otherwise that stays, and one line says why.
//  3. [Host.Find] gives the verifier that a policy names. It looks the plugin up
//     for each credential, so that a change is seen by the next one.
//  4. A credential is framed as JSON and given to an instance; ABI.md is the whole
//     interface. The answer is parsed strictly and bound: no plugin makes a principal
//     of an organisation that it does not serve.
//
// # Invariants
//
//   - Anything but a well-formed good answer in time refuses. A plugin that failed to
//     load refuses its own credentials and nobody else's.
//   - A guest reaches no file, no network, no clock and no other guest. What it is
//     given is in ABI.md.
//   - Every call has a deadline, and runs on the goroutine of whoever asks. The rewriting
//     makes each guest ask now and then whether it is over (rewrite.go), and host
//     functions look, too (imports.go). What a guest waits for ends at the deadline.
//   - An instance belongs to one call at a time and to one organisation for good.
//     One that asked on behalf of nobody in particular is used once.
//   - An instance is closed after any error; no call uses it again.
//   - What a module declares is bounded before wazero sees it, because wazero sets
//     memory aside for it first (module.go).
//   - Good answers are repeated only where the guest says so, for the same request,
//     the same version and the same configuration.
//   - Neither a log line nor an error holds a credential, a secret or a part of one,
//     unless a guest encodes it on purpose.
//
// # Locks
//
// Host.scanning may be held while a plugin is loaded, and with it any lock of a
// plugin. The locks of pool, answers, quarantine and keySets are leaves. No guest
// runs under a lock but that of scanning.
package wasm
