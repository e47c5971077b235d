package api

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Claims is what the routes of claims work on: those by which devices register
// themselves. A claim of another organisation is unknown to it.
type Claims interface {
	CreateClaim(ctx context.Context, org policy.OrgID, c registry.Claim) (registry.Claim, string, error)
	Claim(ctx context.Context, org policy.OrgID, id policy.ID) (registry.Claim, error)
	Claims(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.Claim, string, error)
	DeleteClaim(ctx context.Context, org policy.OrgID, id policy.ID) error
}

// ClaimObject is a claim without its token.
type ClaimObject struct {
	ID        string    `json:"id"`
	TypeID    string    `json:"typeId" doc:"The device type that its devices are registered under."`
	Prefix    string    `json:"deviceIdPrefix" doc:"What the identifiers of its devices begin with; empty: with anything."`
	Count     int       `json:"count" doc:"How many devices it registers."`
	Left      int       `json:"left" doc:"How many of them it has not yet."`
	Expires   timestamp `json:"expires"`
	Status    string    `json:"status" enum:"open,spent,expired"`
	Comment   string    `json:"comment"`
	Created   timestamp `json:"createdDateTime"`
	CreatedBy string    `json:"createdBy"`
}

func (a *API) showClaim(c *registry.Claim) ClaimObject {
	o := ClaimObject{
		ID: string(c.ID), TypeID: string(c.Type), Prefix: string(c.Prefix), Count: c.Count, Left: c.Left,
		Expires: timestamp{c.Expires}, Status: "open", Comment: c.Comment, Created: timestamp{c.Created}, CreatedBy: c.CreatedBy,
	}
	switch {
	case c.EndedAt(a.now()):
		o.Status = "expired"
	case c.Left == 0:
		o.Status = "spent"
	}
	return o
}

// NewClaim asks for a claim.
type NewClaim struct {
	TypeID  *string `json:"typeId" nullable:"false" doc:"Of class Device."`
	Count   *int    `json:"count,omitempty" nullable:"true" minimum:"1" maximum:"10000" default:"1"`
	Expires *string `json:"expires" nullable:"false" format:"date-time" doc:"Within 366 days."`
	Prefix  *string `json:"deviceIdPrefix,omitempty" nullable:"true" doc:"What the identifiers of its devices begin with."`
	Comment *string `json:"comment,omitempty" nullable:"true"`
}

// CreatedClaim is the only answer that holds a claim's token.
type CreatedClaim struct {
	ClaimObject
	Token string `json:"token" doc:"The password of a device whose username is use-claim-token."`
}

// ProvisionedDevice is what a device connects with from now on.
type ProvisionedDevice struct {
	ClientID string `json:"clientId"`
	Username string `json:"username"`
	Token    string `json:"authToken" doc:"It is in this answer alone."`
}

const claimUser = "use-claim-token"

func (a *API) claimRoutes(s *surface, mux *http.ServeMux) {
	const all, one, device = "/provisioning/claims", "/provisioning/claims/{claimId}", "/provisioning/devices"
	handle(s, operation{
		method: "GET", path: all, id: "listClaims", summary: "Claims by which devices register themselves",
		status: http.StatusOK, list: true,
	}, a.listClaims)
	handle(s, operation{
		method: "POST", path: all, id: "createClaim", summary: "Add a claim; the answer holds its token, once",
		status: http.StatusCreated, body: true, conflict: true,
	}, a.createClaim)
	handle(s, operation{
		method: "GET", path: one, id: "readClaim", summary: "One claim",
		status: http.StatusOK,
	}, a.readClaim)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteClaim", summary: "Remove a claim and disconnect what uses it; its devices stay",
		status: http.StatusNoContent,
	}, a.deleteClaim)
	if a.messaging == nil {
		return
	}
	// Who is registered by a claim is not for cordon.admin to say, but for
	// cordon.connect.
	d := describeMessage(device, "provisionDevice", "Register the device that shows a claim, as d/ORG/TYPE/ID with the claim's token; the answer holds a token of its own, once")
	d.Tags = []string{"provisioning"}
	delete(d.Responses, "404")
	delete(d.Responses, "415")
	d.Responses["201"] = &huma.Response{
		Description: "The device is registered, and this is what it connects with",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ProvisionedDevice](), true, "ProvisionedDevice")}},
	}
	s.huma.OpenAPI().AddOperation(d)
	mux.HandleFunc("POST "+s.prefix+device, func(w http.ResponseWriter, r *http.Request) {
		a.messaged(w, r, a.provision(w, r))
	})
}

func (a *API) listClaims(ctx context.Context, c *call, _ *none) (List[ClaimObject], error) {
	page, err := c.page()
	if err != nil {
		return List[ClaimObject]{}, err
	}
	found, next, err := a.registry.Claims(ctx, c.org, page)
	return listed(found, next, err, a.showClaim)
}

func (a *API) createClaim(ctx context.Context, c *call, in *NewClaim) (CreatedClaim, error) {
	if in.TypeID == nil {
		return CreatedClaim{}, invalid("typeId", "is required")
	}
	if in.Expires == nil {
		return CreatedClaim{}, invalid("expires", "is required")
	}
	expires, err := parseTime("expires", *in.Expires)
	if err != nil {
		return CreatedClaim{}, err
	}
	asked := registry.Claim{
		Type: policy.ID(*in.TypeID), Prefix: policy.ID(value(in.Prefix)), Count: 1, Expires: expires, Comment: value(in.Comment), CreatedBy: c.caller,
	}
	if in.Count != nil {
		asked.Count = *in.Count
	}
	made, token, err := a.registry.CreateClaim(ctx, c.org, asked)
	if err != nil {
		return CreatedClaim{}, err
	}
	return CreatedClaim{a.showClaim(&made), token}, nil
}

func (a *API) readClaim(ctx context.Context, c *call, _ *none) (ClaimObject, error) {
	id, err := c.pathID("claimId", "claim")
	if err != nil {
		return ClaimObject{}, err
	}
	found, err := a.registry.Claim(ctx, c.org, id)
	if err != nil {
		return ClaimObject{}, err
	}
	return a.showClaim(&found), nil
}

func (a *API) deleteClaim(ctx context.Context, c *call, _ *none) (none, error) {
	id, err := c.pathID("claimId", "claim")
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteClaim(ctx, c.org, id)
}

// provision registers the device that r is from, and answers with a token of its own.
func (a *API) provision(w http.ResponseWriter, r *http.Request) error {
	c, err := claimOf(r)
	if err != nil {
		a.logMessaging(r, nil, policy.CauseUnknown, err.Error())
		return &policy.Error{Kind: policy.KindUnauthenticated, Public: policy.CauseUnknown.Public()}
	}
	m, err := a.messaging.Enter(r.Context(), c, hostOf(r))
	if err != nil {
		return err
	}
	defer m.Leave()
	made, err := m.HandOver(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(made) //nolint:gosec // JSON of our own, and nosniff; whoever did not get it asks again
	return nil
}

// claimOf makes of what r shows what a CONNECT would have: the username d/ORG/TYPE/ID
// is the device, and the password the token of a claim.
func claimOf(r *http.Request) (*plugins.Credential, error) {
	username, password, ok := r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return nil, errCredential("no Basic credential")
	}
	id, _ := clientNamed(username)
	if !strings.HasPrefix(id, "d:") {
		return nil, errCredential("the username is not d/ORG/TYPE/ID")
	}
	return credential(r, id, claimUser, password), nil
}
