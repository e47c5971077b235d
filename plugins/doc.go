// Package plugins says what a token verifier is: it turns a [Credential], which
// a client merely presented, into a policy.Principal, which is verified.
//
// # The contract
//
//  1. The policy's cordon.connect.verifiers names verifiers, in order.
//  2. Each is asked through the [Set]. [ErrNotMine] goes on to the next one; any
//     other error ends in refusal, so a later verifier can never widen what an
//     earlier one refused.
//  3. A reference with And asks for two proofs. When the first verifier has found a
//     principal, the second is asked too, and everything but the same organisation,
//     kind, type and id refuses: nobody is asked instead. The principal is the first
//     one's, with the second proof in its And, and stands as long as both do.
//  4. The principal's organisation comes from the verifier. Whoever asked checks
//     that everything else which names an organisation agrees with it.
//  5. A principal names its verifier. The names "token", "certificate", "claim"
//     and "anonymous" belong to the built-in ones: no plugin can have one.
//  6. A [Conversation] can lead an MQTT 5 AUTH exchange as well. The first that
//     does not answer [ErrNotMine] leads the [Exchange] to its end.
//
// A verifier authenticates. What the principal may do is the policy's answer.
//
// # Invariants
//
//   - A Credential prints as redacted, whatever the verb.
//   - A verifier returns a valid principal or an error, never both.
//   - A Set is immutable; a changed configuration is another Set. Plugins come and
//     go behind its [Source].
//   - An Exchange has at most TurnsMost turns, keeps at most StateMost bytes of its
//     verifier, and forgets the credential when it is over.
package plugins
