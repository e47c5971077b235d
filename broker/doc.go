// Package broker is the enforcement point: it turns connections into sessions
// and carries messages between the sessions of one organisation, asking the
// policy at every step.
//
// # The way of a packet
//
//	listen ─► serve ─► connect: credential ─► Verifiers ─► Principal
//	   ─► stand: connect decision ─► will judged ─► attach: CONNACK, resume
//	AUTH ─► turn: the verifier's exchange ─► renew: everything judged for the renewed Principal
//	PUBLISH ─► resolve: alias, mount in ─► admit: authorise ─► retain ─► deliver ─► commit ─► acknowledge
//	SUBSCRIBE ─► subscribe: split, mount in, authorise ─► index ─► SUBACK ─► sendRetained
//	deliver ─► clear: stale? receive? mount out ─► transmit ─► outbox ─► socket
//	Caller ─► recognise: credential or memory ─► current: connect ─► Publish ─► admit ─► deliver ─► commit ─► answer
//	Caller ─► Receive ─► poll: a session without a socket ─► subscribe ─► clear ─► transmit ─► answer
//	Voice ─► Say: what the broker itself has to say, as a principal of kind system ─► admit ─► deliver
//	arrive, leave, turnedAway ─► Monitor: told, and not waited for
//
// # Invariants
//
//   - admit is the only way a message enters: PUBLISH, wills, what callers
//     without a connection send and what the broker itself says pass it.
//   - clear and transmit are the only way a message leaves: live, retained,
//     queued and resent ones pass them. A [cleared] value is the proof.
//   - What a client may touch is its space, chosen once by its verified
//     principal. No topic, client ID, share name or policy answer selects one.
//   - A session belongs to (organisation, subject, client ID). Nobody resumes or
//     takes over what belongs to another subject.
//   - Nothing is answered from a decision of an older generation: publish and
//     clear look at the live generation first and judge a stale session anew.
//   - An acknowledgement leaves after the message is in every session it was
//     routed to, and stored for each that is kept; so does everything else that is
//     promised (see commit.go). What is clean or at QoS 0 never touches the store,
//     but for what is retained.
//   - Nobody waits for a reader: delivering is copying into memory that is
//     bounded, and a bound that is met costs its own session.
//
// # Locks
//
// In this order, each only while a later one is taken, never the reverse:
//
//	session.connectMu  serialises attach, subscribe, rejudge and the end of one session; policies are asked under it
//	known.guarded      the standing of a caller; policies are asked under it
//	polls.guarded      sessions of callers
//	space.guarded      sessions and counts of an organisation
//	session.guarded    subscriptions, queue, in-flight messages, will, timers
//	Broker.guarded     connections and spaces
//	conn.guarded, outbox.guarded
//
// No connectMu is held while another session is delivered to, since delivering
// may have to judge that one. No policy is asked and nothing is read, written or
// submitted to the store under any of the other locks.
//
// # Moments
//
// The tests of this package carry the number of the moment of authorisation
// they show, A1 to A27; TestMomentsAreShown lists them.
package broker
