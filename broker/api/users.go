package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Users is what the routes of an organisation's users work on.
type Users interface {
	CreateUser(ctx context.Context, org policy.OrgID, u registry.User) (registry.User, string, error)
	User(ctx context.Context, org policy.OrgID, name policy.ID) (registry.User, error)
	Users(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.User, string, error)
	UpdateUser(ctx context.Context, org policy.OrgID, name policy.ID, edit func(*registry.User) error) (registry.User, error)
	DeleteUser(ctx context.Context, org policy.OrgID, name policy.ID) error
	ReplaceUserPassword(ctx context.Context, org policy.OrgID, name policy.ID, grace time.Duration) (string, error)
}

// UserObject is a user without the password.
type UserObject struct {
	UID      string    `json:"uid"`
	Username string    `json:"username" doc:"As it is typed: UID@ORG."`
	Roles    []string  `json:"roles" nullable:"false"`
	Status   int       `json:"status" enum:"0,1" doc:"0 disabled, 1 enabled."`
	Created  timestamp `json:"createdDateTime"`
	Updated  timestamp `json:"updatedDateTime"`
}

// showUser returns how an organisation's users are shown.
func showUser(org policy.OrgID) func(*registry.User) UserObject {
	return func(u *registry.User) UserObject {
		return UserObject{
			UID: string(u.Name), Username: string(u.Name) + "@" + org.String(), Roles: append([]string{}, u.Roles...),
			Status: status(u.Disabled), Created: timestamp{u.Created}, Updated: timestamp{u.Updated},
		}
	}
}

// NewUser asks for a user.
type NewUser struct {
	UID   *string  `json:"uid" nullable:"false" doc:"1 to 36 of a-z, A-Z, 0-9, '_', '.' and '-'; no e-mail address, since the part behind @ is the organisation."`
	Roles []string `json:"roles,omitempty" nullable:"true" doc:"Reader, unless given."`
}

// CreatedUser is the only answer that holds a new user's password.
type CreatedUser struct {
	UserObject
	Password string `json:"password"`
}

// UserPatch is what can be changed of a user.
type UserPatch struct {
	Roles  []string `json:"roles,omitempty" nullable:"true" doc:"Instead of those so far."`
	Status *int     `json:"status,omitempty" nullable:"true" enum:"0,1" doc:"0 disables at once, 1 enables."`
}

// UserRoles are the roles of a user, who has no resource groups.
type UserRoles struct {
	Roles         []RoleOfKey         `json:"roles" nullable:"false"`
	RolesToGroups map[string][]string `json:"rolesToGroups" required:"false" doc:"Empty: users have no resource groups."`
}

// UserPasswordRequest asks for another password. Its body may be absent.
type UserPasswordRequest struct {
	GraceSeconds *int `json:"graceSeconds,omitempty" nullable:"true" minimum:"0" maximum:"86400" doc:"How long the password so far stays good; 0 unless given."`
}

// UserPassword is the only answer that holds a user's new password.
type UserPassword struct {
	UID      string `json:"uid"`
	Password string `json:"password"`
}

func (a *API) userRoutes(s *surface) {
	const all, one = "/authorization/users", "/authorization/users/{uid}"
	handle(s, operation{
		method: "GET", path: all, id: "listUsers", summary: "Users",
		status: http.StatusOK, list: true,
	}, a.listUsers)
	handle(s, operation{
		method: "POST", path: all, id: "createUser", summary: "Add a user; the answer holds the password, once",
		status: http.StatusCreated, body: true, conflict: true, roles: userRolesAsked,
	}, a.createUser)
	handle(s, operation{
		method: "GET", path: one, id: "readUser", summary: "One user",
		status: http.StatusOK,
	}, a.readUser)
	handle(s, operation{
		method: "PUT", path: one, id: "updateUser", summary: "Change a user, or disable one; the last administrator stays one",
		status: http.StatusOK, body: true, conflict: true, roles: a.userRolesOfEdit,
	}, a.updateUser)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteUser", summary: "Remove a user, though not the last administrator",
		status: http.StatusNoContent, conflict: true, roles: a.rolesOfUser,
	}, a.deleteUser)
	handle(s, operation{
		method: "POST", path: one + "/password", id: "replaceUserPassword", summary: "Replace a user's password; the answer holds the new one, once",
		status: http.StatusOK, body: true, optional: true, roles: a.rolesOfUser,
	}, a.replaceUserPassword)
	handle(s, operation{
		method: "GET", path: one + "/roles", id: "readUserRoles", summary: "Roles of a user",
		status: http.StatusOK,
	}, a.readUserRoles)
	handle(s, operation{
		method: "PUT", path: one + "/roles", id: "replaceUserRoles", summary: "Give a user other roles, none beyond the caller",
		status: http.StatusOK, body: true, conflict: true, roles: a.userRolesGiven,
	}, a.replaceUserRoles)
}

// userRolesAsked are those that a new user is to have: whoever makes a user holds
// the password.
func userRolesAsked(_ context.Context, t *target) ([]string, error) {
	var asked NewUser
	if len(t.body) == 0 {
		return nil, nil
	}
	err := decode(t.body, &asked)
	return orReader(asked.Roles), err
}

// orReader is what the registry makes of no roles.
func orReader(roles []string) []string {
	if len(roles) == 0 {
		return []string{registry.RoleReader}
	}
	return roles
}

// rolesOfUser are those of the user whom the path names: nobody takes over or takes
// away somebody who may do more. One who does not exist has none; the handler says so.
func (a *API) rolesOfUser(ctx context.Context, t *target) ([]string, error) {
	name, err := policy.ParseID("uid", t.params("uid"))
	if err != nil {
		return nil, nil //nolint:nilerr // the handler finds nobody of that name
	}
	u, err := a.registry.User(ctx, t.org, name)
	if policy.KindOf(err) == policy.KindNotFound {
		return nil, nil
	}
	return u.Roles, err
}

// userRolesOfEdit are those that the user has and those that the user is to have.
func (a *API) userRolesOfEdit(ctx context.Context, t *target) ([]string, error) {
	var asked UserPatch
	if len(t.body) > 0 {
		if err := decode(t.body, &asked); err != nil {
			return nil, err
		}
	}
	if asked.Roles != nil {
		asked.Roles = orReader(asked.Roles)
	}
	had, err := a.rolesOfUser(ctx, t)
	return union(asked.Roles, had), err
}

// userRolesGiven is the same of a call that says nothing but roles.
func (a *API) userRolesGiven(ctx context.Context, t *target) ([]string, error) {
	var asked UserRoles
	if len(t.body) > 0 {
		if err := decode(t.body, &asked); err != nil {
			return nil, err
		}
	}
	had, err := a.rolesOfUser(ctx, t)
	return union(asked.names(), had), err
}

func (o *UserRoles) names() (names []string) {
	for _, role := range o.Roles {
		names = append(names, role.ID)
	}
	return names
}

func showUserRoles(u *registry.User) UserRoles {
	o := UserRoles{Roles: []RoleOfKey{}, RolesToGroups: map[string][]string{}}
	for _, role := range u.Roles {
		o.Roles = append(o.Roles, RoleOfKey{role, 1})
	}
	return o
}

// user is whom the path names.
func (c *call) user() (policy.ID, error) { return c.pathID("uid", "user") }

func (a *API) listUsers(ctx context.Context, c *call, _ *none) (List[UserObject], error) {
	page, err := c.page()
	if err != nil {
		return List[UserObject]{}, err
	}
	found, next, err := a.registry.Users(ctx, c.org, page)
	return listed(found, next, err, showUser(c.org))
}

func (a *API) createUser(ctx context.Context, c *call, in *NewUser) (CreatedUser, error) {
	name, err := bodyID("uid", in.UID)
	if err != nil {
		return CreatedUser{}, err
	}
	made, password, err := a.registry.CreateUser(ctx, c.org, registry.User{Name: name, Roles: in.Roles})
	if err != nil {
		return CreatedUser{}, err
	}
	return CreatedUser{showUser(c.org)(&made), password}, nil
}

func (a *API) readUser(ctx context.Context, c *call, _ *none) (UserObject, error) {
	name, err := c.user()
	if err != nil {
		return UserObject{}, err
	}
	u, err := a.registry.User(ctx, c.org, name)
	return showUser(c.org)(&u), err
}

func (a *API) updateUser(ctx context.Context, c *call, in *UserPatch) (UserObject, error) {
	name, err := c.user()
	if err != nil {
		return UserObject{}, err
	}
	if s := in.Status; s != nil && *s != 0 && *s != 1 {
		return UserObject{}, invalid("status", "must be 0 or 1")
	}
	u, err := a.registry.UpdateUser(ctx, c.org, name, func(u *registry.User) error {
		if in.Roles != nil {
			u.Roles = in.Roles
		}
		if in.Status != nil {
			u.Disabled = *in.Status == 0
		}
		return nil
	})
	return showUser(c.org)(&u), err
}

func (a *API) deleteUser(ctx context.Context, c *call, _ *none) (none, error) {
	name, err := c.user()
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteUser(ctx, c.org, name)
}

func (a *API) replaceUserPassword(ctx context.Context, c *call, in *UserPasswordRequest) (UserPassword, error) {
	name, nameErr := c.user()
	grace, err := parseGrace(in.GraceSeconds)
	if err := errors.Join(nameErr, err); err != nil {
		return UserPassword{}, err
	}
	password, err := a.registry.ReplaceUserPassword(ctx, c.org, name, grace)
	if err != nil {
		return UserPassword{}, err
	}
	return UserPassword{UID: string(name), Password: password}, nil
}

func (a *API) readUserRoles(ctx context.Context, c *call, _ *none) (UserRoles, error) {
	name, err := c.user()
	if err != nil {
		return UserRoles{}, err
	}
	u, err := a.registry.User(ctx, c.org, name)
	return showUserRoles(&u), err
}

func (a *API) replaceUserRoles(ctx context.Context, c *call, in *UserRoles) (UserRoles, error) {
	name, err := c.user()
	if err != nil {
		return UserRoles{}, err
	}
	for _, role := range in.Roles {
		if role.Status != 1 {
			return UserRoles{}, invalid("roleStatus", "must be 1; leave out a role that the user is not to have")
		}
	}
	for _, groups := range in.RolesToGroups {
		if len(groups) > 0 {
			return UserRoles{}, invalid("rolesToGroups", "must be empty: users have no resource groups")
		}
	}
	if len(in.Roles) == 0 {
		return UserRoles{}, invalid("roles", "must have at least one")
	}
	u, err := a.registry.UpdateUser(ctx, c.org, name, func(u *registry.User) error {
		u.Roles = in.names()
		return nil
	})
	return showUserRoles(&u), err
}
