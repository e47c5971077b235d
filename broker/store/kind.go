package store

import "fmt"

// Kind says what a key is about. The numbers are stored: they are never
// changed and never used again for something else.
type Kind byte

// Kinds of the global scope.
const (
	// KindSchema is the schema version of the whole store.
	KindSchema Kind = 0x01
	// KindDirectory maps the name of an organisation to its incarnation.
	KindDirectory Kind = 0x02
	// KindIncarnation is the last incarnation number that was given out.
	KindIncarnation Kind = 0x03
	// KindDecisionLog is the record of decisions, of all organisations.
	KindDecisionLog Kind = 0x04
)

// Kinds of an organisation's registry.
const (
	// KindOrganisation is the record of the organisation itself.
	KindOrganisation Kind = 0x10
	// KindDeviceType is a device type.
	KindDeviceType Kind = 0x11
	// KindDevice is a device or gateway.
	KindDevice Kind = 0x12
	// KindCredential is a salted and hashed proof of identity.
	KindCredential Kind = 0x13
	// KindAPIKey is an API key.
	KindAPIKey Kind = 0x14
	// KindUser is a user.
	KindUser Kind = 0x15
	// KindPolicy is the policy by which an organisation narrows the platform's.
	KindPolicy Kind = 0x16
	// KindRole is a role that an organisation made itself.
	KindRole Kind = 0x17
	// KindClaim is a claim that devices register themselves by.
	KindClaim Kind = 0x18
	// KindGroup is a group of devices.
	KindGroup Kind = 0x1a
	// KindServerCertificate is what an organisation's own host names show.
	KindServerCertificate Kind = 0x1b
	// KindManagedDevice is what a device said of how it is managed.
	KindManagedDevice Kind = 0x1c
	// KindActionBundle is a set of device management actions that an organisation made.
	KindActionBundle Kind = 0x1d
	// KindAuthority is a certificate authority that an organisation trusts.
	KindAuthority Kind = 0x1e
	// KindRevocationList is a list of certificates that an issuer has revoked.
	KindRevocationList Kind = 0x1f
)

// Kinds of an organisation's messaging.
const (
	// KindSession is the state of a kept session.
	KindSession Kind = 0x20
	// KindSubscription is a subscription of a kept session.
	KindSubscription Kind = 0x21
	// KindMessage is the body of a message, stored once for all its queues.
	KindMessage Kind = 0x22
	// KindQueue is a slot of a session's queue.
	KindQueue Kind = 0x23
	// KindInbound is a packet identifier received with QoS 2.
	KindInbound Kind = 0x24
	// KindOutbound is a packet identifier sent with QoS 2.
	KindOutbound Kind = 0x25
	// KindRetained is a retained message.
	KindRetained Kind = 0x26
	// KindWill is the will of a session.
	KindWill Kind = 0x27
	// KindArrival is a message that a part of the server has not dealt with.
	KindArrival Kind = 0x28
)

// Kinds of what is noted about an organisation's clients beside messaging.
const (
	// KindClientState is when a client was connected last, and whether it is.
	KindClientState Kind = 0x30
	// KindConnectionLog is a line of a device's connection log.
	KindConnectionLog Kind = 0x31
	// KindLastEvent is the last event of one name that a device sent.
	KindLastEvent Kind = 0x32
	// KindTraffic is how much an organisation sent and received on a day.
	KindTraffic Kind = 0x33
	// KindNoting is what an organisation wants noted.
	KindNoting Kind = 0x34
	// KindDiagnostic is an entry of a device's diagnostic log or error codes.
	KindDiagnostic Kind = 0x35
	// KindManagementRequest is a request of device management.
	KindManagementRequest Kind = 0x36
	// KindManagementTask is what such a request asks of one device.
	KindManagementTask Kind = 0x37
	// KindManagementOpen leads from a device to a task that is not complete.
	KindManagementOpen Kind = 0x38
	// KindViolation is how often clients violated what an organisation demands of
	// connections.
	KindViolation Kind = 0x39
)

// Kinds of what is derived from an organisation's registry, to find it by something
// else than its name.
const (
	// KindGroupMember leads from a group to its devices.
	KindGroupMember Kind = 0x40
	// KindAttached leads from a gateway to the devices behind it.
	KindAttached Kind = 0x41
	// KindRoleHolder leads from a role to the gateways that have it.
	KindRoleHolder Kind = 0x42
	// KindRegistered is how many devices certificates have registered.
	KindRegistered Kind = 0x43
)

// String returns the name of the kind, for logs.
func (k Kind) String() string {
	switch k {
	case KindSchema:
		return "schema"
	case KindDirectory:
		return "directory"
	case KindIncarnation:
		return "incarnation"
	case KindDecisionLog:
		return "decision-log"
	case KindOrganisation:
		return "organisation"
	case KindDeviceType:
		return "device-type"
	case KindDevice:
		return "device"
	case KindCredential:
		return "credential"
	case KindAPIKey:
		return "api-key"
	case KindUser:
		return "user"
	case KindPolicy:
		return "policy"
	case KindRole:
		return "role"
	case KindGroup:
		return "group"
	case KindServerCertificate:
		return "server-certificate"
	case KindClaim:
		return "claim"
	case KindAuthority:
		return "authority"
	case KindRevocationList:
		return "revocation-list"
	case KindSession:
		return "session"
	case KindSubscription:
		return "subscription"
	case KindMessage:
		return "message"
	case KindQueue:
		return "queue"
	case KindInbound:
		return "inbound"
	case KindOutbound:
		return "outbound"
	case KindRetained:
		return "retained"
	case KindWill:
		return "will"
	case KindArrival:
		return "arrival"
	case KindClientState:
		return "client-state"
	case KindConnectionLog:
		return "connection-log"
	case KindLastEvent:
		return "last-event"
	case KindTraffic:
		return "traffic"
	case KindNoting:
		return "noting"
	case KindDiagnostic:
		return "diagnostic"
	case KindManagedDevice:
		return "managed-device"
	case KindActionBundle:
		return "action-bundle"
	case KindManagementRequest:
		return "management-request"
	case KindManagementTask:
		return "management-task"
	case KindManagementOpen:
		return "management-open"
	case KindRegistered:
		return "registered"
	case KindViolation:
		return "violation"
	case KindGroupMember:
		return "group-member"
	case KindAttached:
		return "attached"
	case KindRoleHolder:
		return "role-holder"
	default:
		return fmt.Sprintf("kind-%#02x", byte(k))
	}
}
