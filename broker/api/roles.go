package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Roles is what the routes of an organisation's own roles work on.
type Roles interface {
	CreateRole(ctx context.Context, org policy.OrgID, o registry.Role) (registry.Role, error)
	Role(ctx context.Context, org policy.OrgID, id policy.ID) (registry.Role, error)
	Roles(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.Role, string, error)
	UpdateRole(ctx context.Context, org policy.OrgID, id policy.ID, edit func(*registry.Role) error) (registry.Role, error)
	DeleteRole(ctx context.Context, org policy.OrgID, id policy.ID) error
	// RolePermissions are what those of roles permit that the organisation made.
	RolePermissions(ctx context.Context, org policy.OrgID, roles []string) ([]string, error)
}

// RoleObject is a role that the organisation made itself.
type RoleObject struct {
	ID          string    `json:"roleId"`
	Description string    `json:"description"`
	Permissions []string  `json:"permissions" nullable:"false"`
	Created     timestamp `json:"createdDateTime"`
	Updated     timestamp `json:"updatedDateTime"`
}

func showRole(o *registry.Role) RoleObject {
	return RoleObject{
		ID: string(o.ID), Description: o.Description, Permissions: append([]string{}, o.Permissions...),
		Created: timestamp{o.Created}, Updated: timestamp{o.Updated},
	}
}

// NewRole asks for a role.
type NewRole struct {
	ID          *string  `json:"roleId" nullable:"false" doc:"1 to 36 of a-z, A-Z, 0-9, '_', '.' and '-'; none of the platform's own."`
	Description *string  `json:"description,omitempty" nullable:"true"`
	Permissions []string `json:"permissions" nullable:"false" doc:"Such as devices.view and events.subscribe."`
}

// RolePatch is what can be changed of a role.
type RolePatch struct {
	Description *string  `json:"description,omitempty" nullable:"true"`
	Permissions []string `json:"permissions,omitempty" nullable:"true" doc:"Instead of those so far."`
}

func (a *API) roleRoutes(s *surface) {
	const all, one, held = "/authorization/roles", "/authorization/roles/{roleId}", "/authorization/apikeys/{key}/roles"
	handle(s, operation{
		method: "GET", path: all, id: "listRoles", summary: "Roles that the organisation made itself",
		status: http.StatusOK, list: true,
	}, a.listRoles)
	handle(s, operation{
		method: "POST", path: all, id: "createRole", summary: "Make a role, of no more than the caller may do",
		status: http.StatusCreated, body: true, conflict: true, permissions: permissionsAsked,
	}, a.createRole)
	handle(s, operation{
		method: "GET", path: one, id: "readRole", summary: "One role",
		status: http.StatusOK,
	}, a.readRole)
	handle(s, operation{
		method: "PUT", path: one, id: "updateRole", summary: "Change a role; whoever has it is judged again",
		status: http.StatusOK, body: true, permissions: a.permissionsOfEdit,
	}, a.updateRole)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteRole", summary: "Remove a role that nobody has",
		status: http.StatusNoContent, conflict: true,
	}, a.deleteRole)
	handle(s, operation{
		method: "GET", path: held, id: "readAPIKeyRoles", summary: "Roles of an API key",
		status: http.StatusOK,
	}, a.readAPIKeyRoles)
	handle(s, operation{
		method: "PUT", path: held, id: "replaceAPIKeyRoles", summary: "Give an API key other roles, none beyond the caller",
		status: http.StatusOK, body: true, roles: a.rolesGiven,
	}, a.replaceAPIKeyRoles)
}

// permissionsAsked are those that a role is to have.
func permissionsAsked(_ context.Context, t *target) ([]string, error) {
	var asked RolePatch
	if len(t.body) == 0 {
		return nil, nil
	}
	err := decode(t.body, &asked)
	return asked.Permissions, err
}

// permissionsOfEdit are those that the role has and those that it is to have: nobody
// raises a role beyond themselves, or takes anything from one that is beyond them.
func (a *API) permissionsOfEdit(ctx context.Context, t *target) ([]string, error) {
	asked, err := permissionsAsked(ctx, t)
	if err != nil {
		return nil, err
	}
	had, err := a.registry.RolePermissions(ctx, t.org, []string{t.params("roleId")})
	return union(asked, had), err
}

// union is some and others, each once.
func union(some, others []string) []string {
	for _, word := range others {
		if !slices.Contains(some, word) {
			some = append(some, word)
		}
	}
	return some
}

func (a *API) listRoles(ctx context.Context, c *call, _ *none) (List[RoleObject], error) {
	page, err := c.page()
	if err != nil {
		return List[RoleObject]{}, err
	}
	found, next, err := a.registry.Roles(ctx, c.org, page)
	return listed(found, next, err, showRole)
}

func (a *API) createRole(ctx context.Context, c *call, in *NewRole) (RoleObject, error) {
	id, err := bodyID("roleId", in.ID)
	if err != nil {
		return RoleObject{}, err
	}
	made, err := a.registry.CreateRole(ctx, c.org, registry.Role{ID: id, Description: value(in.Description), Permissions: in.Permissions})
	return showRole(&made), err
}

func (a *API) readRole(ctx context.Context, c *call, _ *none) (RoleObject, error) {
	id, err := c.pathID("roleId", "role")
	if err != nil {
		return RoleObject{}, err
	}
	o, err := a.registry.Role(ctx, c.org, id)
	return showRole(&o), err
}

func (a *API) updateRole(ctx context.Context, c *call, in *RolePatch) (RoleObject, error) {
	id, err := c.pathID("roleId", "role")
	if err != nil {
		return RoleObject{}, err
	}
	o, err := a.registry.UpdateRole(ctx, c.org, id, func(o *registry.Role) error {
		keep(&o.Description, in.Description)
		if in.Permissions != nil {
			o.Permissions = in.Permissions
		}
		return nil
	})
	return showRole(&o), err
}

func (a *API) deleteRole(ctx context.Context, c *call, _ *none) (none, error) {
	id, err := c.pathID("roleId", "role")
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteRole(ctx, c.org, id)
}

// RoleOfKey is a role as the platform names it in the roles of a key. It may be sent
// as the plain identifier, too.
type RoleOfKey struct {
	ID     string `json:"roleId"`
	Status int    `json:"roleStatus"`
}

// UnmarshalJSON reads both forms. A status that is left out is 1.
func (o *RoleOfKey) UnmarshalJSON(text []byte) error {
	if *o = (RoleOfKey{Status: 1}); bytes.HasPrefix(text, []byte{'"'}) {
		return json.Unmarshal(text, &o.ID)
	}
	type whole RoleOfKey // without this method
	return json.Unmarshal(text, (*whole)(o))
}

// Schema describes both forms for the OpenAPI document.
func (RoleOfKey) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString},
		{
			Type: huma.TypeObject, Required: []string{"roleId"},
			Properties: map[string]*huma.Schema{"roleId": {Type: huma.TypeString}, "roleStatus": {Type: huma.TypeInteger, Enum: []any{1}}},
		},
	}}
}

// RolesObject is the roles of an API key or a gateway, and the groups that it reaches:
// those of the one role that comes with groups. Without an entry there it reaches every
// device.
type RolesObject struct {
	Roles         []RoleOfKey         `json:"roles" nullable:"false"`
	RolesToGroups map[string][]string `json:"rolesToGroups" required:"false" doc:"Groups by role; they stay as they are where this is left out. Whoever was given groups once is held to groups from then on, also to none."`
}

func (in *RolesObject) names() (names []string) {
	for _, role := range in.Roles {
		names = append(names, role.ID)
	}
	return names
}

// rolesGiven are those that the key has and those that it is to have; see
// rolesOfEdit.
func (a *API) rolesGiven(ctx context.Context, t *target) ([]string, error) {
	var asked RolesObject
	if len(t.body) > 0 {
		if err := decode(t.body, &asked); err != nil {
			return nil, err
		}
	}
	had, err := a.rolesOfKey(ctx, t)
	return union(asked.names(), had), err
}

func (a *API) readAPIKeyRoles(ctx context.Context, c *call, _ *none) (RolesObject, error) {
	k, err := a.registry.APIKey(ctx, c.org, c.params("key"))
	if err != nil {
		return RolesObject{}, err
	}
	return a.showRoles(ctx, c, k.Roles, &k.Reach)
}

func (a *API) replaceAPIKeyRoles(ctx context.Context, c *call, in *RolesObject) (RolesObject, error) {
	k, err := a.registry.UpdateAPIKey(ctx, c.org, c.params("key"), func(k *registry.APIKey) error {
		return in.apply(&k.Roles, &k.Reach)
	})
	if err != nil {
		return RolesObject{}, err
	}
	return a.showRoles(ctx, c, k.Roles, &k.Reach)
}
