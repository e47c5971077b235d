package registry

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Roles that the registry gives to gateways.
const (
	RoleStandardGateway   = "PD_STANDARD_GW_DEVICE"
	RolePrivilegedGateway = "PD_PRIVILEGED_GW_DEVICE" // a gateway when it is registered
)

// Reach says which devices a gateway or an API key reaches. The zero Reach is all of
// the organisation.
type Reach struct {
	// Restricted says that it is those of Groups alone. It is never taken back: once
	// groups were given, an empty list reaches nothing.
	Restricted bool       `json:"restricted,omitempty"`
	Groups     []GroupRef `json:"groups,omitempty"` // at most 10
}

// Names are the identifiers of the groups, some of which may not be there any more.
func (r Reach) Names() []string { return names(r.Groups) }

// grant checks what an edit wants to be reached instead of before. A subject that is
// given groups has one role.
func (w *writing) grant(h home, before, after Reach, roles []string) (Reach, error) {
	groups, err := w.resolve(h, after.Groups)
	if err != nil {
		return Reach{}, err
	}
	if len(groups) > 0 && len(roles) != 1 {
		return Reach{}, invalid("rolesToGroups", "is for one role, and there must be no other")
	}
	return Reach{before.Restricted || after.Restricted || len(groups) > 0, groups}, nil
}

// reached fills in which devices p reaches, of what its record says.
func (r *Registry) reached(h home, p *policy.Principal, reach Reach, restricted bool) (err error) {
	p.Groups, err = r.liveNames(h, p, reach.Groups)
	p.Restricted = restricted
	return err
}

// liveNames are the groups of a record of p that are still there. One that is not
// moves the version of p, since nothing else says when it went.
func (r *Registry) liveNames(h home, p *policy.Principal, refs []GroupRef) ([]string, error) {
	live, err := r.live(h.scope, refs)
	if err != nil || len(live) == len(refs) {
		return names(live), err
	}
	last, err := recall[departed](r, departedKey(h.scope))
	switch {
	case errors.Is(err, store.ErrNotFound): // it came like this, and nothing will ever be at that place
	case err != nil:
		return nil, err
	default:
		p.Version = max(p.Version, last.Stamp)
	}
	return names(live), nil
}

// endow makes the default group of a gateway that is being registered, and says what
// a new gateway may do: all that gateways may, for itself and what it registers.
func (w *writing) endow(h home, d *Device) error {
	g, err := w.createGroup(h, Group{
		ID: defaultGroup(h.Record.ID, d.Type, d.ID), Name: "Default group of gateway " + string(d.Type) + "/" + string(d.ID),
	})
	if err != nil {
		return err
	}
	d.Roles, d.Reach = []string{RolePrivilegedGateway}, Reach{true, []GroupRef{g.ref()}}
	if len(d.Groups) >= maxGroups {
		return invalid("groups", "must leave room for the gateway's own")
	}
	d.Groups = append(slices.Clip(d.Groups), g.ref())
	w.add(store.Put(memberKey(h.scope, g.ref(), d.Type, d.ID), present()))
	return nil
}

// keepPlaces holds an edited device to what may be changed: its groups stay those that
// are there, and roles are of gateways.
func (w *writing) keepPlaces(h home, before, after *Device) (err error) {
	after.Groups = before.Groups
	if err := w.tidy(h, after); err != nil {
		return err
	}
	if after.ClassID != ClassGateway {
		after.Roles, after.Reach = nil, Reach{}
		return nil
	}
	if len(after.Roles) > 0 {
		if after.Roles, err = checkRoles(after.Roles, ""); err != nil {
			return err
		}
	} else {
		after.Roles = nil
	}
	if after.Reach, err = w.grant(h, before.Reach, after.Reach, after.Roles); err != nil {
		return err
	}
	w.hold(h, before, after)
	return nil
}

// hold keeps the index of who has the organisation's own roles: nothing else finds
// the gateways that do.
func (w *writing) hold(h home, before, after *Device) {
	for _, role := range before.Roles {
		if !isBuiltInRole(role) && !slices.Contains(after.Roles, role) {
			w.delete(holderKey(h.scope, role, before.Type, before.ID))
		}
	}
	for _, role := range after.Roles {
		if !isBuiltInRole(role) && !slices.Contains(before.Roles, role) {
			w.add(store.Put(holderKey(h.scope, role, after.Type, after.ID), present()))
		}
	}
}

func holderKey(s store.Scope, role string, typ, id policy.ID) store.Key {
	return s.Key(store.KindRoleHolder, role, string(typ), string(id))
}

// heldByGateway reports whether a gateway has the role.
func (r *Registry) heldByGateway(h home, role policy.ID) (held bool, err error) {
	err = r.store.Scan(h.scope.Prefix(store.KindRoleHolder, string(role)), store.Key{}, func(store.Key, []byte) bool {
		held = true
		return false
	})
	return held, err
}

// vacate removes what leads to a device that is being removed, and the default group
// of a gateway with it.
func (w *writing) vacate(h home, d *Device) error {
	w.leave(h, d, d.Groups...)
	if d.GatewayType != "" {
		w.delete(attachedKey(h.scope, DeviceName{d.GatewayType, d.GatewayID}, DeviceName{d.Type, d.ID}))
	}
	w.hold(h, d, &Device{})
	if d.ClassID != ClassGateway {
		return nil
	}
	g, err := loadGroup(w, h, defaultGroup(h.Record.ID, d.Type, d.ID))
	if policy.KindOf(err) == policy.KindNotFound {
		return nil // registered when there were none
	}
	if err != nil {
		return err
	}
	return w.removeGroup(h, &g)
}

// isDefaultGroup reports whether a group is that of a gateway.
func isDefaultGroup(id string) bool { return strings.HasPrefix(id, defaultGroups) }
