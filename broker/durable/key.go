package durable

import (
	"encoding/binary"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Slots is how many slots a queue has, which is how many packet identifiers
// there are: 1 to 65535.
const Slots = 65535

// Slot is the slot, and the packet identifier, of the message with sequence
// number seq in its queue.
func Slot(seq uint64) uint16 { return uint16(seq%Slots) + 1 }

// Space names the keys of one incarnation of one organisation.
type Space struct{ scope store.Scope }

// In returns the space of an organisation in one incarnation.
func In(org policy.OrgID, incarnation uint64) Space {
	return Space{store.In(org.String(), incarnation)}
}

// Session is the key of a session's record.
func (s Space) Session(id uint64) store.Key {
	return s.scope.Key(store.KindSession, store.Uint64(id))
}

// Subscription is the key of one of a session's subscriptions.
func (s Space) Subscription(session uint64, number uint32) store.Key {
	return s.scope.Key(store.KindSubscription, store.Uint64(session), store.Uint64(uint64(number)))
}

// Entry is the key of a slot of a session's queue.
func (s Space) Entry(session uint64, slot uint16) store.Key {
	return s.scope.Key(store.KindQueue, store.Uint64(session), short(slot))
}

// Inbound is the key of a packet identifier that a session received at QoS 2
// and has not been asked to release.
func (s Space) Inbound(session uint64, id uint16) store.Key {
	return s.scope.Key(store.KindInbound, store.Uint64(session), short(id))
}

// Will is the key of a session's will.
func (s Space) Will(session uint64) store.Key {
	return s.scope.Key(store.KindWill, store.Uint64(session))
}

// Message is the key of a message that several queues share.
func (s Space) Message(id uint64) store.Key {
	return s.scope.Key(store.KindMessage, store.Uint64(id))
}

// Arrival is the key of a message that a part of the server has not dealt with.
func (s Space) Arrival(slot uint16) store.Key {
	return s.scope.Key(store.KindArrival, short(slot))
}

// Retained is the key of what is retained under a topic.
func (s Space) Retained(name topic.RoutedName) store.Key {
	return s.scope.Key(store.KindRetained, name.String())
}

// Prefix finds all keys of one kind.
func (s Space) Prefix(kind store.Kind) store.Prefix { return s.scope.Prefix(kind) }

// short is n as a key part of two bytes.
func short(n uint16) string {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return string(b[:])
}

// Owner reads the session's number, and for a part of a session its own number
// or slot, from a key; ok is false for a key that no method here makes.
func Owner(key store.Key) (session, part uint64, ok bool) {
	parts := key.Parts()
	if len(parts) == 0 || len(parts) > 2 {
		return 0, 0, false
	}
	session, ok = store.ParseUint64(parts[0])
	if !ok || len(parts) == 1 {
		return session, 0, ok
	}
	if len(parts[1]) == 2 {
		return session, uint64(parts[1][0])<<8 | uint64(parts[1][1]), true
	}
	part, ok = store.ParseUint64(parts[1])
	return session, part, ok
}
