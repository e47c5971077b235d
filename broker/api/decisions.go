package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Decisions are those on record. The zero OrgID is the operator; another one sees
// the decisions of that organisation, and anything else is not found. Its methods
// are safe for concurrent use.
type Decisions interface {
	// Decision finds one by its ID, or fails with KindNotFound.
	Decision(ctx context.Context, org policy.OrgID, id string) (DecisionEvent, error)
	// Decisions lists them, the newest first, and the bookmark of the next page.
	Decisions(ctx context.Context, org policy.OrgID, f *DecisionFilter, page registry.Page) ([]DecisionEvent, string, error)
	// WatchDecisions passes on what is recorded until ctx ends. What tell is too slow
	// for is left out. quiet is called as soon as nothing recorded later is missed, and
	// then now and then while there is nothing.
	WatchDecisions(ctx context.Context, org policy.OrgID, f *DecisionFilter, tell func(DecisionEvent) error, quiet func() error) error
	// Explain says how a recorded decision came about.
	Explain(ctx context.Context, org policy.OrgID, id string) (Explanation, error)
	// ExplainRequest says how the live policy would decide a described request.
	ExplainRequest(ctx context.Context, org policy.OrgID, r *ExplainRequest) (Explanation, error)
}

// DecisionEvent is one decision in the shape of OPA's decision log.
type DecisionEvent = json.RawMessage

// Explanation says how a decision came about. It is JSON.
type Explanation = json.RawMessage

// DecisionFilter says which decisions; the zero value says all.
type DecisionFilter struct {
	Org          policy.OrgID
	Action       string
	Allow        *bool
	Client       string
	Since, Until time.Time
}

// ExplainRequest describes a question to the policy.
type ExplainRequest struct {
	Input json.RawMessage `json:"input" doc:"What the rules get as input. Its action is connect, publish, subscribe, receive or administer."`
}

// decisionRoutes registers what shows decisions. scope is the organisation of a call.
func (a *API) decisionRoutes(s *surface, scope func(*call) policy.OrgID) {
	handle(s, operation{method: "GET", path: "/policy/decisions", id: "list_decisions", summary: "Recorded decisions, the newest first", status: http.StatusOK, list: true, queries: decisionParameters()},
		func(ctx context.Context, c *call, _ *none) (List[DecisionEvent], error) {
			page, err := c.page()
			if err != nil {
				return List[DecisionEvent]{}, err
			}
			f, err := c.decisionFilter()
			if err != nil {
				return List[DecisionEvent]{}, err
			}
			found, next, err := a.decisions.Decisions(ctx, scope(c), f, page)
			return listed(found, next, err, func(e *DecisionEvent) DecisionEvent { return *e })
		})
	stream(s, operation{method: "GET", path: "/policy/decisions/stream", id: "watch_decisions", summary: "Decisions as they are recorded, as events", status: http.StatusOK, queries: decisionParameters()},
		func(ctx context.Context, c *call, _ *none, e *events) error {
			f, err := c.decisionFilter()
			if err != nil {
				return err
			}
			return a.decisions.WatchDecisions(ctx, scope(c), f, func(d DecisionEvent) error { return e.send("decision", d) }, e.ping)
		})
	handle(s, operation{method: "GET", path: "/policy/decisions/{decision}", id: "read_decision", summary: "One recorded decision", status: http.StatusOK},
		func(ctx context.Context, c *call, _ *none) (DecisionEvent, error) {
			return a.decisions.Decision(ctx, scope(c), c.params("decision"))
		})
	handle(s, operation{method: "GET", path: "/policy/decisions/{decision}/explain", id: "explain_decision", summary: "How a recorded decision came about", status: http.StatusOK},
		func(ctx context.Context, c *call, _ *none) (Explanation, error) {
			return a.decisions.Explain(ctx, scope(c), c.params("decision"))
		})
	handle(s, operation{method: "POST", path: "/policy/explain", id: "explain_request", summary: "How the live policy would decide a described request", status: http.StatusOK, body: true},
		func(ctx context.Context, c *call, in *ExplainRequest) (Explanation, error) {
			if len(in.Input) == 0 {
				return nil, invalid("input", "is required")
			}
			return a.decisions.ExplainRequest(ctx, scope(c), in)
		})
}

// decisionParameters are those that decisionFilter reads.
func decisionParameters() []parameter {
	return []parameter{
		{"org", "Those of this organisation. Another than the caller's own has none."},
		{"action", "connect, publish, subscribe, receive or administer."},
		{"client", "Those about this client ID, or this caller of the REST interface."},
		{"allow", "true or false."},
		{"since", "Those from this moment on, in Unix milliseconds."},
		{"until", "Those before this moment, in Unix milliseconds."},
	}
}

// decisionFilter reads the filter of a query.
func (c *call) decisionFilter() (*DecisionFilter, error) {
	f := &DecisionFilter{Action: c.query.Get("action"), Client: c.query.Get("client")}
	if f.Action != "" && !slices.ContainsFunc(decidedActions(), func(a policy.Action) bool { return a.String() == f.Action }) {
		return nil, invalid("action", "must be connect, publish, subscribe, receive or administer")
	}
	if text := c.query.Get("org"); text != "" {
		org, err := policy.ParseOrgID(text)
		if err != nil {
			return nil, invalid("org", "is no organisation's name")
		}
		f.Org = org
	}
	if text := c.query.Get("allow"); text != "" {
		allow, err := strconv.ParseBool(text)
		if err != nil {
			return nil, invalid("allow", "must be true or false")
		}
		f.Allow = &allow
	}
	for name, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := c.query.Get(name)
		if text == "" {
			continue
		}
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 {
			return nil, invalid(name, "must be a moment in Unix milliseconds")
		}
		*into = time.UnixMilli(ms)
	}
	return f, nil
}

func decidedActions() []policy.Action {
	return []policy.Action{policy.ActionConnect, policy.ActionPublish, policy.ActionSubscribe, policy.ActionReceive, policy.ActionAdminister}
}

// everybody is the scope of the operator.
func everybody(*call) policy.OrgID { return policy.OrgID{} }
