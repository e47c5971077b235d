// Package certificate is the built-in verifier "certificate": it turns the client
// certificate of a TLS connection into a principal.
//
// # Who somebody is
//
// A certificate names a device or gateway in its common name, or in an e-mail
// address of its subject alternative names:
//
//	d:{type}:{id}   g:{type}:{id}   a:{app}
//
// With an empty id it stands for every device of that type, and the client
// identifier names which. No organisation is in it: two organisations may well have
// devices of the same names.
//
// # Whose somebody is
//
//  1. TLS only asks for a certificate. Nothing is verified there, and there is no
//     pool in which the authorities of several organisations meet.
//  2. The client identifier names the organisation. The TLS server name has to name
//     the same one: without it a certificate is refused.
//  3. The chain is verified against the authorities of that organisation and no
//     others, at the time of the clock, for the purpose of a TLS client. Whatever
//     else was presented helps to build a chain and is never trusted.
//  4. The client identifier has to be one that the certificate stands for.
//  5. Nobody in the chain may have been revoked; see [Revocation].
//
// The same steps are taken at each CONNECT. A resumed TLS session carries the
// certificates of the one before and is verified like any other.
//
// # What the principal says
//
// Its credential, a [Proof], names the authority, the certificate, and issuer and
// serial number of each certificate below the authority. So whoever takes an
// authority away or loads a list of revoked certificates can tell which connections
// that concerns. It expires with the first certificate of the chain.
//
// # Invariants
//
//   - No answer is the other organisation's: all that is asked is found through the
//     organisation of the client identifier.
//   - Parsers take any bytes, bound what they take, and never panic.
//   - An organisation without authorities is as one that does not exist: not mine.
package certificate
