// Package listen accepts connections and survives doing so.
//
// A [Listener] takes connections from any [net.Listener], sets them up and
// hands each one to a handler in a goroutine of its own:
//
//	slots (MaxConns) → accept → place among the pending (Admission)
//	  → deadline (SetupTimeout) → PROXY header → limits of the address
//	  → TLS (MaxHandshakes) → handler
//
// [ServeHTTP] gives such connections to an http.Server. A [WebSocket] behind it
// upgrades requests and makes a [Conn] of each, so MQTT comes to the broker in
// the same form through every door.
//
// What holds:
//
//   - The accept loop ends when the listener is closed and for no other reason.
//     Running out of file descriptors or memory slows it down, 5 ms to 1 s a try.
//   - At MaxConns, its own or the one of all listeners, the listener leaves new
//     connections in the kernel's queue, and goes on as soon as a handler
//     returns. A connection holds its slots from accept until its handler
//     returns, and is closed then, so none outlives it.
//   - Until its owner says [Conn.Authenticated], a connection is pending. Pending
//     connections are few, in all and of one address, and one address opens only
//     so many a second; more are closed at once, before TLS. Logging that costs a
//     line a second. Loopback addresses have no limits of their own.
//   - An address is an IPv4 address or an IPv6 /64. Tables of addresses are
//     bounded. Behind a listed proxy it is the one the proxy names; nobody else
//     can name one.
//   - Until the owner sets another deadline, a connection has until SetupTimeout
//     after accept for everything: PROXY header, TLS and the first packet share
//     that time. An upgrade to WebSocket starts it anew.
//   - MaxHandshakes bounds the handshakes that compute at one moment. One that
//     waits for its peer does not count, so a peer that stalls delays nobody.
//   - A panic costs the connection it happened on. It is logged with its stack
//     but without its value, which may quote what the peer sent.
//   - Close ends what is not handed over yet and leaves alone what is.
//
// Locks are taken in this order: a place, then the pending count of Admission; a
// WebSocket's writing, then its out. All others are taken alone.
package listen
