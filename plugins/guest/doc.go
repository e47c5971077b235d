// Package guest is the kit that Cordon's plugins are written with in Go. A plugin
// is one function, from what a client presented to who it is:
//
//	package main
//
//	import "example.com/door/guest"
//
//	var _ = guest.ServeFunc(verify)
//
//	func verify(r *guest.Request) guest.Answer {
//		if string(r.Token) != "open" {
//			return guest.Refuse("another token")
//		}
//		return guest.Accept(guest.Subject{Kind: guest.Device, Type: "door", ID: "d1"})
//	}
//
//	func main() {}
//
// It is built into a module of about 2 MB with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o door.wasm
//
// Built for the machine it is written on, the same program can be tested with go
// test: what the host computes, crypto of the standard library computes there.
//
// # The contract
//
// The package speaks auth_abi v1, described in plugins/wasm/ABI.md, and imports
// the standard library alone, so that its source can be copied beside a plugin's.
//
//  1. The host initialises the module: [Serve] in a variable's initialiser names
//     the plugin.
//  2. The host hands settings over ([Config]), again whenever they change.
//  3. The host asks ([Request]) and the plugin answers ([Answer]), one call at a
//     time. The zero Answer refuses.
//
// # Invariants
//
//   - A request that cannot be read, a panic and an answer that cannot be written
//     are no answer, which the host takes for a refusal.
//   - Settings that are refused change nothing.
//   - No text that the package writes to the log or into an error quotes a value.
//   - [ParseJSON] gives one reading of a text, or none.
package guest
