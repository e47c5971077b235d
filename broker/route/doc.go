// Package route finds who subscribed to a topic, and which retained topics a
// filter stands for. It is the structure that organisations are kept apart by:
// each has an [Index] and a [Names] of its own, so there is no key that another
// one's messages could be found under.
//
// # Contract
//
//   - Only routed topics go in. The rule about a leading $ speaks of the
//     client's spelling and is applied by whoever delivers.
//   - Every method is safe for concurrent use. Reads share a lock; none calls
//     out while it is held, except the visit functions of Match, which may not
//     call back.
//   - Generation changes with every change of the set, so whatever was computed
//     from Match holds as long as it stays the same.
//
// # Shape
//
// A tree with one level of the topic per node. Matching walks at most two
// branches per level (the literal and the +), each level once, and is bounded by
// topic.MaxRoutedLevels. An empty node is removed with its last entry, so the
// tree does not remember what clients once subscribed to.
package route
