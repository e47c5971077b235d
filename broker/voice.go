package broker

import (
	"context"
	"errors"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Keeping says what a message of the broker does to what is retained under its
// topic.
type Keeping uint8

const (
	// KeepNothing leaves it as it is.
	KeepNothing Keeping = iota
	// KeepThis puts the message in its place.
	KeepThis
	// KeepAgain does so after a restart: it was retained within the quota, and none
	// is asked now.
	KeepAgain
	// KeepNoMore removes it, and nobody hears of that but by the message.
	KeepNoMore
)

// Voice publishes what the broker itself has to say and can say again: what is
// retained of it is in memory alone, and whoever spoke says it once more after a
// restart. Its messages pass the door
// that all messages pass, as those of a principal of kind system: no policy is
// asked about them, and no rate pays for them. It cannot leave the organisation
// that each message is for.
type Voice struct {
	b      *Broker
	mounts topic.Mounts
}

// Voice returns one that spells topics by mounts, which say where they name a
// device.
func (b *Broker) Voice(mounts topic.Mounts) *Voice { return &Voice{b, mounts} }

// ErrUnsaid is a message that the door refused; the log has the reason.
var ErrUnsaid = errors.New("the message was refused")

// Say publishes one message at QoS 0. The payload may not be changed any more. An
// error means that nobody got it and nothing is retained, or that the broker has
// shut down.
func (v *Voice) Say(ctx context.Context, t Tenant, name topic.Name, payload []byte, keep Keeping) error {
	sp, err := v.b.space(t.Org, t.Incarnation)
	if err != nil {
		return err
	}
	if !v.b.enter() {
		return errClosed
	}
	defer v.b.work.Done()
	p := &publication{
		space: sp, standing: v.standing(sp), name: name, payload: payload, unstored: true,
		retain: keep == KeepThis || keep == KeepAgain, again: keep == KeepAgain,
	}
	if keep == KeepNoMore {
		if err := v.Silence(t, name); err != nil {
			return err
		}
	}
	if err := v.say(ctx, p); err != nil {
		return err
	}
	v.b.commitAny(&p.writes)
	return nil
}

// say has p let in; whoever says it commits its writes.
func (v *Voice) say(ctx context.Context, p *publication) error {
	if r := v.b.admit(ctx, p); r != nil {
		v.b.logRefusal(p.space.key.org.String(), "", r)
		return ErrUnsaid
	}
	return nil
}

// Heard reports whether anybody subscribes to name now.
func (v *Voice) Heard(t Tenant, name topic.Name) bool {
	sp, err := v.b.space(t.Org, t.Incarnation)
	if err != nil || sp.subscriptions() == 0 {
		return false
	}
	routed, _, err := v.mounts.In(name)
	return err == nil && len(gather(sp, routed)) > 0
}

// Retained is the payload that is retained under name; it may not be changed.
func (v *Voice) Retained(t Tenant, name topic.Name) ([]byte, bool) {
	sp, err := v.b.space(t.Org, t.Incarnation)
	if err != nil {
		return nil, false
	}
	routed, _, err := v.mounts.In(name)
	if err != nil {
		return nil, false
	}
	return sp.retained.payload(routed)
}

// Silence removes what is retained under name, and nobody hears of it.
func (v *Voice) Silence(t Tenant, name topic.Name) error {
	sp, err := v.b.space(t.Org, t.Incarnation)
	if err != nil {
		return err
	}
	routed, _, err := v.mounts.In(name)
	if err != nil {
		return err
	}
	sp.retained.silence(v.b, sp, routed)
	return nil
}

// voiced is the standing of a voice in a space.
type voiced struct {
	by       *Voice
	standing *standing
}

// standing is that of the broker itself in sp.
func (v *Voice) standing(sp *space) *standing {
	if known := sp.voiced.Load(); known != nil && known.by == v {
		return known.standing
	}
	st := v.stand(sp)
	sp.voiced.Store(&voiced{v, st})
	return st
}

func (v *Voice) stand(sp *space) *standing {
	p := &policy.Principal{Org: sp.key.org, Incarnation: sp.key.incarnation, Kind: policy.KindSystem, Verifier: "cordon"}
	return &standing{
		principal: p, judge: &itself{policy.Decision{Allow: true, Retain: policy.RetainKeep}},
		facts:   &policy.Facts{Principal: p, Org: &policy.Organisation{ID: p.Org}, Client: &policy.Client{}, Budget: sp},
		connect: &policy.Decision{Allow: true, Mounts: v.mounts, Limits: policy.Limits{PayloadMax: v.b.cfg.MaxPacket}},
	}
}

// itself judges what the broker says.
type itself struct{ decision policy.Decision }

func (i *itself) Decide(context.Context, *policy.Request) *policy.Decision { return &i.decision }
func (*itself) Generation() policy.Generation                              { return 0 }
func (*itself) Decides(policy.Action) bool                                 { return true }
