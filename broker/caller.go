package broker

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Caller is a client that has no connection of its own: it shows its credential
// with each request. Between Enter and Leave it counts as a connection, of its
// organisation and of its credential, and what it sends and receives passes the
// doors that every other message passes. One goroutine uses it.
type Caller struct {
	b     *Broker
	known *known
	usage *usage        // counted in; nil before
	place bool          // counted in at its organisation
	retry time.Duration // when a rate that refused it has room again
}

// Denial is why a Caller may not. Its text is public.
type Denial struct {
	err   policy.Error
	after time.Duration
}

func (d *Denial) Error() string { return d.err.Error() }

// Unwrap leads to the *policy.Error, whose Kind says what class of failure it is.
func (d *Denial) Unwrap() error { return &d.err }

// RetryAfter is how long to wait before it is worth another try; 0: nobody knows.
func (d *Denial) RetryAfter() time.Duration { return d.after }

// Bounds of how long a caller is told to wait.
const (
	retrySoon   = time.Second
	retryFailed = 10 * time.Second // after wrong credentials from its address
)

// Enter verifies c, asks whether it may connect, and counts it in; the caller of
// Enter calls Leave. Each of names, the host that was asked for and the like, may
// contradict the organisation of the credential and never replace it. The error
// is a *Denial.
//
// A credential that was verified a moment ago is remembered with its standing,
// so that a request costs neither a slow hash nor an evaluation. What is
// remembered is held against the registry and the live policy each time.
func (b *Broker) Enter(ctx context.Context, c *plugins.Credential, names ...string) (*Caller, error) {
	if !b.enter() {
		return nil, (&Caller{b: b}).denial(refused(policy.CauseShutdown, ""))
	}
	caller := &Caller{b: b}
	if r := caller.begin(ctx, c, names); r != nil {
		org := ""
		if caller.known != nil {
			org = caller.known.space.key.org.String()
		}
		b.logRefusal(org, c.Client.ID, r)
		caller.violated(r)
		caller.Leave()
		return nil, caller.denial(r)
	}
	return caller, nil
}

func (c *Caller) begin(ctx context.Context, credential *plugins.Credential, names []string) *refusal {
	if failures := c.b.cfg.Failures; failures != nil && !failures.Allowed(credential.Client.Address) {
		// Also where the credential is remembered: the answer would be a hint.
		c.retry = retryFailed
		return refused(policy.CauseLimit, "too many wrong credentials from this address")
	}
	k, r := c.b.recognise(ctx, credential)
	if r != nil {
		return r
	}
	c.known = k
	if t := k.client.TLS; t != nil {
		names = append(names, t.SNI)
	}
	for _, name := range names {
		if !c.b.nameAgrees(ctx, name, k.space.key.org) {
			return refused(policy.CauseMismatch, "the host or TLS server name names another organisation")
		}
	}
	st, r := k.current(ctx)
	if r != nil {
		return r
	}
	if c.place = k.space.enter(ctx, false); !c.place {
		return refused(policy.CauseQuota, "connections of the organisation")
	}
	if c.usage = k.space.usages.acquire(k.credential, st.limits(), false); c.usage == nil {
		return refused(policy.CauseLimit, "connections of the credential")
	}
	return nil
}

// Leave counts the caller out.
func (c *Caller) Leave() {
	if c.usage != nil {
		c.known.space.usages.release(c.known.credential, c.usage)
	}
	if c.place {
		c.known.space.leave()
	}
	c.b.work.Done()
}

// Principal is who the caller is; it may not be changed.
func (c *Caller) Principal() *policy.Principal { return c.known.standing().facts.Principal }

// PayloadMax is the largest payload that the caller may send, in bytes.
func (c *Caller) PayloadMax() int {
	return min(c.known.standing().limits().PayloadMax, c.b.cfg.MaxPacket)
}

// Publish sends one message at QoS 1, to the topic as this client writes it, and
// returns when every session that is to have it does, and what has to be stored
// is. The payload may not be changed any more. The error is a *Denial.
func (c *Caller) Publish(ctx context.Context, name string, payload []byte) error {
	// What a message causes is not undone by a client that goes away: the
	// sessions of others are judged and delivered to in its course.
	ctx = context.WithoutCancel(ctx)
	st, r := c.known.current(ctx)
	if r == nil {
		r = c.post(ctx, st, name, payload)
	}
	if r == nil {
		return nil
	}
	c.b.logRefusal(c.known.space.key.org.String(), c.known.client.ID, r)
	if r.onDeny == policy.Drop && lasting(r.cause) {
		return nil // acknowledged and not delivered
	}
	return c.denial(r)
}

func (c *Caller) post(ctx context.Context, st *standing, written string, payload []byte) *refusal {
	name, err := topic.ParseName(written)
	if err != nil {
		return &refusal{action: policy.ActionPublish, cause: policy.CauseTopic, topic: written, detail: err.Error()}
	}
	p := publication{
		space: c.known.space, origin: sessionKey{st.principal.Subject(), c.known.client.ID + callerSuffix},
		caller: c, standing: st, name: name, payload: payload, qos: min(1, st.limits().QoSMax),
	}
	if r := c.b.admit(ctx, &p); r != nil {
		return r
	}
	p.space.traffic.Add(uint64(len(payload)))
	if p.writes.none() {
		return nil
	}
	outcome := make(chan error, 1)
	c.b.commit(&p.writes, func(err error) { outcome <- err })
	if err := <-outcome; err != nil {
		return &refusal{action: policy.ActionPublish, cause: policy.CauseStorage, topic: written, detail: err.Error()}
	}
	return nil
}

// callerSuffix tells what a caller does from the sessions that its client ID has
// over MQTT.
const callerSuffix = "/http"

// charge takes a message off the rates of its credential and organisation. A
// caller is told to come back; nobody waits for it.
func (c *Caller) charge(ctx context.Context, p *publication) *refusal {
	now := time.Now()
	wait, own := time.Duration(0), time.Duration(0)
	var taken []*rate.Reservation
	take := func(l *rate.Limiter, n int) {
		if l == nil {
			return
		}
		if r := l.ReserveN(now, n); r.OK() {
			taken = append(taken, r)
			wait = max(wait, r.DelayFrom(now))
		} else {
			wait = math.MaxInt32 * time.Second // it never fits
		}
	}
	take(c.usage.messages.Load(), 1)
	take(c.usage.bytes.Load(), len(p.payload))
	own = wait
	take(p.space.rate(ctx), 1)
	if wait == 0 {
		return nil
	}
	for _, r := range taken {
		r.CancelAt(now)
	}
	c.retry = min(wait, time.Hour)
	cause := policy.CauseLimit
	if wait > own {
		cause = policy.CauseQuota
	}
	return &refusal{action: policy.ActionPublish, cause: cause, topic: p.name.String(), detail: "rate"}
}

// denial is what the caller reads of r.
func (c *Caller) denial(r *refusal) *Denial {
	d := &Denial{err: policy.Error{Kind: kindOf(r), Op: r.action.String(), Public: r.publicReason()}, after: c.retry}
	if c.known == nil && r.cause == policy.CauseMismatch {
		d.err.Kind = policy.KindUnauthenticated // within the credential, and not between it and a host
	}
	if d.after == 0 && (d.err.Kind == policy.KindLimit || d.err.Kind == policy.KindUnavailable) {
		d.after = retrySoon
	}
	return d
}

// kindOf is the one table from why a caller is refused to the class of failure
// that its transport has a status for.
func kindOf(r *refusal) policy.Kind {
	switch r.cause {
	case policy.CauseUnknown, policy.CauseBad, policy.CauseDisabled, policy.CauseExpired, policy.CauseNoOrg, policy.CauseRevoked, policy.CauseClientID:
		return policy.KindUnauthenticated
	case policy.CauseUnavailable, policy.CauseStorage, policy.CauseShutdown:
		return policy.KindUnavailable
	case policy.CausePayloadSize:
		return policy.KindTooLarge
	case policy.CauseLimit, policy.CauseQuota:
		return policy.KindLimit
	case policy.CauseProtocol:
		return policy.KindInvalid
	default:
		// A policy's no, every way the engine can fail, and a topic that has no
		// place among the mounts.
		return policy.KindForbidden
	}
}
