package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// Reviews say what a policy that is not live would do. The zero OrgID is the
// operator, who asks about the policy of the platform and everybody; another one is
// an organisation's administrator, who asks about the organisation's own policy and
// hears of nobody else. Its methods are safe for concurrent use.
type Reviews interface {
	// Impact judges the live sessions and the recorded decisions under a candidate.
	Impact(ctx context.Context, org policy.OrgID, r *ImpactRequest, tell func(ReviewProgress) error) (*Impact, error)
	// Replay judges the recorded decisions under a candidate.
	Replay(ctx context.Context, org policy.OrgID, r *ReplayRequest, tell func(ReviewProgress) error) (*Replay, error)

	// StartShadow begins to judge beside the live policy, in place of an earlier one.
	StartShadow(ctx context.Context, org policy.OrgID, r *ShadowRequest) (*ShadowReport, error)
	// Shadow and EndShadow report, or fail with KindNotFound where there is none.
	Shadow(org policy.OrgID) (*ShadowReport, error)
	EndShadow(org policy.OrgID) (*ShadowReport, error)
	// WatchShadow passes differences on until ctx or the shadow ends. quiet is called
	// as it is by WatchDecisions.
	WatchShadow(ctx context.Context, org policy.OrgID, tell func(*DecisionDifference) error, quiet func() error) error

	// StartCanary makes a candidate live for some principals, in place of an earlier one.
	StartCanary(ctx context.Context, r *CanaryRequest) (*CanaryReport, error)
	Canary() (*CanaryReport, error)
	// EndCanary has everybody judged by the live policy again.
	EndCanary() (*CanaryReport, error)
	// PromoteCanary makes the canary's policy live for everybody.
	PromoteCanary(ctx context.Context, who, why string) (*CanaryReport, error)
}

// Candidate names a policy: a stored revision, or the files of one.
type Candidate struct {
	Revision *string           `json:"revision,omitempty" nullable:"true" doc:"Of a stored one."`
	Files    map[string]string `json:"files,omitempty" doc:"Text of each file by its path, such as cordon/publish/publish.rego."`
}

// ReviewProgress is how far a review has come.
type ReviewProgress struct {
	Phase string `json:"phase" doc:"sessions or decisions."`
	Done  int    `json:"done"`
	Total int    `json:"total,omitempty" doc:"Where known."`
}

// ImpactRequest asks what a candidate would change.
type ImpactRequest struct {
	Candidate
	Org      *string `json:"org,omitempty" nullable:"true" doc:"Of the operator: look at this organisation alone."`
	Since    *int64  `json:"since,omitempty" nullable:"true" doc:"Recorded decisions from this moment on, in Unix milliseconds; by default those of the last hour."`
	Examples *int    `json:"examples,omitempty" nullable:"true" doc:"How many changes of each organisation are described, 0 to 100; by default 3."`
}

// Impact is what a candidate would change.
type Impact struct {
	Revision      string               `json:"revision" doc:"Of the candidate."`
	Live          string               `json:"live" doc:"What is live."`
	Total         ImpactCount          `json:"total"`
	Organisations []OrganisationImpact `json:"organisations" nullable:"false" doc:"Those with changes, most first."`
	Decisions     ReplayCount          `json:"decisions" doc:"Recorded decisions that would be others."`
	Differences   []DecisionDifference `json:"differences" nullable:"false" doc:"Some of these."`
}

// ImpactCount counts what would become of live sessions.
type ImpactCount struct {
	Sessions             int `json:"sessions" doc:"Live ones."`
	Subscriptions        int `json:"subscriptions"`
	Wills                int `json:"wills"`
	SessionsCut          int `json:"sessionsCut"`
	SubscriptionsRemoved int `json:"subscriptionsRemoved" doc:"Of sessions that stay."`
	SubscriptionsLowered int `json:"subscriptionsLowered" doc:"With another QoS than now."`
	WillsDropped         int `json:"willsDropped"`
	SessionsAltered      int `json:"sessionsAltered" doc:"With other mounts, limits, roles or groups than now."`
}

// OrganisationImpact is the impact on one organisation.
type OrganisationImpact struct {
	Org string `json:"org"`
	ImpactCount
	Examples []ImpactExample `json:"examples" nullable:"false"`
}

// ImpactExample is one thing that would be taken away.
type ImpactExample struct {
	Client string `json:"client"`
	Action string `json:"action" doc:"connect: the session; subscribe: a filter; publish: its will."`
	Topic  string `json:"topic,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// ReplayRequest asks which recorded decisions a candidate would make otherwise.
type ReplayRequest struct {
	Candidate
	Org         *string `json:"org,omitempty" nullable:"true" doc:"Of the operator: look at this organisation alone."`
	Since       *int64  `json:"since,omitempty" nullable:"true" doc:"In Unix milliseconds; by default an hour ago."`
	Until       *int64  `json:"until,omitempty" nullable:"true" doc:"In Unix milliseconds; by default now."`
	Differences *int    `json:"differences,omitempty" nullable:"true" doc:"How many are described, 0 to 1000; by default 20."`
}

// ReplayCount counts decisions. Those that were one of a sample count for all that
// they stand for in what has "weighed" in its name.
type ReplayCount struct {
	Replayed      int    `json:"replayed"`
	NotReplayable int    `json:"notReplayable" doc:"A mask hides what the rules read, or the record is incomplete."`
	Denied        int    `json:"denied" doc:"Allowed then, and not by the candidate."`
	Allowed       int    `json:"allowed" doc:"Denied then, and not by the candidate."`
	Changed       int    `json:"changed" doc:"Otherwise different."`
	WeighedTotal  uint64 `json:"weighedTotal"`
	WeighedDenied uint64 `json:"weighedDenied"`
	WeighedGiven  uint64 `json:"weighedAllowed"`
	WeighedOther  uint64 `json:"weighedChanged"`
}

// Replay is what a candidate makes of recorded decisions.
type Replay struct {
	Revision    string               `json:"revision" doc:"Of the candidate."`
	Since       timestamp            `json:"since"`
	Until       timestamp            `json:"until"`
	Count       ReplayCount          `json:"count"`
	Reasons     map[string]int       `json:"notReplayableBecause,omitempty" doc:"How many, by why."`
	Differences []DecisionDifference `json:"differences" nullable:"false"`
}

// DecisionDifference is one question that a candidate answers otherwise.
type DecisionDifference struct {
	Decision string    `json:"decision,omitempty" doc:"ID of the one that was made."`
	At       timestamp `json:"at"`
	Org      string    `json:"org"`
	Client   string    `json:"client,omitempty"`
	Action   string    `json:"action"`
	Topic    string    `json:"topic,omitempty" doc:"Or filter, or route."`
	Before   string    `json:"before" doc:"allow or deny."`
	After    string    `json:"after"`
	Reason   string    `json:"reason,omitempty" doc:"Of the answer that denies."`
	Fields   []string  `json:"fields,omitempty" doc:"What else differs."`
	Weight   uint64    `json:"weight"`
}

// ShadowRequest starts a shadow.
type ShadowRequest struct {
	Candidate
	StopAfter    *int64  `json:"stopAfter,omitempty" nullable:"true" doc:"End after so many differences, weighed."`
	PromoteAfter *int64  `json:"promoteAfter,omitempty" nullable:"true" doc:"Make it live after so many decisions were compared without reaching stopAfter."`
	Who          *string `json:"who,omitempty" nullable:"true"`
	Why          *string `json:"why,omitempty" nullable:"true"`
}

// ShadowReport is how a shadow stands.
type ShadowReport struct {
	Revision    string                 `json:"revision"`
	State       string                 `json:"state" doc:"running, stopped, promoted, failed or ended."`
	Problem     string                 `json:"problem,omitempty" doc:"Why it could not be made live."`
	Since       timestamp              `json:"since"`
	Dropped     uint64                 `json:"dropped" doc:"Decisions that it was too slow for."`
	Total       ShadowCount            `json:"total"`
	Actions     map[string]ShadowCount `json:"actions"`
	Differences []DecisionDifference   `json:"differences" nullable:"false" doc:"The newest."`
}

// ShadowCount counts decisions; all but compared are weighed.
type ShadowCount struct {
	Compared uint64 `json:"compared"`
	Denied   uint64 `json:"denied" doc:"Allowed, and not by the candidate."`
	Allowed  uint64 `json:"allowed" doc:"Denied, and not by the candidate."`
	Changed  uint64 `json:"changed"`
}

// CanaryRequest makes a candidate live for some. Whoever any of the conditions
// chooses is judged by it.
type CanaryRequest struct {
	Candidate
	Percent *float64 `json:"percent,omitempty" nullable:"true" doc:"Share of all principals, 0 to 100: always the same ones, and a larger share holds the smaller."`
	Orgs    []string `json:"orgs,omitempty" nullable:"true" doc:"Everybody of these organisations."`
	Types   []string `json:"types,omitempty" nullable:"true" doc:"Devices and gateways of these types."`
	Groups  []string `json:"groups,omitempty" nullable:"true" doc:"Whoever is in one of these groups, or reaches it."`
	Who     *string  `json:"who,omitempty" nullable:"true"`
	Why     *string  `json:"why,omitempty" nullable:"true"`
}

// CanaryReport is how a canary stands.
type CanaryReport struct {
	Revision string    `json:"revision" doc:"Of the canary."`
	Live     string    `json:"live" doc:"What everybody else is judged by."`
	State    string    `json:"state" doc:"running, ended or promoted."`
	Since    timestamp `json:"since"`
	Percent  float64   `json:"percent"`
	Orgs     []string  `json:"orgs" nullable:"false"`
	Types    []string  `json:"types" nullable:"false"`
	Groups   []string  `json:"groups" nullable:"false"`
	// The same questions, by the policy that answered.
	Canary CanaryCount `json:"canary"`
	Rest   CanaryCount `json:"rest"`
}

// CanaryCount counts the decisions of one policy since a canary began, weighed.
type CanaryCount struct {
	Allowed uint64            `json:"allowed"`
	Denied  uint64            `json:"denied"`
	Causes  map[string]uint64 `json:"causes" doc:"Of denials."`
}

// Bounds of a review.
const (
	maxExamples    = 100
	maxDifferences = 1000
	maxCandidate   = 8 << 20 // bytes of an operator's request that holds one
	reviewTime     = 10 * time.Minute
)

// reviewRoutes registers what judges candidates. scope is the organisation of a call,
// and most is how many bytes a request has that holds a candidate.
func (a *API) reviewRoutes(s *surface, scope func(*call) policy.OrgID, most int64) {
	body := func(method, path, id, summary string) operation {
		return operation{method: method, path: path, id: id, summary: summary, status: http.StatusOK, body: true, conflict: true, most: most}
	}
	stream(s, body("POST", "/policy/impact", "preview_policy", "What a policy would change, as events: progress, and then result"), func(ctx context.Context, c *call, in *ImpactRequest, e *events) error {
		if err := errors.Join(in.check(), within("examples", in.Examples, maxExamples)); err != nil {
			return err
		}
		return reviewed(ctx, e, func(ctx context.Context, tell func(ReviewProgress) error) (any, error) {
			return a.reviews.Impact(ctx, scope(c), in, tell)
		})
	})
	stream(s, body("POST", "/policy/replay", "replay_policy", "Recorded decisions made again by a policy, as events: progress, and then result"), func(ctx context.Context, c *call, in *ReplayRequest, e *events) error {
		if err := errors.Join(in.check(), within("differences", in.Differences, maxDifferences)); err != nil {
			return err
		}
		return reviewed(ctx, e, func(ctx context.Context, tell func(ReviewProgress) error) (any, error) {
			return a.reviews.Replay(ctx, scope(c), in, tell)
		})
	})
	handle(s, body("PUT", "/policy/shadow", "start_shadow", "Have a policy judge beside the live one"), func(ctx context.Context, c *call, in *ShadowRequest) (*ShadowReport, error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		report, err := a.reviews.StartShadow(ctx, scope(c), in)
		return report, refusedCandidate(err)
	})
	handle(s, operation{method: "GET", path: "/policy/shadow", id: "read_shadow", summary: "How the shadow stands", status: http.StatusOK}, func(_ context.Context, c *call, _ *none) (*ShadowReport, error) {
		return a.reviews.Shadow(scope(c))
	})
	handle(s, operation{method: "DELETE", path: "/policy/shadow", id: "end_shadow", summary: "End the shadow", status: http.StatusOK}, func(_ context.Context, c *call, _ *none) (*ShadowReport, error) {
		return a.reviews.EndShadow(scope(c))
	})
	stream(s, operation{method: "GET", path: "/policy/shadow/events", id: "watch_shadow", summary: "Differences as they are found, as events", status: http.StatusOK}, func(ctx context.Context, c *call, _ *none, e *events) error {
		return a.reviews.WatchShadow(ctx, scope(c), func(d *DecisionDifference) error { return e.send("difference", d) }, e.ping)
	})
}

// canaryRoutes are the operator's alone: a canary is of the platform's policy.
func (a *API) canaryRoutes(s *surface) {
	op := func(method, path, id, summary string) operation {
		return operation{method: method, path: path, id: id, summary: summary, status: http.StatusOK, conflict: true}
	}
	start := op("PUT", "/policy/canary", "start_canary", "Let a policy decide for some")
	start.body, start.most = true, maxCandidate
	handle(s, start, func(ctx context.Context, _ *call, in *CanaryRequest) (*CanaryReport, error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		report, err := a.reviews.StartCanary(ctx, in)
		return report, refusedCandidate(err)
	})
	handle(s, op("GET", "/policy/canary", "read_canary", "How the canary stands"), func(context.Context, *call, *none) (*CanaryReport, error) { return a.reviews.Canary() })
	handle(s, op("DELETE", "/policy/canary", "end_canary", "Let the live policy decide for all again"), func(context.Context, *call, *none) (*CanaryReport, error) { return a.reviews.EndCanary() })
	promote := op("POST", "/policy/canary/promote", "promote_canary", "Make the policy of the canary live")
	promote.body, promote.optional = true, true
	handle(s, promote, func(ctx context.Context, _ *call, in *PolicyChange) (*CanaryReport, error) {
		return a.reviews.PromoteCanary(ctx, value(in.Who), value(in.Why))
	})
}

// reviewed runs a review, and sends its progress and its result.
func reviewed(ctx context.Context, e *events, review func(context.Context, func(ReviewProgress) error) (any, error)) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	result, err := review(ctx, func(p ReviewProgress) error { return e.send("progress", p) })
	if err != nil {
		return refusedCandidate(err)
	}
	return e.send("result", result)
}

// refusedCandidate tells all that the gate found, where that is the error.
func refusedCandidate(err error) error {
	var refusal *revision.Refusal
	if errors.As(err, &refusal) {
		return refusedByGate(refusal)
	}
	return err
}

// check asks for exactly one way to name a policy.
func (c *Candidate) check() error {
	if (c.Revision != nil) == (len(c.Files) > 0) {
		return invalid("revision", "or files is required, and not both")
	}
	return nil
}

func (r *CanaryRequest) check() error {
	if err := r.Candidate.check(); err != nil {
		return err
	}
	if r.Percent != nil && !(*r.Percent >= 0 && *r.Percent <= 100) {
		return invalid("percent", "must be 0 to 100")
	}
	if (r.Percent == nil || *r.Percent == 0) && len(r.Orgs)+len(r.Types)+len(r.Groups) == 0 {
		return invalid("percent", "or orgs, types or groups has to choose somebody")
	}
	if len(r.Orgs)+len(r.Types)+len(r.Groups) > 1000 || slices.Contains(slices.Concat(r.Orgs, r.Types, r.Groups), "") {
		return invalid("groups", "and orgs and types are at most 1000 names together, none empty")
	}
	return nil
}

func within(field string, n *int, most int) error {
	if n != nil && (*n < 0 || *n > most) {
		return invalid(field, "is out of range")
	}
	return nil
}
