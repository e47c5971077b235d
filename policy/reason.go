package policy

// Cause is the closed set of why Cordon refuses. Each is counted apart and is
// the reason= of a refusal in the log; a policy's own words travel beside it in
// Decision.Reason.
type Cause string

// CauseNone belongs to a decision that allows.
const CauseNone Cause = ""

// The policy answered, and the answer is no.
const CausePolicy Cause = "policy"

// The engine could not get an answer; each of these denies.
const (
	CauseUndefined Cause = "policy_undefined" // no rule gave a value, or the package is missing
	CauseMalformed Cause = "policy_malformed" // the answer has the wrong shape
	CauseError     Cause = "policy_error"     // evaluation failed: a built-in's error, a conflict
	CauseTimeout   Cause = "policy_timeout"
	CausePanic     Cause = "policy_panic"
	// An evaluation has finite room as it has finite time.
	CauseInputSize  Cause = "policy_input_too_large"
	CauseOutputSize Cause = "policy_output_too_large"
)

// A credential was refused before any decision.
const (
	CauseUnknown      Cause = "credential_unknown"     // no verifier knows it
	CauseBad          Cause = "credential_bad"         // a verifier knows it and it is wrong
	CauseDisabled     Cause = "credential_disabled"    // device, key or organisation is switched off
	CauseExpired      Cause = "credential_expired"     //
	CauseUnavailable  Cause = "credential_unavailable" // the verifier could not say
	CauseRevocation   Cause = "revocation_unknown"     // nobody could say whether the certificate was revoked
	CauseNoOrg        Cause = "organisation_unknown"   //
	CauseRevoked      Cause = "credential_revoked"     // it was good until now
	CauseClientID     Cause = "client_id"              // ill-formed, or not allowed with this session
	CauseMismatch     Cause = "organisation_mismatch"  // server name and credential disagree
	CauseTopic        Cause = "topic"                  // ill-formed, or under no mount
	CauseSystemTopic  Cause = "topic_reserved"         // $SYS belongs to the broker
	CausePayloadSize  Cause = "payload_too_large"      //
	CauseRetain       Cause = "retain"                 // the policy refuses retained messages
	CauseLimit        Cause = "limit"                  // a limit of the connect decision
	CauseQuota        Cause = "quota"                  // a quota of the organisation
	CauseStorage      Cause = "storage"                // the message cannot be kept: storage is short or failed
	CauseProtocol     Cause = "protocol"               // the packet breaks MQTT
	CauseNotSupported Cause = "not_supported"          //
	CauseShutdown     Cause = "shutdown"               //
	CauseRejudged     Cause = "no_longer_allowed"      // a policy or registry change took it away
)

// Public is a phrase a client may see in place of a policy's reason.
func (c Cause) Public() string {
	switch c {
	case CauseNone:
		return "allowed"
	case CausePolicy, CauseUndefined, CauseMalformed, CauseError, CauseTimeout, CausePanic, CauseInputSize, CauseOutputSize:
		return "not authorised"
	case CauseUnknown, CauseBad, CauseDisabled, CauseExpired, CauseNoOrg, CauseRevoked, CauseMismatch:
		return "not authorised"
	case CauseUnavailable, CauseRevocation:
		return "the credential cannot be checked now"
	case CauseClientID:
		return "client identifier not valid"
	case CauseTopic:
		return "topic not valid"
	case CauseSystemTopic:
		return "topic is reserved"
	case CausePayloadSize:
		return "payload too large"
	case CauseRetain:
		return "retained messages are not allowed"
	case CauseLimit:
		return "limit exceeded"
	case CauseQuota:
		return "quota of the organisation exceeded"
	case CauseStorage:
		return "the message cannot be stored now"
	case CauseProtocol:
		return "protocol error"
	case CauseNotSupported:
		return "not supported"
	case CauseShutdown:
		return "server shutting down"
	case CauseRejudged:
		return "no longer authorised"
	default:
		return "refused"
	}
}
