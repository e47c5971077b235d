package main

import (
	"context"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Bounds of what reviews may use.
const (
	// reviewsMost is how many reviews run at once, and reviewsOfOrgs how many of them
	// organisations may have: an operator always finds a place that they do not take.
	reviewsMost, reviewsOfOrgs = 4, 3
	// shadowsMost is how many shadows there are at once: each is asked everything that
	// is recorded.
	shadowsMost = 32
	// explanationsOfOrg is how many explanations one organisation may ask for at once.
	explanationsOfOrg = 4
	// ownShare is how much of one processor the candidates of one organisation may use
	// over time, and ownBurst what it may save up.
	ownShare, ownBurst = 0.2, 10 * time.Second
)

func busy(public string) error {
	return &policy.Error{Kind: policy.KindLimit, Op: "review policy", Public: public}
}

// places bounds how many reviews run, and how much organisations use.
type places struct {
	guarded struct {
		sync.Mutex
		all, ofOrgs int
		taken       map[policy.OrgID]bool
		explaining  map[policy.OrgID]int
		shares      map[policy.OrgID]*ownTime
	}
}

// ownTime is what an organisation has left of its share; below zero it waits.
type ownTime struct {
	left time.Duration
	at   time.Time // of left
}

func newPlaces() *places {
	p := &places{}
	p.guarded.explaining = map[policy.OrgID]int{}
	p.guarded.taken, p.guarded.shares = map[policy.OrgID]bool{}, map[policy.OrgID]*ownTime{}
	return p
}

// enter takes a place for one review: of an organisation one at a time. Call leave.
func (p *places) enter(org policy.OrgID) (leave func(), err error) {
	g := &p.guarded
	g.Lock()
	defer g.Unlock()
	switch {
	case g.taken[org]:
		return nil, busy("a review of this organisation is running; try again when it has ended")
	case g.all == reviewsMost, !org.IsZero() && g.ofOrgs == reviewsOfOrgs:
		return nil, busy("too many reviews are running; try again later")
	}
	g.all++
	if !org.IsZero() {
		g.ofOrgs++
		g.taken[org] = true
	}
	return func() {
		g.Lock()
		defer g.Unlock()
		g.all--
		if !org.IsZero() {
			g.ofOrgs--
			delete(g.taken, org)
		}
	}, nil
}

// explain takes a place for one explanation, when the organisation has some of its
// share left. Call leave, which counts what it used. The operator always has one.
func (p *places) explain(ctx context.Context, org policy.OrgID) (leave func(), err error) {
	if org.IsZero() {
		return func() {}, nil
	}
	g := &p.guarded
	g.Lock()
	full := g.explaining[org] == explanationsOfOrg
	if !full {
		g.explaining[org]++
	}
	g.Unlock()
	if full {
		return nil, busy("other decisions of this organisation are being explained; try again when that has ended")
	}
	free := func() {
		g.Lock()
		defer g.Unlock()
		if g.explaining[org]--; g.explaining[org] == 0 {
			delete(g.explaining, org)
		}
	}
	if err := p.spend(ctx, org, 0); err != nil {
		free()
		return nil, err
	}
	began := time.Now()
	return func() {
		p.charge(org, time.Now(), time.Since(began))
		free()
	}, nil
}

// spend counts what the candidate of an organisation used, and waits while that is
// more than its share. The operator does not wait.
func (p *places) spend(ctx context.Context, org policy.OrgID, used time.Duration) error {
	if org.IsZero() {
		return nil
	}
	wait := p.charge(org, time.Now(), used)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// charge is how long to wait after that much was used. Whoever has everything saved up
// again is forgotten.
func (p *places) charge(org policy.OrgID, now time.Time, used time.Duration) time.Duration {
	g := &p.guarded
	g.Lock()
	defer g.Unlock()
	for id, s := range g.shares {
		s.left = min(ownBurst, s.left+time.Duration(float64(now.Sub(s.at))*ownShare))
		s.at = now
		if s.left == ownBurst && id != org {
			delete(g.shares, id)
		}
	}
	s := g.shares[org]
	if s == nil {
		s = &ownTime{left: ownBurst, at: now}
		g.shares[org] = s
	}
	s.left -= used
	return time.Duration(float64(-s.left) / ownShare)
}
