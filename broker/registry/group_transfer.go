package registry

import (
	"errors"
	"slices"
	"strconv"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// In a file a group is referred to by its identifier. In the store where it comes to,
// every group of the file has the incarnation of the import, and so has every
// reference: one to a group that is not in the file leads nowhere, for ever.

func bareDevice(d *Device) {
	d.Incarnation = 0
	d.Groups = bareRefs(d.Groups)
	d.Reach.bare()
}

func (r *Reach) bare() { r.Groups = bareRefs(r.Groups) }

func bareRefs(refs []GroupRef) []GroupRef {
	if len(refs) == 0 {
		return nil
	}
	return RefsTo(names(refs)...)
}

// numbered gives references of the file the incarnation of the import.
func (s *staging) numbered(field string, refs []GroupRef) ([]GroupRef, error) {
	var once []GroupRef
	for _, ref := range refs {
		ref.Incarnation = s.incarnation
		if !slices.Contains(once, ref) {
			once = append(once, ref)
		}
	}
	if len(once) > maxGroups {
		return nil, invalid(field, "must be at most "+strconv.Itoa(maxGroups))
	}
	return once, nil
}

// checkReach is what grant checks of an edit.
func (s *staging) checkReach(reach *Reach, roles []string) (err error) {
	if reach.Groups, err = s.numbered("reach", reach.Groups); err != nil {
		return err
	}
	if len(reach.Groups) > 0 && (len(roles) != 1 || !reach.Restricted) {
		return invalid("reach", "has groups, so it must be restricted and of one role")
	}
	return nil
}

// checkPlaces is what keepPlaces checks of an edit.
func (s *staging) checkPlaces(d *Device) (err error) {
	if d.Groups, err = s.numbered("groups", d.Groups); err != nil {
		return err
	}
	if d.ClassID != ClassGateway {
		if len(d.Roles) > 0 || d.Reach.Restricted || len(d.Reach.Groups) > 0 {
			return invalid("roles", "and reach must be of gateways")
		}
		return nil
	}
	if len(d.Roles) > 0 {
		if d.Roles, err = checkRoles(d.Roles, ""); err != nil {
			return err
		}
	}
	return s.checkReach(&d.Reach, d.Roles)
}

// index writes what leads to d from its groups, its gateway and its roles.
func (w *writing) index(s store.Scope, d *Device) {
	for _, ref := range d.Groups {
		w.add(store.Put(memberKey(s, ref, d.Type, d.ID), present()))
	}
	if d.GatewayType != "" {
		w.add(store.Put(attachedKey(s, DeviceName{d.GatewayType, d.GatewayID}, DeviceName{d.Type, d.ID}), present()))
	}
	w.hold(home{scope: s}, &Device{}, d)
}

func takeGroup(s *staging, l *exportLine) (placed, error) {
	g, err := taken[Group](l)
	if err != nil {
		return placed{}, err
	}
	if !isGroup(g.ID) {
		return placed{}, invalid("id", "must be 1 to 128 of a-z, A-Z, 0-9, '_', '.', ':' and '-'")
	}
	if err := errors.Join(g.check(), checkMoments(&g.Created, &g.Updated)); err != nil {
		return placed{}, err
	}
	class := ownGroups
	if isDefaultGroup(g.ID) {
		class = gatewayGroups
		typ, id, _ := gatewayOf(s.org, g.ID)
		if d, err := load[Device](s.registry.store, deviceKey(s.scope, typ, id)); err != nil || d.Record.ClassID != ClassGateway {
			return placed{}, invalid("id", "must be that of a gateway of the file")
		}
	} else if s.groups++; s.groups > maxOwnGroups {
		return placed{}, invalid("id", "must be one of at most "+strconv.Itoa(maxOwnGroups))
	}
	g.Incarnation = s.incarnation
	return placed{[]string{class, g.ID}, saved(g)}, nil
}

// checkRoom holds the groups of the file to their bounds.
func (s *staging) checkRoom() error {
	var failure error
	var last string
	count := 0
	err := s.registry.store.Scan(s.scope.Prefix(store.KindGroupMember), store.Key{}, func(key store.Key, _ []byte) bool {
		parts := key.Parts()
		if len(parts) != 4 {
			return true
		}
		if parts[0] != last {
			last, count = parts[0], 0
		}
		g := Group{ID: last}
		if count++; count > g.most(s.registry.behind) {
			failure = invalid("groups", "must have room for their devices; there are too many in "+last)
		}
		return failure == nil
	})
	return errors.Join(err, failure)
}

func adoptGroup(w *writing, s *staging, h home, name []string) (bool, error) {
	key := groupKey(h.scope, name[1])
	g, isNew, err := staged[Group](w, s, key, groupKey(s.scope, name[1]))
	if err != nil || !isNew {
		return false, err
	}
	if !isDefaultGroup(g.ID) {
		if err := w.roomForGroup(h); err != nil {
			return false, err
		}
	}
	g.Incarnation = w.stamp
	return true, save(w, key, g)
}

// adopted are the groups of h that stand for groups of the file.
func (s *staging) adopted(w *writing, h home, refs []GroupRef) (found []GroupRef, err error) {
	for _, ref := range refs {
		if there, err := s.registry.there(s.scope, ref); err != nil || !there {
			if err != nil {
				return nil, err
			}
			continue
		}
		g, err := loadGroup(w, h, ref.ID)
		switch {
		case policy.KindOf(err) == policy.KindNotFound: // removed since
		case err != nil:
			return nil, err
		default:
			found = append(found, g.ref())
		}
	}
	return found, nil
}

// adoptPlaces puts a device of the file where it belongs in h.
func (s *staging) adoptPlaces(w *writing, h home, d *Device) error {
	groups, err := s.adopted(w, h, d.Groups)
	if err != nil {
		return err
	}
	if d.Reach.Groups, err = s.adopted(w, h, d.Reach.Groups); err != nil {
		return err
	}
	d.Groups = nil
	if err := w.join(h, d, groups...); err != nil {
		return err
	}
	bare := *d
	bare.Groups = nil
	w.index(h.scope, &bare)
	return nil
}
