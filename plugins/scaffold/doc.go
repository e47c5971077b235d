// Package scaffold writes the beginnings of a plugin: a project in one of four
// languages that builds with the network off and verifies tokens from the start.
//
// All four are the same small plugin. It takes tokens TYPE/ID.SIGNATURE, signed
// with HMAC-SHA256 under a secret of its settings, and answers with that device.
//
// # Invariants
//
//   - A project's secret is its own, drawn when the project is written.
//   - [Write] changes nothing that is already there, and leaves nothing behind when
//     it fails.
//   - A Go project holds a copy of package guest and requires no module.
package scaffold
