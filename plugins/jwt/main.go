// Command jwt is the plugin that verifies JSON Web Tokens: signature, issuer,
// audience and times, with keys from key sets or shared secrets. Settings say
// which claims make the identity. README.md beside this file lists them.
//
// # Invariants
//
//   - A key is for one family of algorithms, fixed when the key was read. What a
//     token's header says only picks among the keys for that very algorithm.
//   - A claim is read after the signature was found to hold, and not before.
//   - A token without an end is refused.
//   - A reason never quotes a token.
package main

import "github.com/cordon-mq/cordon/plugins/guest"

var _ = guest.Serve(configure)

// main is never run: the host calls the module's exports.
func main() {}
