// Package revocation finds out whether client certificates were revoked: it keeps
// the lists (CRL) that their issuers publish, and asks the OCSP responders that they
// name.
//
// # Whom it believes
//
// A list counts when its issuer signed it, and an OCSP answer when the issuer, or
// somebody whom the issuer appointed for it, did. How they came here does not
// matter, so http will do.
//
//   - What any list that is kept has on it is revoked, also when the list is out of
//     date: nobody takes a revocation back by keeping the next list from arriving.
//   - Where the certificate names an OCSP responder, that is asked first. Good and
//     revoked are answers; unknown, or none at all, is not.
//   - Otherwise a list in date that is about the certificate is an answer: an
//     uploaded one, or the one of a distribution point that the certificate names,
//     which is fetched now if it is not kept.
//   - Where nobody is named, and no list is kept of the issuer, there is nothing to
//     ask, and the certificate stands.
//   - Where somebody is named, or a list is kept and out of date, and nobody
//     answers, the organisation's setting decides: strict refuses, with a cause of
//     its own; lenient accepts.
//
// # How it asks
//
// A connect waits at most five seconds for everything, two of them for OCSP. One
// question is under way at a time for each address of an organisation, a few for
// each organisation and for all; an address that failed is left alone for half a
// minute. Answers are bounded in size and number. Only addresses of the public
// internet are dialled, unless the operator says otherwise, whatever a name resolves
// to; redirects and proxies are not followed.
//
// In the background each list is fetched again long before it runs out, and each
// OCSP answer asked for again. The first that says revoked closes the connections of
// that certificate. The last good list stays in the registry, over restarts.
//
// # Invariants
//
//   - What is asked was named by a certificate that an authority of the organisation
//     vouches for; what a stranger shows makes nobody ask anything.
//   - No answer for one organisation is used for another.
//   - Close waits for every goroutine.
package revocation
