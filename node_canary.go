package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// canarying is one canary and what was decided since it began.
type canarying struct {
	candidate *reviewed
	over      revision.ID // what was live by the log when it began
	live      string      // the revision of everybody else
	since     time.Time
	chosen    opa.Chosen
	untap     func()

	guarded struct {
		sync.Mutex
		ended        string // how; empty while it runs
		canary, rest counted
	}
}

// counted are the decisions of one revision.
type counted struct {
	allowed, denied uint64
	causes          map[string]uint64
}

func (c *counted) add(d *policy.Decision, n uint64) {
	if d.Allow {
		c.allowed += n
		return
	}
	c.denied += n
	if c.causes == nil {
		c.causes = map[string]uint64{}
	}
	c.causes[string(d.Cause)] += n
}

func (c *counted) show() api.CanaryCount {
	n := api.CanaryCount{Allowed: c.allowed, Denied: c.denied, Causes: map[string]uint64{}}
	maps.Copy(n.Causes, c.causes)
	return n
}

func noCanary() error {
	return &policy.Error{Kind: policy.KindNotFound, Public: "there is no canary"}
}

// StartCanary implements api.Reviews.
func (r *reviews) StartCanary(ctx context.Context, rq *api.CanaryRequest) (*api.CanaryReport, error) {
	chosen := opa.Chosen{Percent: orElse(rq.Percent, 0), Groups: rq.Groups}
	for _, name := range rq.Orgs {
		org, err := policy.ParseOrgID(name)
		if err != nil {
			return nil, &policy.Error{Kind: policy.KindInvalid, Field: "orgs", Public: "has a name that is no organisation's"}
		}
		chosen.Orgs = append(chosen.Orgs, org)
	}
	for _, name := range rq.Types {
		typ, err := policy.ParseID("types", name)
		if err != nil {
			return nil, err
		}
		chosen.Types = append(chosen.Types, typ)
	}
	c, err := r.candidate(ctx, policy.OrgID{}, &rq.Candidate)
	if err != nil {
		return nil, err
	}
	by := authorOf(rq.Who, rq.Why)
	r.changing.Lock()
	defer r.changing.Unlock()
	if _, err := r.node.revisions.Try(c.bundle.Files(), by); err != nil {
		return nil, err
	}
	live, _ := r.node.revisions.Live()
	k := &canarying{candidate: c, over: live, live: r.node.engine.Revision(), since: time.Now(), chosen: chosen}
	k.untap = r.node.audit.Tap(k.count)
	if _, err := r.node.engine.StartCanary(c.bundle, chosen); err != nil {
		k.end("ended")
		return nil, err
	}
	r.guarded.Lock()
	earlier := r.guarded.canary
	r.guarded.canary = k
	r.guarded.Unlock()
	if earlier != nil {
		earlier.end("ended")
	}
	r.lookAtCanary() // an activation may have been quicker
	r.node.log.Info("policy canary", "revision", c.revision, "percent", chosen.Percent, "orgs", rq.Orgs, "types", rq.Types, "groups", rq.Groups,
		"who", by.Who, "why", by.Why)
	return r.Canary()
}

// count takes what is recorded: every denial, and a sample of the rest.
func (k *canarying) count(e *audit.Entry) {
	n := max(1, e.Count) * max(1, e.Weight)
	k.guarded.Lock()
	defer k.guarded.Unlock()
	switch e.Decision.Revision {
	case k.candidate.revision:
		k.guarded.canary.add(e.Decision, n)
	case k.live:
		k.guarded.rest.add(e.Decision, n)
	}
}

// end says how it ended, the first time.
func (k *canarying) end(how string) {
	k.untap()
	k.guarded.Lock()
	defer k.guarded.Unlock()
	if k.guarded.ended == "" {
		k.guarded.ended = how
	}
}

// Canary implements api.Reviews.
func (r *reviews) Canary() (*api.CanaryReport, error) {
	r.guarded.Lock()
	k := r.guarded.canary
	r.guarded.Unlock()
	if k == nil {
		return nil, noCanary()
	}
	k.guarded.Lock()
	defer k.guarded.Unlock()
	out := &api.CanaryReport{
		Revision: k.candidate.revision, Live: r.node.engine.Revision(), State: k.guarded.ended, Percent: k.chosen.Percent,
		Orgs: []string{}, Types: []string{}, Groups: append([]string{}, k.chosen.Groups...),
		Canary: k.guarded.canary.show(), Rest: k.guarded.rest.show(),
	}
	if out.State == "" {
		out.State = "running"
	}
	out.Since.Time = k.since
	for _, org := range k.chosen.Orgs {
		out.Orgs = append(out.Orgs, org.String())
	}
	for _, typ := range k.chosen.Types {
		out.Types = append(out.Types, string(typ))
	}
	slices.Sort(out.Orgs)
	return out, nil
}

// lookAtCanary notes that an activation ended it.
func (r *reviews) lookAtCanary() {
	r.guarded.Lock()
	k := r.guarded.canary
	r.guarded.Unlock()
	if k != nil && r.node.engine.Canary() != k.candidate.revision {
		k.end("ended")
	}
}

// EndCanary implements api.Reviews.
func (r *reviews) EndCanary() (*api.CanaryReport, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	k, err := r.running()
	if err != nil {
		return nil, err
	}
	r.node.engine.EndCanary()
	k.end("ended")
	return r.Canary()
}

// PromoteCanary implements api.Reviews.
func (r *reviews) PromoteCanary(_ context.Context, who, why string) (*api.CanaryReport, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	k, err := r.running()
	if err != nil {
		return nil, err
	}
	if err := r.makeLive(k.over, k.candidate.bundle, authorOf(&who, &why), func() { k.end("promoted") }); err != nil {
		return nil, err
	}
	return r.Canary()
}

// running is the canary, if it has not ended.
func (r *reviews) running() (*canarying, error) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	k := r.guarded.canary
	if k == nil || r.node.engine.Canary() != k.candidate.revision {
		return nil, noCanary()
	}
	return k, nil
}
