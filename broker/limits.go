package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// usage is what one credential uses at present, over all its connections. The
// limits are those of its latest connect decision.
type usage struct {
	messages, bytes atomic.Pointer[rate.Limiter] // nil: unlimited

	connections int // guarded by usages
}

// usages are those of an organisation's credentials: of all that are connected,
// and of those that were, until they have the whole of their rates again.
// Otherwise whoever connects for each message would never meet a rate.
type usages struct {
	guarded struct {
		sync.Mutex
		byCredential map[string]*usage
		swept        int // how many were left after the last sweep
	}
}

// A sweep comes when there are twice as many as after the last one, and these.
const usagesUnswept = 64

// credentialOf is what rates and connections are counted by. A principal that
// was verified without a proof counts by its client ID.
func credentialOf(p *policy.Principal, id policy.ClientID) string {
	if p.Credential.ID != "" {
		return p.Credential.ID
	}
	return p.Verifier + "/" + string(id)
}

// acquire counts a connection in and answers nil when its credential has as many
// as it may. One that takes over another takes its place.
func (us *usages) acquire(credential string, limits *policy.Limits, takesOver bool) *usage {
	us.guarded.Lock()
	defer us.guarded.Unlock()
	u := us.guarded.byCredential[credential]
	if u == nil {
		u = &usage{}
		if us.guarded.byCredential == nil {
			us.guarded.byCredential = make(map[string]*usage)
		}
		us.sweepLocked(time.Now())
		us.guarded.byCredential[credential] = u
	}
	if limits.ConnectionsMax > 0 && u.connections >= limits.ConnectionsMax && !takesOver {
		return nil
	}
	u.connections++
	u.adjust(limits)
	return u
}

// adjust sets the rates to what the latest connect decision says. What was used
// up stays so: a reconnect or an edit does not refill a bucket.
func (u *usage) adjust(limits *policy.Limits) {
	u.messages.Store(limiter(u.messages.Load(), limits.PublishRate, limits.PublishBurst))
	// One message must always fit, or it could never be sent.
	u.bytes.Store(limiter(u.bytes.Load(), limits.BytesRate, max(int(limits.BytesRate), limits.PayloadMax)))
}

// release counts a connection out.
func (us *usages) release(credential string, u *usage) {
	us.guarded.Lock()
	defer us.guarded.Unlock()
	if u.connections--; u.connections == 0 && u.rested(time.Now()) {
		delete(us.guarded.byCredential, credential)
	}
}

// sweepLocked forgets credentials that are not connected and have used up
// nothing that counts any more.
func (us *usages) sweepLocked(now time.Time) {
	g := &us.guarded
	if len(g.byCredential) < 2*g.swept+usagesUnswept {
		return
	}
	for credential, u := range g.byCredential {
		if u.connections == 0 && u.rested(now) {
			delete(g.byCredential, credential)
		}
	}
	g.swept = len(g.byCredential)
}

// rested reports whether u has the whole of its rates.
func (u *usage) rested(now time.Time) bool {
	for _, l := range []*rate.Limiter{u.messages.Load(), u.bytes.Load()} {
		if l != nil && l.TokensAt(now) < float64(l.Burst()) {
			return false
		}
	}
	return true
}

// limiter is l with another rate. Burst 0 means one second's worth.
func limiter(l *rate.Limiter, perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	if burst == 0 {
		burst = max(1, int(perSecond))
	}
	if l == nil {
		return rate.NewLimiter(rate.Limit(perSecond), burst)
	}
	l.SetLimit(rate.Limit(perSecond))
	l.SetBurst(burst)
	return l
}

// longestPause is how long a 3.x client is not read from before it is cut off.
const longestPause = 10 * time.Second

// quotaShare is how many messages a connection takes from the organisation's
// rate at a time, so that not every one of them meets the same lock.
const quotaShare = 16

// charge takes a message off the rates of its credential and organisation. MQTT
// 5 has words for too much, and hears them. MQTT 3.x has none: there the
// connection is not read from until there is room again, and its keep-alive
// does not run meanwhile, because only a read starts it.
func (c *conn) charge(ctx context.Context, p *publication) *refusal {
	messages, bytes := c.usage.messages.Load(), c.usage.bytes.Load()
	if messages == nil && bytes == nil && c.prepaid > 0 {
		c.prepaid--
		return nil
	}
	now := time.Now()
	if messages == nil && bytes == nil && c.space.rate(ctx).AllowN(now, quotaShare) {
		c.prepaid = quotaShare - 1
		return nil
	}
	var taken []*rate.Reservation
	take := func(l *rate.Limiter, n int) time.Duration {
		if l == nil {
			return 0
		}
		r := l.ReserveN(now, n)
		if !r.OK() {
			return 2 * longestPause
		}
		taken = append(taken, r)
		return r.DelayFrom(now)
	}
	cause := policy.CauseLimit
	wait := max(take(messages, 1), take(bytes, len(p.payload)))
	if c.prepaid == 0 {
		if quota := take(c.space.rate(ctx), quotaShare); quota > wait {
			cause, wait = policy.CauseQuota, quota
		} else {
			c.prepaid = quotaShare
		}
	}
	switch {
	case wait == 0:
		c.prepaid--
		return nil
	case c.version == wire.V5 || wait > longestPause:
		for _, r := range taken {
			r.CancelAt(now)
		}
		return c.tooFast(p, cause)
	}
	c.prepaid = max(0, c.prepaid-1)
	c.flushTouched()
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-c.done:
	}
	return nil
}

// tooFast refuses one message where there is an acknowledgement to say it with,
// and otherwise ends the connection with the reason.
func (c *conn) tooFast(p *publication, cause policy.Cause) *refusal {
	r := &refusal{action: policy.ActionPublish, cause: cause, code: wire.QuotaExceeded, topic: p.name.String()}
	if p.qos == 0 || c.version != wire.V5 {
		r.code, r.onDeny = wire.MessageRateTooHigh, policy.Close
	}
	return r
}

// rate is the organisation's publish rate, from its quotas.
func (sp *space) rate(ctx context.Context) *rate.Limiter {
	return quotaLimiter(&sp.published, sp.limits(ctx).PublishRate)
}

// Spend takes one evaluation off the organisation's rate: it is the Budget of
// all its principals.
func (sp *space) Spend() bool {
	return quotaLimiter(&sp.evaluated, sp.limits(context.Background()).EvaluationsRate).Allow()
}

// quotaLimiter is the limiter in at, replaced once the quota has changed.
func quotaLimiter(at *atomic.Pointer[rate.Limiter], perSecond float64) *rate.Limiter {
	if l := at.Load(); l != nil && l.Limit() == rate.Limit(perSecond) {
		return l
	}
	l := rate.NewLimiter(rate.Limit(perSecond), max(quotaShare, int(perSecond)))
	at.Store(l)
	return l
}
