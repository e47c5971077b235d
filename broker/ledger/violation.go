package ledger

import (
	"slices"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
)

// Bounds of what is kept of violations. They get as old as a line of a log.
const (
	MaxViolators  = 100 // clients, each with one kind of violation
	maxViolations = 16  // kinds; of what a policy names beyond, the first goes
)

// Violations are how often clients of an organisation were refused because they
// violated what it demands of connections.
type Violations struct {
	Kinds   []ViolationCount `json:"kinds"`
	Clients []Violator       `json:"clients"` // the last one first
}

// ViolationCount is of one kind.
type ViolationCount struct {
	Kind  string    `json:"kind"` // as the policy calls it, such as "connection_level"
	Count uint64    `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Violator is a verified client and what it violated.
type Violator struct {
	Kind     string    `json:"kind"` // of the violation
	ClientID string    `json:"clientId"`
	Device   Device    `json:"device,omitzero"` // zero for an application
	Address  string    `json:"address"`         // of the last time
	Listener string    `json:"listener"`
	Reason   string    `json:"reason"`
	Count    uint64    `json:"count"`
	Last     time.Time `json:"last"`
}

func violationKey(t Tenant) store.Key { return t.scope().Key(store.KindViolation) }

// Violate counts one violation of v, at v.Last.
func (b *Batch) Violate(t Tenant, v Violator) error {
	all, _, err := read[Violations](b, violationKey(t))
	if err != nil {
		return err
	}
	all.dropBefore(v.Last.Add(-LogKept))
	i := slices.IndexFunc(all.Kinds, func(c ViolationCount) bool { return c.Kind == v.Kind })
	if i < 0 {
		if len(all.Kinds) >= maxViolations {
			all.Kinds = slices.Delete(all.Kinds, 0, 1)
		}
		i = len(all.Kinds)
		all.Kinds = append(all.Kinds, ViolationCount{Kind: v.Kind, First: v.Last})
	}
	all.Kinds[i].Count++
	all.Kinds[i].Last = v.Last

	v.Count = 1
	same := func(o Violator) bool { return o.Kind == v.Kind && o.ClientID == v.ClientID && o.Device == v.Device }
	if i := slices.IndexFunc(all.Clients, same); i >= 0 {
		v.Count += all.Clients[i].Count
		all.Clients = slices.Delete(all.Clients, i, i+1)
	}
	all.Clients = slices.Insert(all.Clients[:min(len(all.Clients), MaxViolators-1)], 0, v)
	return b.put(violationKey(t), &all)
}

func (v *Violations) dropBefore(t time.Time) {
	v.Kinds = slices.DeleteFunc(v.Kinds, func(c ViolationCount) bool { return c.Last.Before(t) })
	v.Clients = slices.DeleteFunc(v.Clients, func(c Violator) bool { return c.Last.Before(t) })
}

// Violations are those of the organisation since a moment: counts are of all that there
// were while none was as old as a line of a log.
func (l *Ledger) Violations(t Tenant, since time.Time) (Violations, error) {
	all, _, err := read[Violations](l.store, violationKey(t))
	all.dropBefore(since)
	return all, err
}

// forgetViolator removes a device from the clients. What it did stays counted.
func (b *Batch) forgetViolator(t Tenant, d Device) error {
	all, ok, err := read[Violations](b, violationKey(t))
	if err != nil || !ok {
		return err
	}
	before := len(all.Clients)
	all.Clients = slices.DeleteFunc(all.Clients, func(c Violator) bool { return c.Device == d })
	if len(all.Clients) == before {
		return nil
	}
	return b.put(violationKey(t), &all)
}
