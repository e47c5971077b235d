// Package pki provides the certificate a server shows, in one of two ways.
//
// [Open] keeps a certificate authority of its own in a folder and issues the
// server certificate from it:
//
//	ca.crt       given to clients, valid 10 years
//	ca.key       mode 0600; whoever has it can pose as the broker
//	server.crt   valid 397 days, issued again when less than a third is left
//	server.key   mode 0600; kept when server.crt is issued again, so that
//	             clients which pin the key stay connected
//
// [FromFiles] uses the operator's own certificate and watches its files. [Shown] puts
// certificates by server name before either: package tenant those of organisations,
// package acme those that an authority issues to the platform. [ParseChain] checks what
// others than the operator bring, and [Seal] hides their keys:
//
//	seal.key     mode 0600; without it the store's keys of organisations are lost
//
// What holds:
//
//   - TLS 1.2 or newer; under 1.2 only forward-secret suites with authenticated
//     encryption.
//   - A new certificate is one pointer swap. Handshakes in progress and live
//     connections keep the old one.
//   - The CA never changes by itself. Without ca.crt it is made again from
//     ca.key with the same name and key, and clients with the old file still
//     trust it. Without ca.key, or with a damaged file, Open says what to do.
//   - Each file is replaced by a synced rename, and each state between two
//     writes is one that Open continues from.
//   - What cannot be loaded never replaces what works.
//   - No error and no log line holds key material.
//
// A folder belongs to one process at a time; the caller's lock on its data
// folder sees to that.
package pki
