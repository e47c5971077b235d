// Package durable is the typed layer of messaging on the store: how sessions
// that outlive their connection, their subscriptions and queues, retained
// messages and wills are spelt as keys and values.
//
// # Contract
//
//   - A record is what one key holds. Append writes it, Parse reads exactly what
//     Append wrote: anything else, one byte too many included, is an error.
//   - A [Space] is the part of the store that belongs to one incarnation of one
//     organisation. Its methods make every key of it; nobody else does.
//   - A session is a number, given out once and never again for another session
//     while anything under it may be stored. All that belongs to it is stored
//     under its number, so one session can end and the next of the same name
//     begin without waiting for each other's writes.
//   - A queue is a ring of slots ([Slots] of them): the slot of a message is also
//     its packet identifier, so that the identifier is stored before a message
//     leaves, without a write of its own, and the keys of a queue are the same
//     few for ever. An ordered store keeps traces of every key that was ever
//     deleted.
//   - A message that one queue alone has is stored in its slot; one that several
//     have is stored once, under a number, and the slots name it.
//
// # Versions
//
// Each value begins with the version of its layout. The store has a schema
// version for what concerns several records at once.
package durable
