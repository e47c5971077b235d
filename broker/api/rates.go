package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/policy"
)

const (
	// callBurstTime is for how many seconds of calls an organisation may be ahead.
	callBurstTime = 2
	// callRatesKept is beyond how many organisations those that are quiet are forgotten.
	callRatesKept = 1024
	// callRefusalEvery is how often the log says that an organisation calls too often.
	callRefusalEvery = time.Second
)

// rates counts the calls of each organisation: more keys do not make it more calls,
// and what it does too often costs nobody else. The zero value bounds nothing.
type rates struct {
	perSecond float64 // 0: unlimited
	guarded   struct {
		sync.Mutex
		orgs map[policy.OrgID]*callRate
		most int // of orgs, before the quiet ones are looked for
	}
}

// callRate is that of one organisation.
type callRate struct {
	calls *rate.Limiter
	told  time.Time // when the log last said so
}

// take reports whether org may call at now, and where it may not, whether that is to
// be logged.
func (rs *rates) take(org policy.OrgID, now time.Time) (ok, tell bool) {
	if rs.perSecond <= 0 {
		return true, false
	}
	rs.guarded.Lock()
	defer rs.guarded.Unlock()
	of := rs.guarded.orgs[org]
	if of == nil {
		rs.forgetLocked(now)
		of = &callRate{calls: rate.NewLimiter(rate.Limit(rs.perSecond), max(1, int(rs.perSecond*callBurstTime)))}
		rs.guarded.orgs[org] = of
	}
	if of.calls.AllowN(now, 1) {
		return true, false
	}
	if tell = now.Sub(of.told) >= callRefusalEvery; tell {
		of.told = now
	}
	return false, tell
}

// forgetLocked makes room for one more organisation. Forgetting one that may call as
// often as ever gives it nothing.
func (rs *rates) forgetLocked(now time.Time) {
	if rs.guarded.orgs == nil {
		rs.guarded.orgs, rs.guarded.most = map[policy.OrgID]*callRate{}, callRatesKept
	}
	if len(rs.guarded.orgs) < rs.guarded.most {
		return
	}
	for org, of := range rs.guarded.orgs {
		if of.calls.TokensAt(now) >= float64(of.calls.Burst()) {
			delete(rs.guarded.orgs, org)
		}
	}
	rs.guarded.most = max(callRatesKept, 2*len(rs.guarded.orgs)) // so that a look at all is paid by as many calls
}
