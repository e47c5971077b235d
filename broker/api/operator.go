package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Organisations is what the operator works on.
type Organisations interface {
	Organisation(ctx context.Context, org policy.OrgID) (registry.Organisation, error)
	Organisations(ctx context.Context, page registry.Page) ([]registry.Organisation, string, error)
	SeedOrganisation(ctx context.Context, org policy.OrgID, name string) (registry.Seed, error)
	UpdateOrganisation(ctx context.Context, org policy.OrgID, edit func(*registry.Organisation) error) (registry.Organisation, error)
	DeleteOrganisation(ctx context.Context, org policy.OrgID) error
}

// socketGate admits whoever reached the control socket, and logs every call.
type socketGate struct{ api *API }

// bearerGate admits whoever shows the operator token.
type bearerGate struct{ api *API }

var (
	_ gate = socketGate{}
	_ gate = bearerGate{}
)

func (g socketGate) admit(w http.ResponseWriter, r *http.Request, op *operation) (*call, error) {
	c := &call{caller: "operator", params: r.PathValue, query: g.api.query(op, r.URL)}
	if c.org = organisationIn(r); c.org.IsZero() && r.PathValue("org") != "" {
		return nil, notFound("organisation")
	}
	if op.body {
		body, err := readBody(w, r, op.bodyMost(g.api))
		if err != nil {
			return nil, err
		}
		c.body = body
	}
	return c, nil
}

func (g socketGate) done(r *http.Request, op *operation, c *call, status int) {
	org := organisationIn(r)
	if c != nil {
		org = c.org
	}
	g.api.log.LogAttrs(r.Context(), slog.LevelInfo, "operator",
		slog.String("action", op.id),
		slog.String("org", org.String()),
		slog.Int("status", status),
	)
}

// organisationIn is the organisation that the path names, zero where it names
// none.
func organisationIn(r *http.Request) policy.OrgID {
	org, err := policy.ParseOrgID(r.PathValue("org"))
	if err != nil {
		return policy.OrgID{}
	}
	return org
}

func (g bearerGate) admit(w http.ResponseWriter, r *http.Request, op *operation) (*call, error) {
	token, ok := bearer(r)
	// An operator without a token has this door shut: two empty strings are equal.
	if !ok || g.api.token.Len() == 0 || !g.api.token.Equal([]byte(token)) {
		g.api.refusals.count(surfaceOperator, policy.CauseBad)
		g.api.log.LogAttrs(r.Context(), slog.LevelWarn, "refused",
			slog.String("action", "operator"),
			slog.String("org", organisationIn(r).String()),
			slog.String("client", ""),
			slog.String("topic", ""),
			slog.String("reason", string(policy.CauseBad)),
			slog.String("decision", ""),
			slog.String("route", op.path),
			slog.String("method", op.method),
			slog.String("address", addressOf(r).String()),
		)
		return nil, &fault{
			status:  http.StatusUnauthorized,
			message: policy.CauseBad.Public(),
			header:  http.Header{"Www-Authenticate": {`Bearer realm="Cordon operator"`}},
		}
	}
	return socketGate(g).admit(w, r, op)
}

func (g bearerGate) done(r *http.Request, op *operation, c *call, status int) {
	if status != http.StatusUnauthorized { // admit has logged that
		socketGate(g).done(r, op, c, status)
	}
}

// bearer returns the token of the only Authorization header.
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return strings.TrimLeft(token, " "), ok && strings.EqualFold(scheme, "Bearer")
}

// OrganisationView is an organisation as its operator sees it.
type OrganisationView struct {
	Org             string          `json:"org"`
	Name            string          `json:"name"`
	Suspended       bool            `json:"suspended"`
	ConnectionLevel string          `json:"connectionLevel,omitempty"`
	Quotas          registry.Quotas `json:"quotas"`
	Created         timestamp       `json:"created"`
	Updated         timestamp       `json:"updated"`
}

func showOrganisation(o *registry.Organisation) OrganisationView {
	return OrganisationView{
		Org: o.ID.String(), Name: o.Name, Suspended: o.Suspended, ConnectionLevel: o.ConnectionLevel,
		Quotas: o.Quotas, Created: timestamp{o.Created}, Updated: timestamp{o.Updated},
	}
}

// NewOrganisation asks for an organisation.
type NewOrganisation struct {
	Org  *string `json:"org" nullable:"false" doc:"3 to 20 of a-z and 0-9."`
	Name *string `json:"name,omitempty" nullable:"true"`
}

// CreatedOrganisation is the only answer that holds its first credentials.
type CreatedOrganisation struct {
	Org           string `json:"org"`
	APIKey        string `json:"apiKey"`
	APIToken      string `json:"apiToken"`
	AdminUser     string `json:"adminUser" doc:"As it is typed: NAME@ORG."`
	AdminPassword string `json:"adminPassword"`
}

// QuotasPatch changes the quotas that it names.
type QuotasPatch struct {
	Connections     *int     `json:"connections,omitempty" nullable:"true"`
	Sessions        *int     `json:"sessions,omitempty" nullable:"true"`
	Subscriptions   *int     `json:"subscriptions,omitempty" nullable:"true"`
	PublishRate     *float64 `json:"publishRate,omitempty" nullable:"true"`
	StoredBytes     *int64   `json:"storedBytes,omitempty" nullable:"true"`
	RetainedBytes   *int64   `json:"retainedBytes,omitempty" nullable:"true"`
	EvaluationsRate *float64 `json:"evaluationsRate,omitempty" nullable:"true"`
}

// OperatorStatus is what the running program says of itself.
type OperatorStatus struct {
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty" doc:"Why it is not ready."`
}

// operatorRoutes registers the operator's routes on s.
func (a *API) operatorRoutes(s *surface) {
	handle(s, operation{method: "GET", path: "/status", id: "status", summary: "Whether the program is ready, and why not", status: http.StatusOK}, a.operatorStatus)
	handle(s, operation{method: "GET", path: "/organisations", id: "list_organisations", summary: "Organisations", status: http.StatusOK, list: true}, a.listOrganisations)
	handle(s, operation{method: "POST", path: "/organisations", id: "create_organisation", summary: "Make an organisation; the answer holds its first credentials, once", status: http.StatusCreated, body: true, conflict: true}, a.createOrganisation)
	handle(s, operation{method: "GET", path: "/organisations/{org}", id: "read_organisation", summary: "One organisation", status: http.StatusOK}, a.operatorOrganisation)
	handle(s, operation{method: "DELETE", path: "/organisations/{org}", id: "delete_organisation", summary: "Remove an organisation and everything that is in it", status: http.StatusNoContent}, a.deleteOrganisation)
	handle(s, operation{method: "POST", path: "/organisations/{org}/suspend", id: "suspend_organisation", summary: "Refuse every credential of an organisation", status: http.StatusOK}, a.suspend(true))
	handle(s, operation{method: "POST", path: "/organisations/{org}/resume", id: "resume_organisation", summary: "Accept the credentials of an organisation again", status: http.StatusOK}, a.suspend(false))
	handle(s, operation{method: "PUT", path: "/organisations/{org}/quotas", id: "set_quotas", summary: "Change the quotas that the body names", status: http.StatusOK, body: true}, a.setQuotas)
	a.serverNameRoutes(s)
	a.transferRoutes(s)
	if a.revisions != nil {
		a.policyRoutes(s)
	}
	if a.decisions != nil {
		a.decisionRoutes(s, everybody)
	}
	if a.reviews != nil {
		a.reviewRoutes(s, everybody, maxCandidate)
		a.canaryRoutes(s)
	}
}

func (a *API) operatorStatus(context.Context, *call, *none) (OperatorStatus, error) {
	s := OperatorStatus{Version: a.version, Ready: true}
	if err := a.ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	}
	return s, nil
}

func (a *API) listOrganisations(ctx context.Context, c *call, _ *none) (List[OrganisationView], error) {
	page, err := c.page()
	if err != nil {
		return List[OrganisationView]{}, err
	}
	found, next, err := a.registry.Organisations(ctx, page)
	return listed(found, next, err, showOrganisation)
}

func (a *API) createOrganisation(ctx context.Context, c *call, in *NewOrganisation) (CreatedOrganisation, error) {
	if in.Org == nil {
		return CreatedOrganisation{}, invalid("org", "is required")
	}
	org, err := policy.ParseOrgID(*in.Org)
	if err != nil {
		return CreatedOrganisation{}, err
	}
	c.org = org
	seed, err := a.registry.SeedOrganisation(ctx, org, value(in.Name))
	if err != nil {
		return CreatedOrganisation{}, err
	}
	return CreatedOrganisation{
		Org: org.String(), APIKey: seed.APIKey.Key, APIToken: seed.APIToken,
		AdminUser: string(seed.AdminUser.Name) + "@" + org.String(), AdminPassword: seed.AdminPassword,
	}, nil
}

func (a *API) operatorOrganisation(ctx context.Context, c *call, _ *none) (OrganisationView, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	return showOrganisation(&o), err
}

func (a *API) deleteOrganisation(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.registry.DeleteOrganisation(ctx, c.org)
}

// suspend refuses every credential of the organisation, or accepts them again.
func (a *API) suspend(suspended bool) func(context.Context, *call, *none) (OrganisationView, error) {
	return func(ctx context.Context, c *call, _ *none) (OrganisationView, error) {
		o, err := a.registry.UpdateOrganisation(ctx, c.org, func(o *registry.Organisation) error {
			o.Suspended = suspended
			return nil
		})
		return showOrganisation(&o), err
	}
}

func (a *API) setQuotas(ctx context.Context, c *call, in *QuotasPatch) (OrganisationView, error) {
	o, err := a.registry.UpdateOrganisation(ctx, c.org, func(o *registry.Organisation) error {
		keep(&o.Quotas.Connections, in.Connections)
		keep(&o.Quotas.Sessions, in.Sessions)
		keep(&o.Quotas.Subscriptions, in.Subscriptions)
		keep(&o.Quotas.PublishRate, in.PublishRate)
		keep(&o.Quotas.StoredBytes, in.StoredBytes)
		keep(&o.Quotas.RetainedBytes, in.RetainedBytes)
		keep(&o.Quotas.EvaluationsRate, in.EvaluationsRate)
		return nil
	})
	return showOrganisation(&o), err
}

// keep sets *field to *given, or leaves it as it is where nothing is given.
func keep[T any](field, given *T) {
	if given != nil {
		*field = *given
	}
}

// value is *given, or the zero value where nothing is given.
func value[T any](given *T) (v T) {
	keep(&v, given)
	return v
}
