// Package listentest provides a network in memory for tests.
//
// A [Listener] is a [net.Listener] with a Dial method. Its connections behave
// like TCP on one machine: writes are buffered up to [BufferSize] bytes and then
// block, closing one end lets the other read what was sent and then io.EOF, and
// deadlines work. Nothing but conditions and timers is waited for, so programs
// under test may run in a testing/synctest bubble.
package listentest
