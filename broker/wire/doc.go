// Package wire reads and writes MQTT packets: framing, limits, decoding of
// what clients send, encoding of what the server sends, for MQTT 3.1, 3.1.1 and 5.
//
// # Contract
//
// A Reader turns the bytes of one connection into packets. What it returns is
// valid: every rule of the specification that one packet, or its place after
// CONNECT, can break has been checked, so the broker trusts the types. What
// needs memory of other packets or knowledge of the broker is left to it:
//
//   - topic aliases beyond the announced maximum, or never set;
//   - the grammar of topic filters (policy/topic), and which topics exist;
//   - which client identifiers are welcome, the empty one included;
//   - packet identifiers in use, Receive Maximum, quotas;
//   - a Session Expiry Interval in DISCONNECT after zero in CONNECT (MQTT 5 §3.14.2.2.2);
//   - whether a payload is the UTF-8 its Payload Format Indicator says.
//
// A peer that breaks a rule gets an *Error with the reason code to close it
// with; AppendRefusal encodes the goodbye its version has, if any.
//
// The appenders add one packet to a byte slice. They do not fail: a property
// that cannot be encoded or does not fit the client's Maximum Packet Size is
// left out, and a packet that cannot be sent at all is not appended. MQTT 3.x
// receives what it has words for.
//
// # Invariants
//
//   - No input makes this package panic; should a decoder do so all the same, the Reader
//     returns an *Error and only that connection ends.
//   - No packet above the Reader's limit is read, and memory is allocated for
//     bytes that have arrived, not for lengths that are claimed.
//   - Reading a PUBLISH without properties, a PUBACK and its like, or a
//     PINGREQ, and appending any of them, allocates nothing.
//   - An *Error holds fixed text only: no byte of the peer, no secret.
//   - Connect and Auth print redacted.
//
// Only this package and its wiretest import mochi's packet codec; RATIONALE.md
// says what for.
package wire
