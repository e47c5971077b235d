// Package tenant keeps the server certificates of organisations: what their own host
// names show instead of the platform's certificate.
//
// What holds:
//
//   - An organisation shows certificates for ORG.DOMAIN and ORG.messaging.DOMAIN, and
//     for exact names that the operator allowed it, which no other organisation has.
//     A certificate with any other name is refused whole. The names are looked at again
//     whenever they may have changed, and one that is not allowed any more is not shown.
//   - Nothing with a star is taken: it would be for the names of others.
//   - A private key leaves in no answer, log line, error or export. The store has it
//     sealed with a key outside the store, for this organisation in this incarnation;
//     what is sealed opens nowhere else.
//   - What was stored is shown when the call returns. What cannot be used is logged,
//     and the platform's certificate is shown, never nothing.
//   - An expired certificate stays: clients without a clock go on, and those with one
//     would not trust the platform's either, unless they were told to.
package tenant
