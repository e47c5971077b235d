package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Groups is what the routes of resource groups work on.
type Groups interface {
	CreateGroup(ctx context.Context, org policy.OrgID, g registry.Group) (registry.Group, error)
	Group(ctx context.Context, org policy.OrgID, id string) (registry.Group, error)
	Groups(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.Group, string, error)
	UpdateGroup(ctx context.Context, org policy.OrgID, id string, edit func(*registry.Group) error) (registry.Group, error)
	DeleteGroup(ctx context.Context, org policy.OrgID, id string) error
	AddToGroup(ctx context.Context, org policy.OrgID, group string, devices []registry.DeviceName) ([]registry.Result, error)
	RemoveFromGroup(ctx context.Context, org policy.OrgID, group string, devices []registry.DeviceName) ([]registry.Result, error)
	// Reached lists the devices of groups, as Devices does those of the organisation.
	Reached(ctx context.Context, org policy.OrgID, typ policy.ID, groups []string, page registry.Page) ([]registry.Device, string, error)
	// DeviceFacts is what policies are told of a device, whether it exists or not.
	DeviceFacts(ctx context.Context, org policy.OrgID, typ, id policy.ID) (*policy.Device, error)
	// LiveGroups are those that are still there.
	LiveGroups(ctx context.Context, org policy.OrgID, refs []registry.GroupRef) ([]string, error)
}

// GroupObject is a group of devices.
type GroupObject struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	SearchTags  []string  `json:"searchTags" nullable:"false"`
	Created     timestamp `json:"created"`
	Updated     timestamp `json:"updated"`
}

func showGroup(g *registry.Group) GroupObject {
	return GroupObject{
		ID: g.ID, Name: g.Name, Description: g.Description, SearchTags: append([]string{}, g.SearchTags...),
		Created: timestamp{g.Created}, Updated: timestamp{g.Updated},
	}
}

// NewGroup asks for a group, under an identifier that the answer says.
type NewGroup struct {
	Name        *string  `json:"name" nullable:"false"`
	Description *string  `json:"description,omitempty" nullable:"true"`
	SearchTags  []string `json:"searchTags,omitempty" nullable:"true"`
}

// GroupPatch is what can be changed of a group.
type GroupPatch struct {
	Name        *string  `json:"name,omitempty" nullable:"true"`
	Description *string  `json:"description,omitempty" nullable:"true"`
	SearchTags  []string `json:"searchTags,omitempty" nullable:"true" doc:"Instead of those so far."`
}

func (p *GroupPatch) apply(g *registry.Group) {
	keep(&g.Name, p.Name)
	keep(&g.Description, p.Description)
	if p.SearchTags != nil {
		g.SearchTags = p.SearchTags
	}
}

// GroupMember is a device by its names.
type GroupMember struct {
	TypeID   string `json:"typeId"`
	DeviceID string `json:"deviceId"`
}

// AccessControl says whether API keys are held to their groups.
type AccessControl struct {
	Enable *bool `json:"enable" nullable:"false" doc:"Hold API keys that were given groups to those. Gateways always are."`
}

func (a *API) groupRoutes(s *surface) {
	const all, one, members = "/groups", "/groups/{groupId}", "/bulk/devices/{groupId}"
	handle(s, operation{
		method: "GET", path: all, id: "listGroups", summary: "Groups of devices: those of the organisation, then the default groups of gateways",
		status: http.StatusOK, list: true,
	}, a.listGroups)
	handle(s, operation{
		method: "POST", path: all, id: "createGroup", summary: "Add a group; the answer holds its identifier",
		status: http.StatusCreated, body: true, conflict: true,
	}, a.createGroup)
	handle(s, operation{
		method: "GET", path: one, id: "readGroup", summary: "One group",
		status: http.StatusOK,
	}, a.readGroup)
	handle(s, operation{
		method: "PUT", path: one, id: "updateGroup", summary: "Change a group",
		status: http.StatusOK, body: true,
	}, a.updateGroup)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteGroup", summary: "Remove a group; its devices stay, and are reached through it no more",
		status: http.StatusOK, conflict: true,
	}, a.deleteGroup)
	handle(s, operation{
		method: "GET", path: members, id: "listGroupDevices", summary: "Devices of a group, by type and identifier",
		status: http.StatusOK, list: true, queries: deviceParameters(),
	}, a.listMembers)
	handle(s, operation{
		method: "GET", path: members + "/ids", id: "listGroupDeviceIds", summary: "Names of the devices of a group",
		status: http.StatusOK, list: true, queries: deviceParameters(),
	}, a.listMemberIDs)
	handle(s, operation{
		method: "PUT", path: members + "/add", id: "addGroupDevices", summary: "Put devices into a group; one that is in it counts as added",
		status: http.StatusOK, partly: http.StatusAccepted, body: true,
	}, a.changeMembers(a.registry.AddToGroup))
	handle(s, operation{
		method: "PUT", path: members + "/remove", id: "removeGroupDevices", summary: "Take devices out of a group; one that is not in it counts as taken",
		status: http.StatusOK, partly: http.StatusAccepted, body: true,
	}, a.changeMembers(a.registry.RemoveFromGroup))
	handle(s, operation{
		method: "GET", path: "/accesscontrol", id: "readAccessControl", summary: "Whether API keys are held to their groups",
		status: http.StatusOK,
	}, a.readAccessControl)
	handle(s, operation{
		method: "PUT", path: "/accesscontrol", id: "updateAccessControl", summary: "Hold API keys to their groups, or let them reach every device; gateways are always held to theirs",
		status: http.StatusOK, body: true,
	}, a.updateAccessControl)
}

func (a *API) listGroups(ctx context.Context, c *call, _ *none) (List[GroupObject], error) {
	page, err := c.page()
	if err != nil {
		return List[GroupObject]{}, err
	}
	if c.groups != nil {
		return sorted(page, func(registry.Page) ([]registry.Group, string, error) {
			found, err := a.groupsReached(ctx, c)
			return found, "", err
		}, nil, by(func(g *registry.Group) string { return g.ID }), showGroup)
	}
	found, next, err := a.registry.Groups(ctx, c.org, page)
	return listed(found, next, err, showGroup)
}

// groupsReached are the groups that the call is about, a handful.
func (a *API) groupsReached(ctx context.Context, c *call) (found []registry.Group, err error) {
	for _, id := range c.groups {
		g, err := a.registry.Group(ctx, c.org, id)
		if policy.KindOf(err) == policy.KindNotFound && err != nil {
			continue // since a moment
		}
		if err != nil {
			return nil, err
		}
		found = append(found, g)
	}
	return found, nil
}

func (a *API) createGroup(ctx context.Context, c *call, in *NewGroup) (GroupObject, error) {
	if value(in.Name) == "" {
		return GroupObject{}, invalid("name", "is required")
	}
	made, err := a.registry.CreateGroup(ctx, c.org, registry.Group{Name: *in.Name, Description: value(in.Description), SearchTags: in.SearchTags})
	return showGroup(&made), err
}

func (a *API) readGroup(ctx context.Context, c *call, _ *none) (GroupObject, error) {
	g, err := a.registry.Group(ctx, c.org, c.params("groupId"))
	return showGroup(&g), err
}

func (a *API) updateGroup(ctx context.Context, c *call, in *GroupPatch) (GroupObject, error) {
	g, err := a.registry.UpdateGroup(ctx, c.org, c.params("groupId"), func(g *registry.Group) error {
		in.apply(g)
		return nil
	})
	return showGroup(&g), err
}

func (a *API) deleteGroup(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.registry.DeleteGroup(ctx, c.org, c.params("groupId"))
}

// membersFetched fetches the devices of the group that the path names.
func (a *API) membersFetched(ctx context.Context, c *call) (func(registry.Page) ([]registry.Device, string, error), error) {
	id := c.params("groupId")
	_, err := a.registry.Group(ctx, c.org, id)
	return func(page registry.Page) ([]registry.Device, string, error) {
		return a.registry.Reached(ctx, c.org, "", []string{id}, page)
	}, err
}

func (a *API) listMembers(ctx context.Context, c *call, _ *none) (List[DeviceObject], error) {
	fetch, err := a.membersFetched(ctx, c)
	if err != nil {
		return List[DeviceObject]{}, err
	}
	return listing(c, fetch, deviceOrder(), deviceFilters(), showDevice(c.org))
}

func (a *API) listMemberIDs(ctx context.Context, c *call, _ *none) (List[GroupMember], error) {
	fetch, err := a.membersFetched(ctx, c)
	if err != nil {
		return List[GroupMember]{}, err
	}
	return listing(c, fetch, deviceOrder(), deviceFilters(), func(d *registry.Device) GroupMember {
		return GroupMember{string(d.Type), string(d.ID)}
	})
}

type regrouping func(context.Context, policy.OrgID, string, []registry.DeviceName) ([]registry.Result, error)

func (a *API) changeMembers(change regrouping) func(context.Context, *call, *[]BulkDeviceName) (BulkResults, error) {
	return func(ctx context.Context, c *call, in *[]BulkDeviceName) (BulkResults, error) {
		b := bulk[registry.DeviceName]{results: BulkResults{}}
		for _, entry := range *in {
			typ, typErr := bodyID("typeId", entry.TypeID)
			id, idErr := bodyID("deviceId", entry.DeviceID)
			b.enter(entry.TypeID, entry.DeviceID, registry.DeviceName{Type: typ, ID: id}, errors.Join(typErr, idErr))
		}
		results, err := change(ctx, c.org, c.params("groupId"), b.items)
		if err != nil {
			return nil, err
		}
		return b.finish(results, func(err error) bool { return err == nil }), nil
	}
}

func (a *API) readAccessControl(ctx context.Context, c *call, _ *none) (AccessControl, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	return AccessControl{new(!o.KeysReachAll)}, err
}

func (a *API) updateAccessControl(ctx context.Context, c *call, in *AccessControl) (AccessControl, error) {
	if in.Enable == nil {
		return AccessControl{}, invalid("enable", "is required")
	}
	o, err := a.registry.UpdateOrganisation(ctx, c.org, func(o *registry.Organisation) error {
		o.KeysReachAll = !*in.Enable
		return nil
	})
	return AccessControl{new(!o.KeysReachAll)}, err
}

// showRoles shows roles, and where it is restricted the groups that come with the one
// role there is, as far as the call may see them.
func (a *API) showRoles(ctx context.Context, c *call, roles []string, reach *registry.Reach) (RolesObject, error) {
	o := RolesObject{Roles: []RoleOfKey{}, RolesToGroups: map[string][]string{}}
	for _, role := range roles {
		o.Roles = append(o.Roles, RoleOfKey{role, 1})
	}
	if !reach.Restricted || len(roles) != 1 {
		return o, nil
	}
	live, err := a.registry.LiveGroups(ctx, c.org, reach.Groups)
	if err != nil {
		return RolesObject{}, err
	}
	live = slices.DeleteFunc(live, func(g string) bool { return !c.reaches([]string{g}) })
	o.RolesToGroups[roles[0]] = append([]string{}, live...)
	return o, nil
}

// apply changes roles and reach to what is asked for. Groups that are not mentioned
// stay.
func (in *RolesObject) apply(roles *[]string, reach *registry.Reach) error {
	for _, role := range in.Roles {
		if role.Status != 1 {
			return invalid("roleStatus", "must be 1; leave out a role that is not to be there")
		}
	}
	names := in.names()
	if len(names) == 0 {
		return invalid("roles", "must have at least one")
	}
	if in.RolesToGroups != nil {
		var groups []string
		for role, list := range in.RolesToGroups {
			if len(list) > 0 && !slices.Contains(names, role) {
				return invalid("rolesToGroups", "must be of a role that is given")
			}
			groups = append(groups, list...)
		}
		reach.Groups = registry.RefsTo(groups...)
	}
	*roles = names
	return nil
}

// gatewayRoles are those that the gateway in the path has and those that it is to
// have; see rolesOfEdit.
func (a *API) gatewayRoles(ctx context.Context, t *target) ([]string, error) {
	var asked RolesObject
	if len(t.body) > 0 {
		if err := decode(t.body, &asked); err != nil {
			return nil, err
		}
	}
	_, typ, id, err := (&call{org: t.org, params: t.params}).subject()
	if err != nil {
		return asked.names(), nil //nolint:nilerr // the handler says so
	}
	d, err := a.registry.Device(ctx, t.org, typ, id)
	if policy.KindOf(err) == policy.KindNotFound {
		return asked.names(), nil
	}
	return union(asked.names(), d.Roles), err
}

func (a *API) readDeviceRoles(ctx context.Context, c *call, _ *none) (RolesObject, error) {
	class, typ, id, err := c.subject()
	if err != nil {
		return RolesObject{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	if err == nil && !addresses(class, &d) {
		err = notFound("device")
	}
	if err != nil {
		return RolesObject{}, err
	}
	return a.showRoles(ctx, c, d.Roles, &d.Reach)
}

func (a *API) replaceDeviceRoles(ctx context.Context, c *call, in *RolesObject) (RolesObject, error) {
	class, typ, id, err := c.subject()
	if err != nil {
		return RolesObject{}, err
	}
	d, err := a.registry.UpdateDevice(ctx, c.org, typ, id, func(d *registry.Device) error {
		switch {
		case !addresses(class, d):
			return notFound("device")
		case d.ClassID != registry.ClassGateway:
			return &fault{status: http.StatusForbidden, message: "the device is no gateway"}
		default:
			return in.apply(&d.Roles, &d.Reach)
		}
	})
	if err != nil {
		return RolesObject{}, err
	}
	return a.showRoles(ctx, c, d.Roles, &d.Reach)
}

// namesGroup reports whether a route is about one group.
func namesGroup(path string) bool { return strings.Contains(path, "{groupId}") }
