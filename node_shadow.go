package main

import (
	"cmp"
	"context"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/shadow"
)

// shadowing is one shadow: it is asked what is recorded, also what no sink keeps.
type shadowing struct {
	candidate *reviewed
	engine    *opa.Engine
	shadow    *shadow.Shadow
	untap     func()
}

func noShadow() error {
	return &policy.Error{Kind: policy.KindNotFound, Public: "there is no shadow"}
}

// close ends it. It waits for the engine, which a shadow asks no more by then.
func (s *shadowing) close() {
	s.untap()
	s.shadow.Close()
	s.engine.Close()
}

// StartShadow implements api.Reviews.
func (r *reviews) StartShadow(ctx context.Context, org policy.OrgID, rq *api.ShadowRequest) (*api.ShadowReport, error) {
	if rq.PromoteAfter != nil && !org.IsZero() {
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "promoteAfter", Public: "is for the operator"}
	}
	for field, n := range map[string]*int64{"stopAfter": rq.StopAfter, "promoteAfter": rq.PromoteAfter} {
		if n != nil && *n < 1 {
			return nil, &policy.Error{Kind: policy.KindInvalid, Field: field, Public: "must be at least 1"}
		}
	}
	c, err := r.candidate(ctx, org, &rq.Candidate)
	if err != nil {
		return nil, err
	}
	s := &shadowing{candidate: c, engine: r.decider(c, ownShare)}
	by := authorOf(rq.Who, rq.Why)
	live, _ := r.node.revisions.Live()
	s.shadow = shadow.New(shadow.Options{ //nolint:contextcheck // it outlives the call that starts it
		Candidate: s.engine,
		StopAfter: uint64(orElse(rq.StopAfter, 0)), PromoteAfter: uint64(orElse(rq.PromoteAfter, 0)),
		Promote: func() error { return r.makeLive(live, c.bundle, by, func() {}) },
	})
	s.untap = r.node.audit.Tap(func(e *audit.Entry) {
		if e.Verifiers || e.Facts == nil || e.Facts.Principal == nil || !org.IsZero() && e.Facts.Principal.Org != org {
			return
		}
		if e.Decision.Cause == policy.CauseQuota {
			return // no rule was asked
		}
		q := shadow.Question{Facts: e.Facts, Request: e.Request, Answer: e.Decision, Weight: max(1, e.Count) * max(1, e.Weight)}
		q.Request.Time = e.Time
		s.shadow.Observe(q)
	})
	log := r.node.log.With("revision", c.revision, "org", org.String())
	r.guarded.Lock()
	earlier := r.guarded.shadows[org]
	full := earlier == nil && len(r.guarded.shadows) >= shadowsMost && !org.IsZero()
	if !full {
		r.guarded.shadows[org] = s
	}
	r.guarded.Unlock()
	if full {
		s.close()
		return nil, busy("too many shadows are running; try again later")
	}
	if earlier != nil {
		earlier.close()
	}
	log.Info("policy shadow started", "who", by.Who, "why", by.Why)
	r.node.work.Go(func() {
		<-s.shadow.Done()
		s.untap()
		found := s.shadow.Report()
		log.Info("policy shadow ended", "state", string(found.State), "compared", found.Total.Compared,
			"denied", found.Total.Denied, "allowed", found.Total.Given, "changed", found.Total.Changed, "dropped", found.Dropped)
		if found.Err != nil {
			log.Error("policy shadow not made live", "err", found.Err)
		}
	})
	return s.report(), nil
}

// forgetShadow ends the shadow of an organisation that is no more.
func (r *reviews) forgetShadow(org policy.OrgID) {
	r.guarded.Lock()
	s := r.guarded.shadows[org]
	delete(r.guarded.shadows, org)
	r.guarded.Unlock()
	if s != nil {
		r.node.work.Go(s.close)
	}
}

func (r *reviews) shadowOf(org policy.OrgID) (*shadowing, error) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if s := r.guarded.shadows[org]; s != nil {
		return s, nil
	}
	return nil, noShadow()
}

// Shadow implements api.Reviews.
func (r *reviews) Shadow(org policy.OrgID) (*api.ShadowReport, error) {
	s, err := r.shadowOf(org)
	if err != nil {
		return nil, err
	}
	return s.report(), nil
}

// EndShadow implements api.Reviews.
func (r *reviews) EndShadow(org policy.OrgID) (*api.ShadowReport, error) {
	r.guarded.Lock()
	s := r.guarded.shadows[org]
	delete(r.guarded.shadows, org)
	r.guarded.Unlock()
	if s == nil {
		return nil, noShadow()
	}
	s.close()
	return s.report(), nil
}

// WatchShadow implements api.Reviews.
func (r *reviews) WatchShadow(ctx context.Context, org policy.OrgID, tell func(*api.DecisionDifference) error, quiet func() error) error {
	s, err := r.shadowOf(org)
	if err != nil {
		return err
	}
	differences, stop := s.shadow.Watch()
	defer stop()
	return follow(ctx, differences, quiet, func(e shadow.Example) error { return tell(s.differenceOf(&e)) })
}

func (s *shadowing) report() *api.ShadowReport {
	found := s.shadow.Report()
	out := &api.ShadowReport{
		Revision: s.candidate.revision, State: string(found.State), Dropped: found.Dropped,
		Total: shadowCount(found.Total), Actions: map[string]api.ShadowCount{}, Differences: []api.DecisionDifference{},
	}
	out.Since.Time = found.Since
	if found.Err != nil {
		out.Problem = found.Err.Error()
	}
	for action, n := range found.Actions {
		out.Actions[action.String()] = shadowCount(n)
	}
	for i := range found.Examples {
		out.Differences = append(out.Differences, *s.differenceOf(&found.Examples[i]))
	}
	return out
}

func shadowCount(n shadow.Count) api.ShadowCount {
	return api.ShadowCount{Compared: n.Compared, Denied: n.Denied, Allowed: n.Given, Changed: n.Changed}
}

func (s *shadowing) differenceOf(e *shadow.Example) *api.DecisionDifference {
	d := &api.DecisionDifference{
		Decision: e.Before.ID, Org: e.Facts.Principal.Org.String(), Action: e.Request.Action.String(),
		Topic:  cmp.Or(e.Request.Topic.String(), e.Request.Filter.String(), e.Request.Route),
		Before: verdict(e.Before.Allow), After: verdict(e.After.Allow), Fields: e.Difference.Fields, Weight: e.Weight,
	}
	if e.Facts.Client != nil {
		d.Client = string(e.Facts.Client.ID)
	}
	d.At.Time = e.At
	switch {
	case e.Difference.Verdict == policy.VerdictDenied:
		detail := e.After.Detail
		if !s.candidate.org.IsZero() { // it is read by the organisation
			detail = opa.PublicDetail(e.After.Cause, detail)
		}
		d.Reason = cmp.Or(e.After.Reason, detail, e.After.Cause.Public())
	case e.Difference.Verdict == policy.VerdictGiven:
		d.Reason = e.Before.Reason
	}
	return d
}
