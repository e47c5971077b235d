// Package remote fetches policy bundles from an HTTPS server, in the form in
// which OPA builds and signs them.
//
// # One round
//
//  1. Ask for the bundle, with the ETag of the last one that was looked at.
//  2. Read all of it, within bounds, and leave it if it is what was looked at
//     last: a server without ETags costs its transfer and no more.
//  3. Unpack it and verify its signature with the pinned key, load it as any
//     other bundle, and offer it.
//
// # Invariants
//
//   - Nothing that goes wrong touches the live policy: the last good bundle stays.
//   - HTTPS alone, redirects included. A bundle that is not signed is refused
//     unless that was asked for.
//   - Rounds are spread by jitter, and become rarer while the server fails.
//   - A bundle that is refused is logged once, not every round.
//   - What authorises the request, and the query of the URL, are never logged.
package remote
