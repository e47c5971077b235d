// Package api is the REST interface: /api/v0002 for the administrators of an
// organisation, and /api/operator/v1 for whoever runs the broker.
//
// # The contract
//
//   - /api/v0002 answers as the Watson IoT Platform did: paths, status codes,
//     object shapes, the list envelope and the error body.
//   - The caller shows HTTP Basic: an API key and its token, or NAME@ORG and a
//     password. Or it shows a Bearer token and, in the header X-Cordon-Plugin, the
//     name of the plugin that knows it; bearer.go says why there. Anything that
//     does not hold is 401 and always the same answer.
//   - Messages by HTTP lie under /api/v0002 too. They are the business of
//     [Messaging], which asks the verifiers and policies that MQTT asks, and not of
//     cordon.admin; messaging.go and messaging_caller.go say how.
//   - Every other route of /api/v0002 is decided by the policy (cordon.admin)
//     before its handler runs. A denial is 403 with the policy's public reason and the
//     decision's ID. A bulk call is decided once for each device type that it
//     names, as target.typeId; entries of a type that is denied fail alone.
//   - /api/operator/v1 takes a Bearer token on the HTTPS listener, and nothing on
//     the control socket, whose file mode is the credential. It is not decided by
//     a policy; every call is logged.
//   - /metrics is the operator's in the same way. Only who is refused there is
//     logged: it is asked every few seconds.
//   - Whatever fails, unknown paths included, answers with [ErrorBody].
//
// # Invariants
//
//   - A route exists only through handle, stream or transfer, or for /metrics through mountMetrics,
//     which puts the surface's gate in front of it. A handler cannot be called
//     without the call that the gate made, nor one of messages without the
//     Messenger that enter returned.
//   - The organisation is that of the verified credential. Handlers know no
//     other (a host name may choose whose device tokens are consulted, and the
//     token has to hold there): no path, query, header or body can name one. A client ID or API key
//     in a path that belongs to another organisation is unknown, 404.
//   - A body is read only for a caller who is verified, within its size limit,
//     and the credential is looked at again afterwards, so a slow body cannot
//     outlive a revocation.
//   - A stream of events outlives neither its credential nor its permission: both are
//     looked at again before an event, at most a second after the last look. How many
//     are open is bounded for each organisation, and organisations leave some to the
//     operator.
//   - A token leaves in the answer to the call that made it and nowhere else. No
//     body, no Authorization header and no password reaches a log.
//
// # Null and absent
//
// In a body, a property that is absent or null keeps the stored value; in a
// creation it takes the default. DeviceInfo is merged field by field, metadata is
// replaced as a whole, because its contents are the caller's own. Properties that
// a request does not have are ignored, and so are unknown query parameters, except in
// lists that can be restricted: whoever misspells a filter would get the whole list.
//
// # Queries
//
// A handler reads no parameter of the query that its operation does not describe: for
// it, any other is not there. So the OpenAPI document has them all.
//
// # Why not huma.Register
//
// Routes use huma's adapter, schemas and OpenAPI document, and not its request
// pipeline. That pipeline runs middleware by registration order, repeats request
// values in its error bodies, answers 422, takes its error type from a package
// variable, and panics when an answer cannot be written. The gate, the decoder
// and the error body are what this package is for, so handle does them itself.
package api
