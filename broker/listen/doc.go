// Package listen accepts connections and survives doing so.
//
// A [Listener] takes connections from any [net.Listener], sets them up and
// hands each one to a handler in a goroutine of its own:
//
//	slot (MaxConns) → accept → deadline (SetupTimeout) → TLS (MaxHandshakes) → handler
//
// A step that must come before TLS, such as reading a proxy's header, belongs
// between the deadline and TLS in setUp. A transport that brings its own
// listener, such as WebSocket, fills a [Conn] itself.
//
// What holds:
//
//   - The accept loop ends when the listener is closed and for no other reason.
//     Running out of file descriptors or memory slows it down, 5 ms to 1 s a try.
//   - At MaxConns the listener leaves new connections in the kernel's queue, and
//     goes on as soon as a handler returns. A connection holds its slot from
//     accept until its handler returns, and is closed then, so none outlives it.
//   - Until the owner sets another deadline, a connection has until SetupTimeout
//     after accept for everything: TLS and the first packet share that time.
//   - MaxHandshakes bounds the handshakes that compute at one moment. One that
//     waits for its peer does not count, so a peer that stalls delays nobody.
//   - A panic costs the connection it happened on. It is logged with its stack
//     but without its value, which may quote what the peer sent.
//   - Close ends what is not handed over yet and leaves alone what is.
package listen
