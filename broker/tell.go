package broker

import (
	"context"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Heard says who has a message of the broker's.
type Heard struct {
	Sessions int  // that it was sent to or waits in
	Kept     bool // it is stored in one of them, and outlives the process
}

// Tell publishes one message at QoS 1 and waits until it is stored for every kept
// session that it was routed to. The payload may not be changed any more. An error
// means that nobody got it, that it could not be stored, or that the broker has
// shut down.
func (v *Voice) Tell(ctx context.Context, t Tenant, name topic.Name, payload []byte) (Heard, error) {
	sp, err := v.b.space(t.Org, t.Incarnation)
	if err != nil {
		return Heard{}, err
	}
	if !v.b.enter() {
		return Heard{}, errClosed
	}
	defer v.b.work.Done()
	p := &publication{space: sp, standing: v.standing(sp), name: name, payload: payload, qos: 1}
	if err := v.say(ctx, p); err != nil {
		return Heard{}, err
	}
	heard := Heard{Sessions: p.matched, Kept: len(p.writes.saves) > 0}
	if p.writes.none() {
		return heard, nil
	}
	outcome := make(chan error, 1)
	v.b.commit(&p.writes, func(err error) { outcome <- err })
	return heard, <-outcome
}
