// Package monitor tells an organisation which of its clients come and go: by
// messages on iot-2/type/{type}/id/{id}/mon and iot-2/app/{app}/mon, and in the
// ledger, where client states, connection logs, last events and traffic are read
// from.
//
// # Contract
//
//   - The broker tells it and goes on: what it is told waits in a queue of finite
//     length, and one goroutine does everything else. What does not fit is dropped
//     and counted, and the truth is restored when there is room again: who is
//     connected then is asked of the broker.
//   - What is retained says whether a client is connected. A device's Connect and
//     Disconnect are retained, an application's Connect is, until its Disconnect. A
//     Disconnect of a client that is connected all the same, because another
//     connection took its place, changes nothing.
//   - State is stored before it is said. What is retained is in memory alone, and said
//     again at a start from what is stored: whoever was connected when the process
//     died is disconnected.
//   - What is told within a short pause is written together: of each client the last
//     state, of each log every line. It is said in its order; what nobody hears and
//     nothing keeps is not said. RATIONALE.md says why.
//   - A client whose device, key or organisation was deleted meanwhile leaves no
//     record and nothing retained.
//   - A connect that was refused is told only where its identity exists: a device
//     that is registered, an API key that there is. That is the word of somebody who
//     was not verified, so it changes no state, and it is rate-limited.
//
// The grammar of client IDs and topics is here and in the policies, not in package
// broker.
package monitor
