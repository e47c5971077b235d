package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
)

const (
	// flushTime is how long a reader of the decision log waits for what was decided
	// just before it asked.
	flushTime = time.Second
	// quietTime is how often a stream that has nothing to say says so.
	quietTime = 15 * time.Second
)

// decisions shows recorded decisions over REST and explains them.
type decisions struct {
	node    *node
	bundles *bundles
	places  *places
}

var _ api.Decisions = (*decisions)(nil)

func nothingKept() error {
	return &policy.Error{Kind: policy.KindUnavailable, Op: "read decisions", Public: "no decisions are kept here: decision-log-size is 0"}
}

// tenant is nil for the operator, who sees all of them.
func (n *node) tenant(ctx context.Context, org policy.OrgID) (*audit.Tenant, error) {
	if org.IsZero() {
		return nil, nil
	}
	o, err := n.registry.Organisation(ctx, org)
	if err != nil {
		return nil, err
	}
	return &audit.Tenant{Org: o.ID, Incarnation: o.Incarnation}, nil
}

// reader is what was recorded until now, and of whom it may be shown.
func (d *decisions) reader(ctx context.Context, org policy.OrgID) (*audit.Store, *audit.Tenant, error) {
	if d.node.decisions == nil {
		return nil, nil, nothingKept()
	}
	tenant, err := d.node.tenant(ctx, org)
	if err != nil {
		return nil, nil, err
	}
	flushing, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	_ = d.node.audit.Flush(flushing, d.node.decisions) // what is not there yet is not found
	return d.node.decisions, tenant, ctx.Err()
}

func (d *decisions) find(ctx context.Context, org policy.OrgID, id string) (*audit.Event, error) {
	store, tenant, err := d.reader(ctx, org)
	if err != nil {
		return nil, err
	}
	ev, err := store.Find(ctx, tenant, id)
	if policy.KindOf(err) == policy.KindNotFound {
		return nil, &policy.Error{Kind: policy.KindNotFound, Op: "find decision", Err: err, Public: d.missing()}
	}
	return ev, err
}

// missing says what it means that a decision is not on record.
func (d *decisions) missing() string {
	text := fmt.Sprintf("no such decision is on record: there is none of this ID, or it is older than %d hours or what there is room for", d.node.cfg.DecisionLogRetention)
	switch n := d.node.cfg.DecisionLogSample; {
	case n == 0:
		text += ", or it allowed a message, which is not recorded here"
	case n > 1:
		text += fmt.Sprintf(", or it allowed a message, of which one in %d is recorded", n)
	}
	return text + "; a refusal without a decision was made before any policy was asked, as for a wrong credential"
}

// Decision implements api.Decisions.
func (d *decisions) Decision(ctx context.Context, org policy.OrgID, id string) (api.DecisionEvent, error) {
	ev, err := d.find(ctx, org, id)
	if err != nil {
		return nil, err
	}
	return shown(org, ev)
}

// shown is what org reads of a record; zero: the operator, who reads all of it.
func shown(org policy.OrgID, ev *audit.Event) (api.DecisionEvent, error) {
	if !org.IsZero() {
		if public := opa.PublicDetail(ev.Custom.Cause, ev.Custom.Detail); public != ev.Custom.Detail {
			ev = ev.WithDetail(public)
		}
	}
	return ev.JSON()
}

// Decisions implements api.Decisions.
func (d *decisions) Decisions(ctx context.Context, org policy.OrgID, f *api.DecisionFilter, page registry.Page) ([]api.DecisionEvent, string, error) {
	store, tenant, err := d.reader(ctx, narrowed(org, f.Org))
	if err != nil {
		return nil, "", err
	}
	filter, err := auditFilter(f)
	if err != nil {
		return nil, "", err
	}
	found, err := store.List(ctx, audit.Query{
		Tenant: tenant, Since: f.Since, Until: f.Until, Filter: filter, Limit: page.Limit, Cursor: page.After,
	})
	if err != nil {
		return nil, "", err
	}
	list := make([]api.DecisionEvent, len(found.Events))
	for i, ev := range found.Events {
		if list[i], err = shown(org, ev); err != nil {
			return nil, "", err
		}
	}
	return list, found.Next, nil
}

// narrowed is the organisation that a call is about: the caller's own, or for the
// operator the one that is asked for.
func narrowed(own, asked policy.OrgID) policy.OrgID {
	if own.IsZero() {
		return asked
	}
	return own
}

func auditFilter(f *api.DecisionFilter) (audit.Filter, error) {
	filter := audit.Filter{Allow: f.Allow, Client: policy.ClientID(f.Client)}
	if f.Action == "" {
		return filter, nil
	}
	for a := policy.ActionConnect; a <= policy.ActionAdminister; a++ {
		if a.String() == f.Action {
			filter.Action = a
			return filter, nil
		}
	}
	return filter, &policy.Error{Kind: policy.KindInvalid, Field: "action", Public: "must be connect, publish, subscribe, receive or administer"}
}

// WatchDecisions implements api.Decisions.
func (d *decisions) WatchDecisions(ctx context.Context, org policy.OrgID, f *api.DecisionFilter, tell func(api.DecisionEvent) error, quiet func() error) error {
	tenant, err := d.node.tenant(ctx, narrowed(org, f.Org))
	if err != nil {
		return err
	}
	filter, err := auditFilter(f)
	if err != nil {
		return err
	}
	live := d.node.audit.Subscribe(tenant, filter)
	defer live.Close()
	return follow(ctx, live.Events(), quiet, func(ev *audit.Event) error {
		text, err := shown(org, ev)
		if err != nil {
			return err
		}
		return tell(text)
	})
}

// follow hands on what arrives until ctx or the channel ends. It says at once that it
// does, whoever watches waits for that, and then now and then that there is nothing.
func follow[T any](ctx context.Context, arriving <-chan T, quiet func() error, tell func(T) error) error {
	if err := quiet(); err != nil {
		return err
	}
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := quiet(); err != nil {
				return err
			}
		case v, open := <-arriving:
			if !open {
				return nil
			}
			if err := tell(v); err != nil {
				return err
			}
		}
	}
}

// Explain implements api.Decisions. The revision that decided explains, where it is
// still kept, and the live one otherwise.
func (d *decisions) Explain(ctx context.Context, org policy.OrgID, id string) (api.Explanation, error) {
	ev, err := d.find(ctx, org, id)
	if err != nil {
		return nil, err
	}
	bundle, err := d.bundles.find(ctx, ev.Bundles[audit.BundlePlatform].Revision)
	if err != nil {
		d.node.log.Warn("decision explained by the live policy", "decision", id, "err", err)
		bundle = d.node.engine.Bundle()
	}
	return d.explained(ctx, org, bundle, ev)
}

// ExplainRequest implements api.Decisions.
func (d *decisions) ExplainRequest(ctx context.Context, org policy.OrgID, r *api.ExplainRequest) (api.Explanation, error) {
	if err := aboutOwn(org, r.Input); err != nil {
		return nil, err
	}
	bundle := d.node.engine.Bundle()
	ev, err := bundle.Describe(ctx, r.Input, time.Now())
	if err != nil {
		return nil, err
	}
	return d.explained(ctx, org, bundle, ev)
}

// explained is for org; zero: the operator. An organisation asks within its share.
func (d *decisions) explained(ctx context.Context, org policy.OrgID, bundle *opa.Bundle, ev *audit.Event) (api.Explanation, error) {
	leave, err := d.places.explain(ctx, org)
	if err != nil {
		return nil, err
	}
	defer leave()
	how := opa.Explaining{Restricted: !org.IsZero()}
	if about, err := policy.ParseOrgID(ev.Custom.Org); err == nil { // else it is nobody's
		how.Own = d.node.engine.Narrowing(ctx, about)
	}
	x, err := bundle.Explain(ctx, ev, how)
	if err != nil {
		return nil, err
	}
	return json.Marshal(x)
}

// aboutOwn refuses an input in which an organisation asks about anybody else: the
// rules may know more of others than that organisation may.
func aboutOwn(org policy.OrgID, input json.RawMessage) error {
	if org.IsZero() {
		return nil
	}
	var fields map[string]any // as the rules see them
	if err := json.Unmarshal(input, &fields); err != nil {
		return &policy.Error{Kind: policy.KindInvalid, Field: "input", Public: "has to be an object"}
	}
	principal, _ := fields["principal"].(map[string]any)
	if principal["org"] != any(org.String()) {
		return &policy.Error{Kind: policy.KindInvalid, Field: "input.principal.org", Public: "has to be " + org.String()}
	}
	if settings, named := fields["org"].(map[string]any); named && settings["id"] != nil && settings["id"] != any(org.String()) {
		return &policy.Error{Kind: policy.KindInvalid, Field: "input.org.id", Public: "has to be " + org.String()}
	}
	return nil
}
