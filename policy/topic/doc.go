// Package topic holds the topic words everyone shares: names, filters, shared
// subscriptions, matching, and the mounts that translate between the topic a
// client writes and the topic inside its organisation.
//
// # Two spellings, four types
//
// [Name] and [Filter] are spelt as the client wrote them. [RoutedName] and
// [RoutedFilter] are spelt as the broker routes them, relative to an
// organisation. Only [Mounts] and [Mount] convert, so a topic that skipped its
// mount does not compile. The organisation itself is never part of a topic: it
// selects the index, the retained store and the session space.
//
// # Invariants
//
//   - A value of one of the four types, if not its zero value, is valid: it came
//     from Parse…, or from a Mount applied to a valid value.
//   - Out(In(n)) == n for every name a mount accepts; a routed name has at most
//     one client spelling under one mount.
//   - Everything here is a pure function without state. The policy engine and
//     the router use the same matcher, so they cannot disagree.
package topic
