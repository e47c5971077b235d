package broker

import (
	"context"
	"slices"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// A client may have connected only to be given something that nobody else is to see:
// a token of its own. Over MQTT it is given that in a message of the broker's once it
// subscribes to it, over HTTP in an answer. It is made for the one who gets it, at
// that moment; it is not stored, retained or queued for later, and of all who
// subscribe to its topic nobody else gets it. Whoever did not get it connects again
// and has another one made.

// Handover is what a client is to be given.
type Handover struct {
	Topic topic.RoutedName // of the message
	// Make makes its payload. What an earlier call made is void.
	Make func(ctx context.Context) ([]byte, error)
}

// Provider is a Registry that has something to hand over.
type Provider interface {
	// Handover is what p is to be given; false: nothing.
	Handover(p *policy.Principal) (Handover, bool)
}

// handover is what p is to be given; nil: nothing.
func (b *Broker) handover(p *policy.Principal) *Handover {
	provider, ok := b.registry.(Provider)
	if !ok {
		return nil
	}
	h, ok := provider.Handover(p)
	if !ok {
		return nil
	}
	return &h
}

// fleeting is d for a session that ends with its connection.
func fleeting(d *policy.Decision) *policy.Decision {
	short := *d
	short.Limits.SessionExpiryMax = 0
	return &short
}

// handOver gives the client what it is to be given, once, if it subscribes to that by
// now.
func (c *conn) handOver(ctx context.Context) {
	h := c.handover
	if h == nil || c.closing.Load() || !slices.ContainsFunc(gather(c.space, h.Topic), func(t target) bool { return t.session == c.session }) {
		return
	}
	no := func(err error) {
		c.b.log.Warn("not handed over", "org", c.org(), "client", string(c.client.ID), "topic", h.Topic.String(), "err", err)
	}
	name, err := topic.ParseName(h.Topic.String())
	if err != nil {
		no(err) // a routed name always is one
		return
	}
	mounts, err := topic.NewMounts([]topic.Mount{{}}) // as it is inside the organisation
	if err != nil {
		no(err)
		return
	}
	payload, err := h.Make(ctx)
	if err != nil {
		no(err)
		return
	}
	v := c.b.Voice(mounts)
	p := &publication{space: c.space, standing: v.standing(c.space), name: name, payload: payload, qos: 1, only: c.session}
	if err := v.say(ctx, p); err != nil || p.matched == 0 {
		return // the log has it, or the client is gone
	}
	c.handover = nil
	c.b.log.Info("handed over", "org", c.org(), "client", string(c.client.ID), "topic", h.Topic.String())
}

// HandOver makes what the caller is to be given. The error is a *Denial, or a
// *policy.Error: policy.KindForbidden where there is nothing.
func (c *Caller) HandOver(ctx context.Context) ([]byte, error) {
	st, r := c.known.current(ctx)
	if r != nil {
		return nil, c.denial(r)
	}
	h := c.b.handover(st.principal)
	if h == nil {
		return nil, &policy.Error{Kind: policy.KindForbidden, Public: "there is nothing to hand over"}
	}
	made, err := h.Make(ctx)
	if err == nil {
		c.b.log.Info("handed over", "org", c.known.space.key.org.String(), "client", string(c.known.client.ID))
	}
	return made, err
}
