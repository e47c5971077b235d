package wasm

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Service is that plugins of a name serve an organisation, whatever folder they lie
// in. It is what a policy names.
type Service struct {
	Name string
	Org  policy.OrgID
}

// lostAfter is how long a service has to be gone to count as lost. Programs that
// replace a file take it away first, some of them.
const lostAfter = 3 * time.Second

// services are those of the plugins at work.
func (t *table) services() map[Service]bool {
	all := map[Service]bool{}
	for at, p := range t.plugins {
		for _, org := range p.orgs {
			all[Service{at.name, org}] = true
		}
	}
	return all
}

// loseLocked notes since when a service of before is gone.
func (h *Host) loseLocked(before map[Service]bool) {
	after := h.table.Load().services()
	for s := range before {
		if !after[s] {
			h.scanning.gone[s] = h.now()
		}
	}
	maps.DeleteFunc(h.scanning.gone, func(s Service, _ time.Time) bool { return after[s] })
}

// lost takes the services that are gone for long enough, and says whether there are
// others on their way.
func (h *Host) lost() (all []Service, waiting bool) {
	h.scanning.Lock()
	defer h.scanning.Unlock()
	for s, since := range h.scanning.gone {
		if h.now().Sub(since) >= lostAfter {
			all = append(all, s)
		}
	}
	for _, s := range all {
		delete(h.scanning.gone, s)
	}
	slices.SortFunc(all, func(a, b Service) int {
		return strings.Compare(a.Name+"/"+a.Org.String(), b.Name+"/"+b.Org.String())
	})
	return all, len(h.scanning.gone) > 0
}

// tellLost says which services nobody offers any more.
func (h *Host) tellLost() (waiting bool) {
	all, waiting := h.lost()
	for _, s := range all {
		h.log.Warn("plugin gone for good: its sessions end", "plugin", s.Name, "org", s.Org)
		if h.onLost != nil {
			h.onLost(s)
		}
	}
	return waiting
}
