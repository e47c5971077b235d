// Package client is an MQTT 3.1.1 and 5 client whose session outlives its
// connections, as a trial of a broker that is killed needs one.
//
// # Contract
//
//   - A [Conn] is one connection that has its CONNACK. A [Sender] and a [Receiver] are
//     the two halves of a session's state; they belong to no connection and are
//     given one packet after the other, so that they survive every one.
//   - A Sender sends what is in flight again after each resume, in the order it
//     was sent first, with DUP and its packet identifier [MQTT-4.4.0-1] [MQTT-4.6.0-1].
//   - A Receiver takes a QoS 2 message once, however often it is sent under its
//     packet identifier [MQTT-4.3.3-10].
//
// # Invariants
//
//   - No packet of the broker makes this package panic, and none above maxPacket is read.
//   - No error and no text holds a password.
package client
