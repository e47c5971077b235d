package broker

import (
	"context"

	"github.com/cordon-mq/cordon/policy"
)

// SweepOrganisation is Sweep for the sessions of one organisation, after its own
// policy became another one. It takes them one by one: how long that lasts is the
// organisation's matter alone.
func (b *Broker) SweepOrganisation(org policy.OrgID) {
	b.background(func() {
		for _, sp := range b.listSpaces() {
			if sp.key.org != org {
				continue
			}
			for _, s := range sp.list() {
				if s.conn.Load() != nil { // offline ones are judged when they resume
					s.rejudge(context.Background(), false)
				}
			}
		}
	})
}
