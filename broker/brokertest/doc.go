// Package brokertest runs a broker for the tests of what works beside it, such as
// device management: with its registry and ledger, on a network in memory and a disk
// in memory that outlives it.
//
// A run has three steps, and three that undo them in reverse: [Node.Open] and
// [Node.Close] for what is stored, [Node.Restore] and [Node.Shutdown] for the broker,
// [Node.Listen] and [Node.StopListening] for those who connect. What is under test
// starts and stops between them, where it does in the program. Nothing here decides:
// a test brings its decider.
package brokertest
