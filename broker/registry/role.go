package registry

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// maxOwnRoles is how many roles an organisation may make.
const maxOwnRoles = 20

// Role is a role that an organisation made itself. Policies see what it permits in
// input.principal.permissions of whoever has it.
//
// A role is made, and removed, while no API key, no user and no gateway has it. So nobody gets
// permissions by a name that they were given before it meant anything, and a name
// that means nothing any more is nobody's.
type Role struct {
	ID          policy.ID `json:"roleId"`
	Description string    `json:"description,omitempty"` // at most 1024 bytes
	Permissions []string  `json:"permissions"`           // of Permissions, each once
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
}

// Permissions are the words that a Role may have. The built-in policy's tables use
// the same.
func Permissions() []string {
	return []string{
		"events.publish", "events.subscribe", "commands.publish", "commands.subscribe",
		"organisation.view",
		"types.view", "types.edit", "devices.view", "devices.edit",
		"access.view", "access.edit", "groups.view", "groups.edit",
		"clients.view", "logs.view", "lastevents.view", "usage.view", "settings.view", "settings.edit",
		"diagnostics.view", "diagnostics.edit", "mgmt.view", "mgmt.edit",
		"apikeys.view", "apikeys.edit", "users.view", "users.edit", "roles.view", "roles.edit",
		"certificates.view", "certificates.edit", "provisioning.view", "provisioning.edit", "connections.view", "connections.edit", "policy.view", "policy.edit",
	}
}

// isBuiltInRole reports whether a name is one of the platform's own, which no
// organisation can make: "PD_…", and those of users.
func isBuiltInRole(name string) bool {
	switch name {
	case RoleAdministrator, "Operator", "Developer", "Analyst", RoleReader:
		return true
	default:
		return strings.HasPrefix(name, "PD_")
	}
}

func roleKey(s store.Scope, id policy.ID) store.Key { return s.Key(store.KindRole, string(id)) }

func (o *Role) check() error {
	if _, err := policy.ParseID("roleId", string(o.ID)); err != nil {
		return err
	}
	if isBuiltInRole(string(o.ID)) {
		return invalid("roleId", "must be none of the platform's own")
	}
	known, once := Permissions(), []string{}
	for _, word := range o.Permissions {
		if !slices.Contains(known, word) {
			return invalid("permissions", "must be of "+strings.Join(known, ", "))
		}
		if !slices.Contains(once, word) {
			once = append(once, word)
		}
	}
	if o.Permissions = once; len(once) == 0 {
		return invalid("permissions", "must not be empty")
	}
	return checkText("description", o.Description, maxText)
}

// CreateRole adds a role. The error is policy.KindExists when there is one of the
// name, policy.KindConflict beyond 20, and when an API key or a user has the name
// among its roles already.
func (r *Registry) CreateRole(ctx context.Context, org policy.OrgID, o Role) (Role, error) {
	var made Role
	err := r.write(ctx, "create role", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return err
		}
		if err := w.absent(roleKey(h.scope, o.ID), "role"); err != nil {
			return err
		}
		if err := w.roomForRole(h); err != nil {
			return err
		}
		if err := r.heldByNobody(h, o.ID); err != nil {
			return err
		}
		o.Created, o.Updated = w.now, w.now
		made, err = put(w, roleKey(h.scope, o.ID), o)
		return err
	})
	return made, err
}

// roomForRole counts the roles of h as they will be after w.
func (w *writing) roomForRole(h home) error {
	count, err := w.count(h, store.KindRole)
	if err == nil && count >= maxOwnRoles {
		return &policy.Error{Kind: policy.KindConflict, Public: "an organisation has at most " + strconv.Itoa(maxOwnRoles) + " roles of its own"}
	}
	return err
}

// heldByNobody refuses with policy.KindConflict if an API key, a user or a gateway has
// the role.
func (r *Registry) heldByNobody(h home, id policy.ID) error {
	if held, err := r.heldByGateway(h, id); err != nil {
		return err
	} else if held {
		return errRoleHeld()
	}
	for _, kind := range []store.Kind{store.KindAPIKey, store.KindUser} {
		var failure error
		held := false
		err := r.store.Scan(h.scope.Prefix(kind), store.Key{}, func(key store.Key, value []byte) bool {
			var found stamped[holder]
			found, failure = read[holder](key, value)
			held = slices.Contains(found.Record.Roles, string(id))
			return failure == nil && !held
		})
		if err := errors.Join(err, failure); err != nil {
			return err
		}
		if held {
			return errRoleHeld()
		}
	}
	return nil
}

func errRoleHeld() error {
	return &policy.Error{Kind: policy.KindConflict, Public: "an API key, a user or a gateway has this role; take it away there first"}
}

// holder is what API keys and users have in common.
type holder struct {
	Roles []string `json:"roles"`
}

// Role returns one role of the organisation, or policy.KindNotFound.
func (r *Registry) Role(_ context.Context, org policy.OrgID, id policy.ID) (Role, error) {
	const op = "read role"
	h, err := r.homeOf(org)
	if err != nil {
		return Role{}, at(op, err)
	}
	found, err := load[Role](r.store, roleKey(h.scope, id))
	return found.Record, at(op, missing(err, "role"))
}

// Roles lists the roles that the organisation made and returns the bookmark of the
// next page, empty on the last one.
func (r *Registry) Roles(_ context.Context, org policy.OrgID, page Page) ([]Role, string, error) {
	const op = "list roles"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[Role](r.store, h.scope, store.KindRole, nil, 1, page)
	return records(found), next, at(op, err)
}

// UpdateRole lets edit change description and permissions. An error of edit is
// returned, and nothing is changed. Whoever has the role is judged again.
func (r *Registry) UpdateRole(ctx context.Context, org policy.OrgID, id policy.ID, edit func(*Role) error) (Role, error) {
	var made Role
	err := r.write(ctx, "update role", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[Role](r.store, roleKey(h.scope, id))
		if err != nil {
			return missing(err, "role")
		}
		before, after := found.Record, found.Record
		if err := edit(&after); err != nil {
			return err
		}
		after.ID, after.Created, after.Updated = before.ID, before.Created, w.now
		if err := after.check(); err != nil {
			return err
		}
		w.tell(after.change(h))
		made, err = put(w, roleKey(h.scope, id), after)
		return err
	})
	return made, err
}

func (o *Role) change(h home) Change {
	return Change{Kind: RoleChanged, Org: h.Record.ID, Incarnation: h.Record.Incarnation, Role: string(o.ID)}
}

// DeleteRole removes a role that nobody has; policy.KindConflict while somebody does.
func (r *Registry) DeleteRole(ctx context.Context, org policy.OrgID, id policy.ID) error {
	return r.write(ctx, "delete role", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := r.store.Get(roleKey(h.scope, id)); err != nil {
			return missing(err, "role")
		}
		if err := r.heldByNobody(h, id); err != nil {
			return err
		}
		w.delete(roleKey(h.scope, id))
		return nil
	})
}

// RolePermissions are what those of roles permit that the organisation made itself.
func (r *Registry) RolePermissions(_ context.Context, org policy.OrgID, roles []string) ([]string, error) {
	const op = "read roles"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, at(op, err)
	}
	permissions, _, err := r.permissionsOf(h, roles)
	return permissions, at(op, err)
}

// permissionsOf is RolePermissions, with the highest stamp of the roles.
func (r *Registry) permissionsOf(h home, roles []string) (permissions []string, stamp uint64, err error) {
	for _, name := range roles {
		if isBuiltInRole(name) {
			continue
		}
		found, err := recall[Role](r, roleKey(h.scope, policy.ID(name)))
		switch {
		case errors.Is(err, store.ErrNotFound): // a table of the policy may know it
			continue
		case err != nil:
			return nil, 0, err
		}
		stamp = max(stamp, found.Stamp)
		for _, word := range found.Record.Permissions {
			if !slices.Contains(permissions, word) {
				permissions = append(permissions, word)
			}
		}
	}
	return permissions, stamp, nil
}

// permit fills in what the roles of p permit that the organisation made itself.
func (r *Registry) permit(h home, p *policy.Principal) error {
	permissions, stamp, err := r.permissionsOf(h, p.Roles)
	p.Permissions, p.Version = permissions, max(p.Version, stamp)
	return err
}

func takeRole(s *staging, l *exportLine) (placed, error) {
	o, err := taken[Role](l)
	if err != nil {
		return placed{}, err
	}
	if err := errors.Join(o.check(), checkMoments(&o.Created, &o.Updated)); err != nil {
		return placed{}, err
	}
	if s.moved.Records["role"] >= maxOwnRoles {
		return placed{}, invalid("roleId", "must be one of at most "+strconv.Itoa(maxOwnRoles))
	}
	return placed{[]string{string(o.ID)}, saved(o)}, nil
}

func adoptRole(w *writing, s *staging, h home, name []string) (bool, error) {
	key := roleKey(h.scope, policy.ID(name[0]))
	o, isNew, err := staged[Role](w, s, key, roleKey(s.scope, policy.ID(name[0])))
	if err != nil || !isNew {
		return false, err
	}
	if err := w.roomForRole(h); err != nil {
		return false, err
	}
	w.tell(o.change(h))
	return true, save(w, key, o)
}
