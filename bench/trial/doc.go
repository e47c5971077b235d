// Command trial puts the real program through what its promises are about, over
// minutes instead of milliseconds: kill -9 under load, hours of mixed load,
// millions of kept messages, a start with many sessions, everybody reconnecting
// at once, and readers that stop.
//
//	go run ./bench/trial COMMAND
//
// README.md lists the commands and says what each number means.
//
// # Contract
//
//   - Progress goes to standard error, one summary in Markdown to standard output.
//   - Exit status 0, 1 where a promise was broken or the trial could not run, 2 usage.
//   - The program runs as a process of its own with its built-in policies, on
//     loopback addresses, in a folder that is removed at the end.
//   - Every trial ends by itself; an interrupt ends it early and removes what it made.
//
// # Invariants
//
//   - A client never has more waiting in a queue than the session's overflow rule
//     allows: whatever is missing was lost.
//   - What is counted is what a correct client would see; client state survives
//     every connection.
package main
