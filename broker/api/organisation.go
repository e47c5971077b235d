package api

import (
	"context"
	"net/http"
)

// OrganisationObject is the caller's organisation.
type OrganisationObject struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Type    string    `json:"type" doc:"Always Standard."`
	Created timestamp `json:"created"`
	Updated timestamp `json:"updated"`
}

func (a *API) organisationRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: "/", id: "readOrganisation", summary: "The organisation of the credential",
		status: http.StatusOK,
	}, a.organisation)
}

func (a *API) organisation(ctx context.Context, c *call, _ *none) (OrganisationObject, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	if err != nil {
		return OrganisationObject{}, err
	}
	return OrganisationObject{
		ID: o.ID.String(), Name: o.Name, Type: "Standard",
		Created: timestamp{o.Created}, Updated: timestamp{o.Updated},
	}, nil
}
