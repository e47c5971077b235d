package main

import (
	"cmp"
	"context"
	"encoding/json"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// reviews judges candidates: beside the live policy, and in its place.
type reviews struct {
	node      *node
	decisions *decisions
	places    *places

	// changing keeps what becomes of the canary in one order.
	changing sync.Mutex
	guarded  struct {
		sync.Mutex
		shadows map[policy.OrgID]*shadowing // by who asked; the zero one is the operator's
		canary  *canarying
	}
}

var _ api.Reviews = (*reviews)(nil)

func newReviews(n *node, d *decisions) *reviews {
	r := &reviews{node: n, decisions: d, places: newPlaces()}
	d.places = r.places
	r.guarded.shadows = map[policy.OrgID]*shadowing{}
	n.engine.OnActivate(func(policy.Generation) { r.lookAtCanary() })
	n.onStop(n.registryWatch(func(ch registry.Change) {
		if ch.Kind == registry.OrganisationDeleted { // a namesake is somebody else
			r.forgetShadow(ch.Org)
		}
	}))
	return r
}

// close ends what judges beside the live policy.
func (r *reviews) close() error {
	r.guarded.Lock()
	running := r.guarded.shadows
	r.guarded.shadows = map[policy.OrgID]*shadowing{}
	canary := r.guarded.canary
	r.guarded.Unlock()
	for _, s := range running {
		s.close()
	}
	if canary != nil {
		canary.end("ended")
	}
	return nil
}

// reviewed is a policy that is not live: the platform's, or that of an organisation
// on top of the live one.
type reviewed struct {
	org      policy.OrgID // zero: the platform's
	revision string
	bundle   *opa.Bundle // of the platform
	own      *opa.Narrowing
}

// candidate finds or compiles what c names, for the operator or an organisation.
func (r *reviews) candidate(ctx context.Context, org policy.OrgID, c *api.Candidate) (*reviewed, error) {
	if c.Revision != nil {
		if !org.IsZero() {
			return nil, &policy.Error{Kind: policy.KindInvalid, Field: "revision", Public: "is for the operator; an organisation sends files"}
		}
		if _, err := revision.ParseID(*c.Revision); err != nil {
			return nil, err
		}
		b, err := r.decisions.bundles.find(ctx, *c.Revision)
		if err != nil {
			return nil, err
		}
		return &reviewed{revision: b.Revision(), bundle: b}, nil
	}
	files := make([]revision.File, 0, len(c.Files))
	for path, text := range c.Files {
		files = append(files, revision.File{Path: path, Text: []byte(text)})
	}
	if org.IsZero() {
		b, err := r.decisions.bundles.candidate(ctx, files)
		if err != nil {
			return nil, err
		}
		return &reviewed{revision: b.Revision(), bundle: b}, nil
	}
	stored, err := revision.FS(files)
	if err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "files", Public: err.Error()}
	}
	own, report, err := r.node.engine.LoadNarrowing(ctx, org, stored)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, err
	}
	return &reviewed{org: org, revision: own.Revision(), bundle: r.node.engine.Bundle(), own: own}, nil
}

// decider answers as if the candidate were live. share is how much of one processor
// the rules of one organisation may use; 0: all they need. Close it.
func (r *reviews) decider(c *reviewed, share float64) *opa.Engine {
	e := r.node.engine.Beside(c.bundle, share)
	if c.own != nil {
		e.Narrow(c.org, c.own)
	}
	return e
}

const (
	// lookBack is how far a review looks back that does not say.
	lookBack = time.Hour
	// previewExamples and replayDifferences are how much it describes then.
	previewExamples   = 3
	replayDifferences = 20
	// After each replayTurn, whoever judges rests: connections come first.
	replayTurn, replayRest = time.Millisecond, 100 * time.Microsecond
)

// Impact implements api.Reviews.
func (r *reviews) Impact(ctx context.Context, org policy.OrgID, rq *api.ImpactRequest, tell func(api.ReviewProgress) error) (*api.Impact, error) {
	about, err := asked(org, rq.Org)
	if err != nil {
		return nil, err
	}
	leave, err := r.places.enter(org)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := r.candidate(ctx, org, &rq.Candidate)
	if err != nil {
		return nil, err
	}
	decider := r.decider(c, 0)
	defer decider.Close()
	found, err := r.preview(ctx, c, decider, about, orElse(rq.Examples, previewExamples), tell)
	if err != nil {
		return nil, err
	}
	out := &api.Impact{Revision: c.revision, Live: r.live(c), Organisations: []api.OrganisationImpact{}, Differences: []api.DecisionDifference{}}
	for id, p := range found {
		out.Total = addImpact(out.Total, impactOf(p))
		if p.Cut+p.Removed+p.Lowered+p.Dropped+p.Altered > 0 {
			out.Organisations = append(out.Organisations, api.OrganisationImpact{Org: id.String(), ImpactCount: impactOf(p), Examples: examplesOf(p, !org.IsZero())})
		}
	}
	slices.SortFunc(out.Organisations, func(a, b api.OrganisationImpact) int {
		return cmp.Or(cmp.Compare(b.SessionsCut+b.SubscriptionsRemoved, a.SessionsCut+a.SubscriptionsRemoved), cmp.Compare(a.Org, b.Org))
	})
	if r.node.decisions == nil {
		return out, nil // there is nothing to look back at
	}
	half := max(1, runtime.GOMAXPROCS(0)/2) // there are sessions to be cared for
	replayed, err := r.replay(ctx, c, about, &api.ReplayRequest{Since: rq.Since}, half, tell)
	if err != nil {
		return nil, err
	}
	out.Decisions, out.Differences = replayed.Count, replayed.Differences
	return out, nil
}

// live is the revision that c would replace.
func (r *reviews) live(c *reviewed) string {
	if c.own != nil {
		return r.node.engine.NarrowingRevision(c.org)
	}
	return r.node.engine.Revision()
}

// asked is the organisation that a review is about; zero: all of them.
func asked(own policy.OrgID, named *string) (policy.OrgID, error) {
	if !own.IsZero() || named == nil {
		return own, nil
	}
	org, err := policy.ParseOrgID(*named)
	if err != nil {
		return org, &policy.Error{Kind: policy.KindInvalid, Field: "org", Public: "is no organisation's name"}
	}
	return org, nil
}

func orElse[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

// preview passes progress on about ten times a second.
func (r *reviews) preview(ctx context.Context, c *reviewed, decider policy.Decider, org policy.OrgID, examples int, tell func(api.ReviewProgress) error) (map[policy.OrgID]*broker.Preview, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var last time.Time
	began := time.Now()
	found, err := r.node.broker.Preview(ctx, decider, broker.PreviewOptions{
		Org: org, Examples: examples, Progress: func(done, total int) {
			if err := r.places.spend(ctx, c.org, time.Since(began)); err != nil {
				cancel(err)
			}
			if done == total || time.Since(last) >= progressTime {
				last = time.Now()
				if err := tell(api.ReviewProgress{Phase: "sessions", Done: done, Total: total}); err != nil {
					cancel(err)
				}
			}
			began = time.Now()
		},
	})
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return found, err
}

const progressTime = 100 * time.Millisecond

func impactOf(p *broker.Preview) api.ImpactCount {
	return api.ImpactCount{
		Sessions: p.Sessions, Subscriptions: p.Subscriptions, Wills: p.Wills,
		SessionsCut: p.Cut, SubscriptionsRemoved: p.Removed, SubscriptionsLowered: p.Lowered,
		WillsDropped: p.Dropped, SessionsAltered: p.Altered,
	}
}

func addImpact(a, b api.ImpactCount) api.ImpactCount {
	return api.ImpactCount{
		Sessions: a.Sessions + b.Sessions, Subscriptions: a.Subscriptions + b.Subscriptions, Wills: a.Wills + b.Wills,
		SessionsCut: a.SessionsCut + b.SessionsCut, SubscriptionsRemoved: a.SubscriptionsRemoved + b.SubscriptionsRemoved,
		SubscriptionsLowered: a.SubscriptionsLowered + b.SubscriptionsLowered,
		WillsDropped:         a.WillsDropped + b.WillsDropped, SessionsAltered: a.SessionsAltered + b.SessionsAltered,
	}
}

func examplesOf(p *broker.Preview, restricted bool) []api.ImpactExample {
	list := []api.ImpactExample{}
	for _, e := range p.Examples {
		x := api.ImpactExample{Client: string(e.Client), Action: e.Action.String(), Topic: e.Topic, Reason: e.Cause.Public()}
		if e.Decision != nil {
			x.Detail = e.Decision.Detail
			if restricted {
				x.Detail = opa.PublicDetail(e.Cause, x.Detail)
			}
			if e.Decision.Reason != "" {
				x.Reason = e.Decision.Reason
			}
		}
		list = append(list, x)
	}
	return list
}

// Replay implements api.Reviews.
func (r *reviews) Replay(ctx context.Context, org policy.OrgID, rq *api.ReplayRequest, tell func(api.ReviewProgress) error) (*api.Replay, error) {
	about, err := asked(org, rq.Org)
	if err != nil {
		return nil, err
	}
	if r.node.decisions == nil {
		return nil, nothingKept()
	}
	leave, err := r.places.enter(org)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := r.candidate(ctx, org, &rq.Candidate)
	if err != nil {
		return nil, err
	}
	return r.replay(ctx, c, about, rq, runtime.GOMAXPROCS(0), tell)
}

// replay judges what was recorded, a batch at a time, on so many processors.
func (r *reviews) replay(ctx context.Context, c *reviewed, about policy.OrgID, rq *api.ReplayRequest, workers int, tell func(api.ReviewProgress) error) (*api.Replay, error) {
	store, tenant, err := r.decisions.reader(ctx, about)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	since, until := now.Add(-lookBack), now
	if rq.Since != nil {
		since = time.UnixMilli(*rq.Since)
	}
	if rq.Until != nil {
		until = time.UnixMilli(*rq.Until)
	}
	out := newReplaying(c, since, until, orElse(rq.Differences, replayDifferences))
	last := now
	err = store.Walk(ctx, tenant, since, until, func(batch [][]byte) error {
		began := time.Now()
		answers := c.replayAll(ctx, batch, workers)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.places.spend(ctx, c.org, time.Since(began)); err != nil {
			return err
		}
		for i := range answers {
			out.add(&answers[i])
		}
		if time.Since(last) < progressTime {
			return nil
		}
		last = time.Now()
		return tell(api.ReviewProgress{Phase: "decisions", Done: out.seen})
	})
	if err != nil {
		return nil, err
	}
	return &out.Replay, tell(api.ReviewProgress{Phase: "decisions", Done: out.seen})
}

// replayedEvent is a record and what the candidate makes of it.
type replayedEvent struct {
	event  *audit.Event
	answer opa.Replayed
}

// replayAll judges each record, and leaves a note where that fails.
func (c *reviewed) replayAll(ctx context.Context, batch [][]byte, workers int) []replayedEvent {
	answers := make([]replayedEvent, len(batch))
	if c.own != nil {
		workers = 1 // the organisation's share is that of one processor
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			turn, rest := time.Now(), time.NewTimer(replayRest)
			defer rest.Stop()
			for i := w; i < len(batch) && ctx.Err() == nil; i += workers {
				answers[i] = c.replayText(ctx, batch[i])
				if time.Since(turn) >= replayTurn {
					rest.Reset(replayRest)
					select {
					case <-rest.C:
					case <-ctx.Done():
					}
					turn = time.Now()
				}
			}
		})
	}
	wait.Wait()
	return answers
}

func (c *reviewed) replayText(ctx context.Context, text []byte) replayedEvent {
	ev, err := audit.ParseEvent(text)
	if err != nil {
		return replayedEvent{&audit.Event{}, opa.Replayed{Skipped: err.Error()}}
	}
	a, err := c.replay(ctx, ev)
	if err != nil {
		a = &opa.Replayed{Skipped: err.Error()}
	}
	return replayedEvent{ev, *a}
}

func (c *reviewed) replay(ctx context.Context, ev *audit.Event) (*opa.Replayed, error) {
	if c.own != nil {
		return c.bundle.ReplayNarrowed(ctx, c.org, c.own, ev)
	}
	return c.bundle.Replay(ctx, ev)
}

// replaying adds up a replay.
type replaying struct {
	api.Replay
	seen, most int
	restricted bool
}

// detail is what may be told of an error.
func (p *replaying) detail(cause policy.Cause, detail string) string {
	if p.restricted {
		return opa.PublicDetail(cause, detail)
	}
	return detail
}

func newReplaying(c *reviewed, since, until time.Time, most int) *replaying {
	p := &replaying{most: most, restricted: !c.org.IsZero()}
	p.Revision = c.revision
	p.Since.Time, p.Until.Time = since.UTC(), until.UTC()
	p.Reasons, p.Differences = map[string]int{}, []api.DecisionDifference{}
	return p
}

func (p *replaying) add(r *replayedEvent) {
	ev, a := r.event, &r.answer
	p.seen++
	weight := max(1, ev.Custom.Count) * max(1, ev.Custom.Weight)
	n := &p.Count
	if a.Skipped != "" {
		n.NotReplayable++
		p.Reasons[a.Skipped]++
		return
	}
	n.Replayed++
	n.WeighedTotal += weight
	if len(a.Differences) == 0 {
		return
	}
	d := api.DecisionDifference{
		Decision: ev.DecisionID, Org: ev.Custom.Org, Client: ev.Custom.Client, Action: ev.Custom.Action,
		Topic: aboutOf(ev), Before: verdict(ev.Custom.Allow), After: verdict(a.Allow), Weight: weight,
	}
	d.At.Time = ev.Timestamp
	switch {
	case ev.Custom.Allow && !a.Allow:
		n.Denied++
		n.WeighedDenied += weight
		d.Reason = cmp.Or(a.Reason, p.detail(a.Cause, a.Detail), a.Cause.Public())
	case !ev.Custom.Allow && a.Allow:
		n.Allowed++
		n.WeighedGiven += weight
		d.Reason = ev.Custom.Reason
	default:
		n.Changed++
		n.WeighedOther += weight
		for _, field := range a.Differences {
			d.Fields = append(d.Fields, field.Field)
		}
	}
	if len(p.Differences) < p.most {
		p.Differences = append(p.Differences, d)
	}
}

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

// authorOf says who made a candidate live.
func authorOf(who, why *string) revision.Author {
	by := revision.Author{Who: "operator", Why: orElse(why, "")}
	if who != nil && *who != "" {
		by.Who = *who
	}
	return by
}

// makeLive makes b live in the place of over and pins it, as an operator's activation.
// Just before it is, becoming is called.
func (r *reviews) makeLive(over revision.ID, b *opa.Bundle, by revision.Author, becoming func()) error {
	_, err := r.node.revisions.Pin(over, b.Files(), by, func() {
		becoming()
		r.node.engine.Activate(b)
	})
	return err
}

// aboutOf is the topic, filter or route of an event.
func aboutOf(ev *audit.Event) string {
	var in struct {
		Topic  string `json:"topic"`
		Filter string `json:"filter"`
		Route  string `json:"route"`
	}
	if json.Unmarshal(ev.Input, &in) != nil { // a mask may have left something else
		return ""
	}
	return cmp.Or(in.Topic, in.Filter, in.Route)
}
