package broker

import (
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// codeOf is the one table from why Cordon refuses to what MQTT 5 calls it.
// MQTT 3.x has return codes for CONNACK alone; wire maps them from these.
func codeOf(cause policy.Cause) wire.Code {
	switch cause {
	case policy.CauseNone:
		return wire.Success
	case policy.CauseUnavailable, policy.CauseRevocation:
		return wire.ServerUnavailable
	case policy.CauseClientID:
		return wire.ClientIdentifierNotValid
	case policy.CauseTopic, policy.CauseSystemTopic:
		return wire.TopicNameInvalid
	case policy.CausePayloadSize:
		return wire.PacketTooLarge
	case policy.CauseLimit, policy.CauseQuota, policy.CauseStorage:
		return wire.QuotaExceeded
	case policy.CauseProtocol:
		return wire.ProtocolError
	case policy.CauseNotSupported:
		return wire.ImplementationSpecificError
	case policy.CauseShutdown:
		return wire.ServerShuttingDown
	default:
		// A policy's no, every way the engine can fail, and every bad credential
		// look the same from outside (MQTT 5 §4.13): not authorised.
		return wire.NotAuthorized
	}
}
