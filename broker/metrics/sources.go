package metrics

import (
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/policy"
)

// Sources are where numbers are read. Each is asked at every scrape, by its
// goroutine, and must answer soon; nil leaves its metrics out.
type Sources struct {
	Broker       interface{ Stats() broker.Stats }
	Policy       func() Policy
	Plugins      func() []Plugin
	Store        func() Store
	Certificates func() []Certificate
	REST         func() map[Refused]uint64
	Monitor      func() Monitored
	DecisionLog  func() DecisionLog
	Devices      func() Devices
}

// Refused is a kind of calls that the REST interface did not let in.
type Refused struct {
	Surface string // "organisation" or "operator"
	Cause   policy.Cause
}

// Monitored is what monitoring has not done.
type Monitored struct {
	Dropped uint64 // arrivals, departures and events that came too fast
	Full    uint64 // events for which the organisation has no room
}

// Devices is what devices did about themselves.
type Devices struct {
	Unheard uint64 // messages of device management without room
	Claimed uint64 // devices that were registered by a claim
	Handed  uint64 // tokens that devices were handed for a claim
}

// Policy is what the decision point has done.
type Policy struct {
	Revision        string    // of the live bundle; empty when there is none
	Activated       time.Time // when it became that
	CoverMismatches uint64
	Actions         map[policy.Action]Decisions
}

// Decisions are the answers about one action.
type Decisions struct {
	Allowed             uint64
	Denied              map[policy.Cause]uint64
	Remembered, Covered uint64 // given from memory; of these, by another topic's answer
}

// Plugin is one plugin of the operator's folder. Several in folders of their own
// may have one name: they are shown together.
type Plugin struct {
	Folder, Name string
	Verdicts     map[string]uint64 // by result; since the version at work came
	Refused      bool              // no version of it may work
	Quarantined  bool
}

// Store is the state of storage.
type Store struct {
	Pending   int    // bytes accepted and not written yet
	Free      uint64 // bytes of the disk
	FreeKnown bool
	Short     bool // free space is below the watermark
}

// Certificate is one that the listeners show, or that stands behind it.
type Certificate struct {
	Name    string // "server" or "ca"
	Expires time.Time
}
