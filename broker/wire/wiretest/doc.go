// Package wiretest lets tests speak MQTT as a client does: encoders for what a
// client sends, a decoder for what a server sends, a notation for raw bytes
// and a Client over any net.Conn.
//
// Encoders and decoder are mochi's, not package wire's own, so that a test
// which passes has been read by a second implementation. They encode what they
// are given: nothing is checked, and what is not valid is the test's wish. Mochi
// leaves out properties whose value is empty or zero where zero means absent;
// to send such bytes, or any malformed packet, write them with Bytes.
//
// Nothing here is fit for input that is not a test's own.
package wiretest
