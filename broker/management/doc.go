// Package management is the server of the device management protocol: devices say
// on iotdevice-1/… that they manage themselves, where they are and what is wrong with
// them, and are told on iotdm-1/… what to do.
//
// # Contract
//
//   - It hears what the broker let in under [Prefix], and speaks as the broker's own
//     principal, so both ways pass the doors that all messages pass. Whose device a
//     message is about is in its routed topic, which mounts and policies decided.
//   - A request that has a reqId is answered, {"rc":…,"reqId":…}: 200, 400 for what
//     breaks a rule, 403 for what a quota forbids, 404 for a device or attribute that there is not, 409 for what
//     may be tried again. One without is not.
//   - What one organisation says is dealt with in the order it was said, one after
//     the other; organisations do not wait for each other. A message of QoS 1 or 2
//     that was acknowledged is dealt with, even if the process dies in between; it is
//     removed from the store after what it changed is there, so it may be dealt with
//     twice, never not at all. One for which there is no room is answered 409, or
//     refused where it could not be answered.
//   - A managed device with a lifetime becomes dormant when it ends. That is
//     computed from the record whenever somebody asks; no timer can be lost.
//   - What a device is asked is stored before it is sent, each step of it, at QoS 1.
//     Where it waits in a session that is kept, nobody sends it again. Else it is sent
//     again when the process starts, and when the device says that it manages itself,
//     until it answers; always with the same reqId, so a device can tell.
//   - What an answer means is decided by the reqId and the device that the topic
//     names. So no device answers for another.
//   - Everything is bounded: see the constants of this package. The oldest requests
//     that are complete make room.
//
// Requests and what became of them stay on this machine. How a device is managed
// and the bundles of an organisation are the registry's, and move with it.
package management
