// Package load puts load on an MQTT broker and says what came of it.
//
// A [Flow] has publishers and readers: many to one, one to many, or in pairs;
// QoS 0, 1 or 2; plain or TLS. With a Window it is a closed loop: a publisher
// has at most that many messages open, and a message is open until every reader
// has it and, above QoS 0, the broker has acknowledged it. With a Rate it is an
// open one: messages are due at moments of a Poisson process, whatever the
// broker does, and their latency counts from the moment they were due, not from
// the one they were sent. A [Storm] connects and disconnects, [Hold] keeps idle
// connections, [Crowd] and [Churn] are other people's subscriptions, and
// [Flow.Leave] and [Flow.Collect] say what a session kept while nobody was there.
//
// The generator shares the machine with the broker, so it has to be cheap:
// packets are encoded once and stamped, a closed loop has no goroutine that
// sends (whoever frees a place in a window fills it), and what can be written
// together is.
//
// Invariants:
//   - What is counted arrived: each message carries the run, its publisher and
//     its number, and a reader counts only messages of its own run and
//     publishers, each number once.
//   - No broker is trusted: packets are bounded and decoded as hostile input.
//   - Every goroutine ends before the function returns that started it.
//   - Nothing here prints credentials.
package load
