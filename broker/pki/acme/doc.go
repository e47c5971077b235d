// Package acme gets server certificates from a certificate authority over ACME [RFC
// 8555] and renews them. It is the only package that knows certmagic.
//
// What holds:
//
//   - A name is proved on the listeners that are open anyway, by TLS-ALPN-01 [RFC 8737],
//     or, if told so, on a plain listener that is open while HTTP-01 needs it. Names
//     with a star need DNS and cannot be had.
//   - Only a client that offers the single protocol acme-tls/1 is shown a proof, only
//     while one is under way, and it gets nowhere after it.
//   - A certificate is shown as soon as it is there, those of an earlier run from the
//     first handshake on. What is shown goes on when renewal fails; before there is
//     any, whoever asks is shown what he would be without this package.
//   - A failure is logged with what to do, and tried again after a pause that grows, so
//     that the authority's limits are not met.
//   - Account and certificate keys are files below one folder of mode 0700, themselves
//     0600.
//   - Nothing runs after Close. certmagic's own background work is not used.
package acme
