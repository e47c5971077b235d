package registry

import (
	"context"

	"github.com/cordon-mq/cordon/policy"
)

// Seed is a new organisation with its first API key and its first user. The
// token and the password can never be read again.
type Seed struct {
	Organisation  Organisation
	APIKey        APIKey // with RoleAdminApp
	APIToken      string
	AdminUser     User // "admin", a RoleAdministrator
	AdminPassword string
}

// SeedOrganisation creates an organisation that somebody can sign in to, in one
// commit. The error is policy.KindExists when the name is taken. When it
// returns, everything is on disk: the secrets it returns may be printed.
func (r *Registry) SeedOrganisation(ctx context.Context, id policy.OrgID, name string) (Seed, error) {
	token, password := r.generate(generatedToken), r.generate(generatedToken)
	seed := Seed{APIToken: token.text, AdminPassword: password.text}
	err := r.write(ctx, "create organisation", removal, func(w *writing) error {
		made, scope, err := w.createOrganisation(id, name)
		if err != nil {
			return err
		}
		h := home{scope, stamped[standing]{w.stamp, standing{ID: made.ID, Incarnation: made.Incarnation}}}
		seed.Organisation = made
		if seed.APIKey, err = w.createAPIKey(h, APIKey{Comment: "first administrator", Roles: []string{RoleAdminApp}}, token); err != nil {
			return err
		}
		seed.AdminUser, err = w.createUser(h, User{Name: "admin", Roles: []string{RoleAdministrator}}, password)
		return err
	})
	if err != nil {
		return Seed{}, err
	}
	return seed, nil
}
