package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// The index of a group has one key for each of its devices. It is written and
// removed with the record of the device, which names its groups.
func memberKey(s store.Scope, ref GroupRef, typ, id policy.ID) store.Key {
	return s.Key(store.KindGroupMember, ref.ID, store.Uint64(ref.Incarnation), string(typ), string(id))
}

func membersOf(s store.Scope, ref GroupRef) store.Prefix {
	return s.Prefix(store.KindGroupMember, ref.ID, store.Uint64(ref.Incarnation))
}

func attachedKey(s store.Scope, gateway, device DeviceName) store.Key {
	return s.Key(store.KindAttached, string(gateway.Type), string(gateway.ID), string(device.Type), string(device.ID))
}

// present is the value of a key that says all by being there.
func present() []byte { return []byte{1} }

// join puts d into more groups, of which refs name the live incarnation. Those that
// it is in already count once.
func (w *writing) join(h home, d *Device, refs ...GroupRef) error {
	for _, ref := range refs {
		if slices.Contains(d.Groups, ref) {
			continue
		}
		if len(d.Groups) >= maxGroups {
			return &policy.Error{Kind: policy.KindConflict, Public: "a device is in at most " + strconv.Itoa(maxGroups) + " groups"}
		}
		if err := w.roomIn(h, ref); err != nil {
			return err
		}
		d.Groups = append(slices.Clip(d.Groups), ref)
		w.add(store.Put(memberKey(h.scope, ref, d.Type, d.ID), present()))
	}
	return nil
}

// roomIn counts one more device into a group, if there is room.
func (w *writing) roomIn(h home, ref GroupRef) error {
	count, known := w.members[ref]
	if !known {
		err := w.registry.store.Scan(membersOf(h.scope, ref), store.Key{}, func(store.Key, []byte) bool {
			count++
			return true
		})
		if err != nil {
			return err
		}
	}
	most := (&Group{ID: ref.ID}).most(w.registry.behind)
	if count >= most {
		return &policy.Error{Kind: policy.KindConflict, Public: "a group like this has at most " + strconv.Itoa(most) + " devices"}
	}
	if w.members == nil {
		w.members = make(map[GroupRef]int)
	}
	w.members[ref] = count + 1
	return nil
}

// leave removes d's places in the indices of its groups.
func (w *writing) leave(h home, d *Device, refs ...GroupRef) {
	for _, ref := range refs {
		w.delete(memberKey(h.scope, ref, d.Type, d.ID))
	}
}

// tidy drops the groups of d that are not there any more.
func (w *writing) tidy(h home, d *Device) error {
	live, err := w.resolve(h, d.Groups)
	if err != nil {
		return err
	}
	for _, ref := range d.Groups {
		if !slices.Contains(live, ref) {
			w.leave(h, d, ref)
		}
	}
	d.Groups = live
	return nil
}

// AddToGroup puts devices into a group, many in one commit, and RemoveFromGroup takes
// them out; what is so already is no error. An interrupted call has done those that
// came first. The error is policy.KindNotFound for a group that there is not, and
// then nothing was done; otherwise there is one Result for each device.
func (r *Registry) AddToGroup(ctx context.Context, org policy.OrgID, group string, devices []DeviceName) ([]Result, error) {
	return r.regroup(ctx, "add devices to group", org, group, devices, func(w *writing, h home, d *Device, ref GroupRef) error {
		return w.join(h, d, ref)
	})
}

// RemoveFromGroup takes devices out of a group; see AddToGroup. The gateway of a
// default group stays in it: policy.KindConflict.
func (r *Registry) RemoveFromGroup(ctx context.Context, org policy.OrgID, group string, devices []DeviceName) ([]Result, error) {
	return r.regroup(ctx, "remove devices from group", org, group, devices, func(w *writing, h home, d *Device, ref GroupRef) error {
		if ref.ID == defaultGroup(h.Record.ID, d.Type, d.ID) {
			return &policy.Error{Kind: policy.KindConflict, Public: "a gateway stays in its default group"}
		}
		if i := slices.Index(d.Groups, ref); i >= 0 {
			d.Groups = slices.Delete(slices.Clone(d.Groups), i, i+1)
			w.leave(h, d, ref)
			w.tellGroup(h, ref.ID)
		}
		return nil
	})
}

// tellGroup tells once in a write that a group is another one.
func (w *writing) tellGroup(h home, id string) {
	change := Change{Kind: GroupChanged, Org: h.Record.ID, Incarnation: h.Record.Incarnation, Group: id}
	if !slices.Contains(w.regrouped, change) {
		w.regrouped = append(w.regrouped, change)
	}
}

func (r *Registry) regroup(
	ctx context.Context, op string, org policy.OrgID, group string, devices []DeviceName,
	change func(*writing, home, *Device, GroupRef) error,
) ([]Result, error) {
	if len(devices) == 0 { // still, the group has to be there
		_, err := r.Group(ctx, org, group)
		return nil, at(op, err)
	}
	return inSteps(devices, func(from int, results []Result) (int, error) {
		next := from
		err := r.write(ctx, op, removal, func(w *writing) error {
			h, err := r.homeOf(org)
			if err != nil {
				return err
			}
			g, err := loadGroup(w, h, group)
			if err != nil {
				return err
			}
			w.pending = make(map[store.Key]int)
			for end := min(from+bulkStep, len(devices)); next < end && w.size < bulkBytes; next++ {
				results[next].Err = at(op, w.attempt(func() (err error) {
					results[next].Device, err = w.regroup(h, devices[next], func(d *Device) error { return change(w, h, d, g.ref()) })
					return err
				}))
			}
			return nil
		})
		return next, err
	})
}

// regroup changes the groups of one device, and stores it if they are others.
func (w *writing) regroup(h home, name DeviceName, change func(*Device) error) (Device, error) {
	key := deviceKey(h.scope, name.Type, name.ID)
	found, err := load[Device](w, key)
	if err != nil {
		return Device{}, missing(err, "device")
	}
	d := found.Record
	if err := w.tidy(h, &d); err != nil {
		return Device{}, err
	}
	if err := change(&d); err != nil {
		return Device{}, err
	}
	if slices.Equal(d.Groups, found.Record.Groups) {
		return d, nil
	}
	kind := SubjectChanged
	if d.Disabled {
		kind = SubjectDisabled
	}
	w.tell(d.change(kind, h))
	return put(w, key, d)
}

// Reached lists the devices that are in one of the groups, of one type or of all with
// an empty typ, in the order of Devices and with the same bookmarks. A group that
// there is not has none. It looks at what those groups have and at nothing else.
func (r *Registry) Reached(_ context.Context, org policy.OrgID, typ policy.ID, groups []string, page Page) ([]Device, string, error) {
	const op = "list devices of groups"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	if typ != "" {
		if _, err := load[DeviceType](r.store, typeKey(h.scope, typ)); err != nil {
			return nil, "", at(op, missing(err, "device type"))
		}
	}
	after, limit, err := page.of(h.scope, store.KindDevice, 2)
	if err != nil {
		return nil, "", at(op, err)
	}
	keys, err := r.reachedKeys(h, typ, groups, after)
	if err != nil {
		return nil, "", at(op, err)
	}
	var found []Device
	for i, key := range keys {
		d, err := load[Device](r.store, key)
		switch {
		case errors.Is(err, store.ErrNotFound): // deleted since
			continue
		case err != nil:
			return nil, "", at(op, err)
		}
		if found = append(found, d.Record); len(found) == limit && i+1 < len(keys) {
			return found, makeBookmark(key.Parts()), nil
		}
	}
	return found, "", nil
}

// reachedKeys are the keys of the devices in groups that come after one, in order.
func (r *Registry) reachedKeys(h home, typ policy.ID, groups []string, after store.Key) ([]store.Key, error) {
	var keys []store.Key
	for _, id := range groups {
		g, err := recall[Group](r, groupKey(h.scope, id))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = r.store.Scan(membersOf(h.scope, g.Record.ref()), store.Key{}, func(key store.Key, _ []byte) bool {
			parts := key.Parts()
			name := DeviceName{policy.ID(parts[2]), policy.ID(parts[3])}
			if typ != "" && name.Type != typ {
				return true
			}
			if key := deviceKey(h.scope, name.Type, name.ID); after.IsZero() || key.Compare(after) > 0 {
				keys = append(keys, key)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(keys, store.Key.Compare)
	return slices.Compact(keys), nil
}

// RegisterBehind creates a device without a credential behind a gateway, in the
// gateway's default group; the gateway of an organisation that knew no groups when it
// was registered has none. Whether the gateway may do so is for others to say. It is
// one commit: there is the whole device, or none.
//
// The error is policy.KindForbidden where gateway is no registered gateway, or is
// disabled; policy.KindNotFound for a device type that there is not;
// policy.KindInvalid for names that no device can have, and for a type of gateways;
// policy.KindExists for a device that there is; policy.KindLimit beyond
// Options.BehindGateway; policy.KindConflict for a gateway that does not reach its
// own default group.
func (r *Registry) RegisterBehind(ctx context.Context, org policy.OrgID, gateway, device DeviceName) (Device, error) {
	var made Device
	err := r.write(ctx, "register device behind gateway", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		g, err := w.registrar(h, gateway)
		if err != nil {
			return err
		}
		if err := w.roomBehind(h, gateway); err != nil {
			return err
		}
		d := Device{
			Type: device.Type, ID: device.ID, GatewayType: g.Type, GatewayID: g.ID,
			CreatedBy: "g:" + org.String() + ":" + string(g.Type) + ":" + string(g.ID),
		}
		if g.Reach.Restricted {
			i := slices.IndexFunc(g.Reach.Groups, func(ref GroupRef) bool { return ref.ID == defaultGroup(org, g.Type, g.ID) })
			if i < 0 {
				return &policy.Error{Kind: policy.KindConflict, Public: "the gateway does not reach its default group"}
			}
			d.Groups = g.Reach.Groups[i : i+1]
		}
		made, err = w.createDevice(h, d)
		switch {
		case err == nil && made.ClassID == ClassGateway:
			err = invalid("typeId", "must not be a type of gateways")
		case policy.KindOf(err) == policy.KindConflict: // the group is full of others
			err = &policy.Error{Kind: policy.KindLimit, Public: "the gateway's default group is full"}
		}
		return err
	})
	return made, err
}

// registrar is the gateway that registers others.
func (w *writing) registrar(h home, name DeviceName) (*Device, error) {
	found, err := load[Device](w, deviceKey(h.scope, name.Type, name.ID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if g := &found.Record; err == nil && g.ClassID == ClassGateway && !g.Disabled {
		return g, nil
	}
	return nil, &policy.Error{Kind: policy.KindForbidden, Public: "no such gateway"}
}

// roomBehind counts the devices that name a gateway as theirs.
func (w *writing) roomBehind(h home, gateway DeviceName) error {
	count := 0
	err := w.registry.store.Scan(h.scope.Prefix(store.KindAttached, string(gateway.Type), string(gateway.ID)), store.Key{}, func(store.Key, []byte) bool {
		count++
		return count < w.registry.behind
	})
	if err == nil && count >= w.registry.behind {
		return &policy.Error{Kind: policy.KindLimit, Public: "a gateway registers at most " + strconv.Itoa(w.registry.behind) + " devices"}
	}
	return err
}

func orDefault(n, otherwise int) int { return cmp.Or(max(n, 0), otherwise) }
