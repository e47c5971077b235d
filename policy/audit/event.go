package audit

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Event is one record, an EventV1 of Open Policy Agent. What OPA has no field for
// is in Custom. It is immutable once a Renderer has returned it.
type Event struct {
	Labels     map[string]string     `json:"labels"` // id of the node, version of the program
	DecisionID string                `json:"decision_id"`
	Bundles    map[string]BundleInfo `json:"bundles,omitempty"` // "cordon" and, where one answered, "organisation"
	Path       string                `json:"path"`              // of the rule, such as "cordon/publish/decision"
	// Input is what the rules were asked, and Result what they answered, as the
	// schemas describe them. Either is absent when a mask took it away.
	Input  json.RawMessage `json:"input,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	// Erased and Masked are the paths below input and result that a mask removed or
	// replaced, such as "/input/principal/claims".
	Erased      []string         `json:"erased,omitempty"`
	Masked      []string         `json:"masked,omitempty"`
	RequestedBy string           `json:"requested_by,omitempty"` // address of the client
	Timestamp   time.Time        `json:"timestamp"`              // UTC
	Metrics     map[string]int64 `json:"metrics,omitempty"`      // nanoseconds
	Custom      Custom           `json:"custom"`

	encoded []byte
}

// MetricEval is how long the rules took; absent when no rule was asked.
const MetricEval = "timer_rego_query_eval_ns"

// Names in Event.Bundles.
const (
	BundlePlatform     = "cordon"
	BundleOrganisation = "organisation"
)

// BundleInfo says which bundle answered.
type BundleInfo struct {
	Revision string `json:"revision,omitempty"`
}

// Custom are the fields that OPA's events do not have.
type Custom struct {
	Org         string       `json:"org,omitempty"`
	Incarnation uint64       `json:"incarnation,omitempty"` // of the organisation
	Action      string       `json:"action"`                // of policy.Action, or "verifiers"
	Client      string       `json:"client,omitempty"`      // client identifier
	Allow       bool         `json:"allow"`
	Reason      string       `json:"reason,omitempty"` // the policy's own, which the client saw
	Cause       policy.Cause `json:"cause,omitempty"`
	Detail      string       `json:"detail,omitempty"` // for operators: file:line:col and what went wrong
	Count       uint64       `json:"count"`            // equal decisions in this record
	Weight      uint64       `json:"weight"`           // of how many permits this is the sample; 1: of all
	// DecidedAt is when the rules were asked: an answer may be given from memory.
	DecidedAt  *time.Time      `json:"decided_at,omitempty"`
	Credential *Credential     `json:"credential,omitempty"`
	Mounts     json.RawMessage `json:"mounts,omitempty"` // of a connect
	Limits     json.RawMessage `json:"limits,omitempty"` // of a connect
	// MaskFailed says that the bundle's mask failed, and that input and result were
	// taken away for that.
	MaskFailed bool `json:"mask_failed,omitempty"`
}

// Credential names the proof that a principal was verified by.
type Credential struct {
	Verifier string `json:"verifier"`
	ID       string `json:"id,omitempty"`
	Version  uint64 `json:"version,omitempty"`
}

// ActionVerifiers is the action of a failed choice of verifiers, which comes before
// there is anybody to decide for.
const ActionVerifiers = "verifiers"

// maxEvent bounds an event as JSON, in bytes: an input and an answer of the largest
// size an engine takes, and room to spare.
const maxEvent = 1 << 20

// JSON is the event on one line, without the line end. The slice is shared and may
// not be changed.
func (e *Event) JSON() ([]byte, error) {
	if e.encoded != nil {
		return e.encoded, nil
	}
	return json.Marshal(e)
}

// WithDetail is a copy of the event with another Custom.Detail.
func (e *Event) WithDetail(detail string) *Event {
	other := *e
	other.Custom.Detail, other.encoded = detail, nil
	return &other
}

// seal encodes the event once for all who write it.
func (e *Event) seal() error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode decision %s: %w", e.DecisionID, err)
	}
	if len(text) > maxEvent {
		return fmt.Errorf("decision %s has %d bytes, at most %d are kept", e.DecisionID, len(text), maxEvent)
	}
	e.encoded = text
	return nil
}

// ParseEvent reads one event as JSON writes it. Fields it does not know are OPA's
// own and are skipped. The error is KindInvalid.
func ParseEvent(text []byte) (*Event, error) {
	if len(text) > maxEvent {
		return nil, &policy.Error{Kind: policy.KindTooLarge, Op: "read decision", Public: "a recorded decision has at most 1 MiB"}
	}
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read decision", Public: "this is no recorded decision", Err: err}
	}
	return &e, nil
}

// Filter chooses events; its zero value all of them.
type Filter struct {
	Action policy.Action // ActionNone: any
	Allow  *bool         // nil: both
	Client policy.ClientID
}

// Matches reports whether f chooses e.
func (f Filter) Matches(e *Event) bool {
	return (f.Action == policy.ActionNone || f.Action.String() == e.Custom.Action) &&
		(f.Allow == nil || *f.Allow == e.Custom.Allow) &&
		(f.Client == "" || string(f.Client) == e.Custom.Client)
}

// Tenant is one life of an organisation: a namesake created later sees nothing of
// it. The zero Tenant is of what belongs to none, such as a failed choice of
// verifiers.
type Tenant struct {
	Org         policy.OrgID
	Incarnation uint64
}

func (t Tenant) owns(e *Event) bool {
	return e.Custom.Org == t.Org.String() && e.Custom.Incarnation == t.Incarnation
}
