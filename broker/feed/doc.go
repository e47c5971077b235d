// Package feed joins the registry and the broker. The two do not know each other,
// so that neither decides what the other may become: this package says what a
// change of the registry's records means for live sessions, and asks the registry
// in the broker's words.
//
// It holds no state. Every kind of change the registry knows has an effect here.
package feed
