package api

import (
	"maps"
	"sync"

	"github.com/cordon-mq/cordon/policy"
)

// Refusal is a kind of refusal, as they are counted. Both parts are of closed sets.
type Refusal struct {
	Surface string // "organisation" or "operator"
	Cause   policy.Cause
}

// Values of Refusal.Surface.
const (
	surfaceOrganisation = "organisation"
	surfaceOperator     = "operator"
)

// refusals counts calls that a gate did not let in.
type refusals struct {
	guarded struct {
		sync.Mutex
		counts map[Refusal]uint64
	}
}

func (r *refusals) count(surface string, cause policy.Cause) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if r.guarded.counts == nil {
		r.guarded.counts = map[Refusal]uint64{}
	}
	r.guarded.counts[Refusal{surface, cause}]++
}

// Refusals are the calls that were not let in since the process began: for want of a
// credential, or by the policy. Calls of HTTP messaging are the broker's to count.
func (a *API) Refusals() map[Refusal]uint64 {
	a.refusals.guarded.Lock()
	defer a.refusals.guarded.Unlock()
	return maps.Clone(a.refusals.guarded.counts)
}
