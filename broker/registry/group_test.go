package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// The fleet of these tests is acme with gateways of type hub and devices of type sensor.
// gateway_test.go and group_transfer_test.go use it too.
var g1 = DeviceName{"hub", "g1"}

const hubGroup = "gw_def_res_grp:acme01:hub:g1"

func sensor(id policy.ID) DeviceName { return DeviceName{"sensor", id} }

// fleet makes acme and its types, and these sensors.
func (f *fixture) fleet(sensors ...policy.ID) {
	f.t.Helper()
	f.organisation(acme)
	f.deviceType(acme, "hub", ClassGateway)
	f.deviceType(acme, "sensor", ClassDevice)
	for _, id := range sensors {
		f.device(acme, "sensor", id, "")
	}
}

// hubFleet is a fleet with gateway g1, and returns its token.
func (f *fixture) hubFleet(sensors ...policy.ID) string {
	f.t.Helper()
	f.fleet(sensors...)
	return f.device(acme, "hub", "g1", "")
}

// gateway is g1 when it connects.
func (f *fixture) gateway(token string) policy.Principal {
	f.t.Helper()
	return must[policy.Principal](f.t)(f.connect(f.t.Context(), "g:acme01:hub:g1", "use-token-auth", token))
}

// app is an application when it connects with a key.
func (f *fixture) app(key, token string) policy.Principal {
	f.t.Helper()
	return must[policy.Principal](f.t)(f.connect(f.t.Context(), "a:acme01:app", key, token))
}

// again is what p is by now.
func (f *fixture) again(p policy.Principal) policy.Principal {
	f.t.Helper()
	return must[policy.Principal](f.t)(f.Refresh(f.t.Context(), &p))
}

// reaches holds that p is restricted to these groups.
func (f *fixture) reaches(what string, p policy.Principal, groups ...string) {
	f.t.Helper()
	if !p.Restricted || !slices.Equal(p.Groups, groups) {
		f.t.Errorf("%s: %+v, want one that reaches %q", what, p, groups)
	}
}

func (f *fixture) register(gateway, device DeviceName) error {
	_, err := f.RegisterBehind(f.t.Context(), acme, gateway, device)
	return err
}

// edit changes a device of acme.
func (f *fixture) edit(name DeviceName, change func(d *Device)) {
	f.t.Helper()
	_, err := f.UpdateDevice(f.t.Context(), acme, name.Type, name.ID, func(d *Device) error { change(d); return nil })
	f.ok(err)
}

// delete removes a device of acme.
func (f *fixture) delete(name DeviceName) {
	f.t.Helper()
	f.ok(f.DeleteDevice(f.t.Context(), acme, name.Type, name.ID))
}

// group makes a group of acme.
func (f *fixture) group(name string) string {
	f.t.Helper()
	return must[Group](f.t)(f.CreateGroup(f.t.Context(), acme, Group{Name: name})).ID
}

// put adds one device to a group.
func (f *fixture) put(group string, name DeviceName) error {
	f.t.Helper()
	results, err := f.AddToGroup(f.t.Context(), acme, group, []DeviceName{name})
	if err == nil {
		err = results[0].Err
	}
	return err
}

// isIn holds that a device is in these groups.
func (f *fixture) isIn(name DeviceName, groups ...string) {
	f.t.Helper()
	d := must[*policy.Device](f.t)(f.DeviceFacts(f.t.Context(), acme, name.Type, name.ID))
	if !slices.Equal(d.Groups, groups) {
		f.t.Errorf("%s/%s is in %q, want %q", name.Type, name.ID, d.Groups, groups)
	}
}

// has holds that a page of these groups has these devices, and returns where the next
// one begins.
func (f *fixture) has(groups []string, typ policy.ID, page Page, want string) string {
	f.t.Helper()
	found, next, err := f.Reached(f.t.Context(), acme, typ, groups, page)
	var list []string
	for _, d := range found {
		list = append(list, string(d.Type)+"/"+string(d.ID))
	}
	if got := strings.Join(list, " "); err != nil || got != want {
		f.t.Errorf("%q have %q, %v; want %q", groups, got, err, want)
	}
	return next
}

// checkPlaced holds the indices against a device.
func checkPlaced(t *testing.T, r *Registry, h home, d *Device) {
	t.Helper()
	for _, ref := range d.Groups {
		live, err := r.there(h.scope, ref)
		if err != nil {
			t.Error(err)
		}
		if _, err := r.store.Get(memberKey(h.scope, ref, d.Type, d.ID)); live && err != nil {
			t.Errorf("%s/%s is in %s, and not in its index: %v", d.Type, d.ID, ref.ID, err)
		}
	}
	if d.GatewayType != "" {
		if _, err := r.store.Get(attachedKey(h.scope, DeviceName{d.GatewayType, d.GatewayID}, DeviceName{d.Type, d.ID})); err != nil {
			t.Errorf("%s/%s is not in the index of its gateway: %v", d.Type, d.ID, err)
		}
	}
	if d.ClassID == ClassGateway && d.Reach.Restricted {
		if _, err := loadGroup(r.store, h, defaultGroup(h.Record.ID, d.Type, d.ID)); err != nil {
			t.Errorf("%s/%s has no default group: %v", d.Type, d.ID, err)
		}
	}
}

// checkMember holds a key of an index against its device.
func checkMember(t *testing.T, r *Registry, h home, key store.Key) {
	t.Helper()
	parts := key.Parts()
	d, err := load[Device](r.store, deviceKey(h.scope, policy.ID(parts[2]), policy.ID(parts[3])))
	if err != nil {
		t.Errorf("%v leads to no device: %v", key, err)
		return
	}
	if key.Kind() == store.KindAttached {
		if string(d.Record.GatewayType) != parts[0] || string(d.Record.GatewayID) != parts[1] {
			t.Errorf("%v leads to a device of %s/%s", key, d.Record.GatewayType, d.Record.GatewayID)
		}
		return
	}
	incarnation, _ := store.ParseUint64(parts[1])
	if !slices.Contains(d.Record.Groups, GroupRef{parts[0], incarnation}) {
		t.Errorf("%v leads to a device in %v", key, d.Record.Groups)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.fleet("d1", "d22")
		f.organisation(other)
		d1, d22 := sensor("d1"), sensor("d22")

		// It has an ID that nobody chose, also when it is changed.
		made := must[Group](t)(f.CreateGroup(ctx, acme, Group{ID: "chosen", Name: "north", SearchTags: []string{"a"}}))
		if made.ID == "chosen" || !isGroup(made.ID) || made.Created.IsZero() {
			t.Errorf("made %+v", made)
		}
		changed := must[Group](t)(f.UpdateGroup(ctx, acme, made.ID, func(g *Group) error { g.ID, g.Description = "x", "cold"; return nil }))
		if changed.ID != made.ID || changed.Description != "cold" || changed.Incarnation != made.Incarnation {
			t.Errorf("changed %+v", changed)
		}
		if found, next, err := f.Groups(ctx, acme, Page{}); err != nil || len(found) != 1 || next != "" {
			t.Errorf("list %+v, %q, %v", found, next, err)
		}

		// Another organisation does not see it.
		_, err := f.Group(ctx, other, made.ID)
		refused(t, err, policy.KindNotFound)
		refused(t, f.DeleteGroup(ctx, other, made.ID), policy.KindNotFound)
		_, err = f.AddToGroup(ctx, other, made.ID, []DeviceName{d1})
		refused(t, err, policy.KindNotFound)
		_, _, err = f.CreateAPIKey(ctx, other, APIKey{Reach: Reach{Groups: RefsTo(made.ID)}})
		refused(t, err, policy.KindInvalid)

		// Devices come, each on its own account, and are listed once.
		results := must[[]Result](t)(f.AddToGroup(ctx, acme, made.ID, []DeviceName{d22, sensor("none"), d1, d1}))
		if got, want := fmt.Sprint(kinds(results)), fmt.Sprint([]policy.Kind{0, policy.KindNotFound, 0, 0}); got != want {
			t.Errorf("added %v, want %v", got, want)
		}
		next := f.has([]string{made.ID, made.ID, "none"}, "sensor", Page{Limit: 1}, "sensor/d1")
		if next == "" {
			t.Error("the first page is the last")
		}
		if next = f.has([]string{made.ID}, "", Page{After: next, Limit: 1}, "sensor/d22"); next != "" {
			t.Errorf("after the last page comes %q", next)
		}
		_, _, err = f.Reached(ctx, acme, "none", []string{made.ID}, Page{})
		refused(t, err, policy.KindNotFound)

		// They go, which is told.
		f.changes()
		must[[]Result](t)(f.RemoveFromGroup(ctx, acme, made.ID, []DeviceName{d1, d22}))
		told := f.changes()
		if n := slices.IndexFunc(told, func(c Change) bool { return c.Kind == GroupChanged && c.Group == made.ID }); n < 0 || len(told) != 3 {
			t.Errorf("told %+v", told)
		}
		f.isIn(d1)

		// With the group goes who was in it.
		f.ok(f.put(made.ID, d1))
		checkWhole(t, f.Registry, acme, 2)
		f.ok(f.DeleteGroup(ctx, acme, made.ID))
		f.isIn(d1)
		refused(t, f.put(made.ID, d1), policy.KindNotFound)

		for _, bad := range []Group{
			{Name: "\x01"},
			{SearchTags: slices.Repeat([]string{"a"}, maxSearchTags+1)},
			{Description: strings.Repeat("a", maxText+1)},
		} {
			_, err := f.CreateGroup(ctx, acme, bad)
			refused(t, err, policy.KindInvalid)
		}
	})
}

func TestBoundsOfGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.fleet("d0")
	d0 := sensor("d0")
	var groups []string
	for i := range maxGroups + 1 {
		groups = append(groups, f.group(fmt.Sprint(i)))
	}

	// A device is in 10 groups.
	for _, group := range groups[:maxGroups] {
		f.ok(f.put(group, d0))
	}
	refused(t, f.put(groups[maxGroups], d0), policy.KindConflict)
	f.ok(f.put(groups[0], d0))
	f.ok(f.DeleteGroup(ctx, acme, groups[0]))
	f.ok(f.put(groups[maxGroups], d0))
	checkWhole(t, f.Registry, acme, 1)

	// A subject reaches 10, and has one role then.
	tooMany := append(slices.Clone(groups[1:]), f.group("more"))
	for _, bad := range []APIKey{
		{Reach: Reach{Groups: RefsTo(tooMany...)}},
		{Roles: []string{"A", "B"}, Reach: Reach{Groups: RefsTo(groups[1])}},
	} {
		_, _, err := f.CreateAPIKey(ctx, acme, bad)
		refused(t, err, policy.KindInvalid)
	}
	key, _ := f.apiKey(acme, APIKey{Roles: []string{"A"}, Reach: Reach{Groups: RefsTo(groups[1:]...)}})
	k := must[APIKey](t)(f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error { k.Reach = Reach{}; return nil }))
	if !k.Reach.Restricted {
		t.Error("an emptied list made the key unrestricted")
	}

	// A group has 300 devices.
	full := groups[1]
	var many []NewDevice
	for i := range maxGroupDevices + 3 {
		many = append(many, NewDevice{Device: Device{Type: "sensor", ID: policy.ID(fmt.Sprint("m", i)), Groups: RefsTo(full)}})
	}
	results := must[[]Result](t)(f.AddDevices(ctx, acme, many))
	for i, r := range results {
		if got, want := policy.KindOf(r.Err) == policy.KindConflict, i >= maxGroupDevices-1; got != want {
			t.Fatalf("device %d: %v", i, r.Err)
		}
	}

	// An organisation has maxOwnGroups, and beside them those of its gateways.
	own, _, err := f.Groups(ctx, acme, Page{Limit: 1000})
	f.ok(err)
	for range maxOwnGroups - len(own) {
		f.group("")
	}
	_, err = f.CreateGroup(ctx, acme, Group{})
	refused(t, err, policy.KindConflict)
	f.device(acme, "hub", "g1", "")
}

// Keys are held to their groups while the organisation wants it, gateways always.
func TestKeysReachAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	hub := f.gateway(f.hubFleet())
	app := f.app(f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(hubGroup)}}))
	_, err := f.UpdateOrganisation(t.Context(), acme, func(o *Organisation) error { o.KeysReachAll = true; return nil })
	f.ok(err)
	if freed := f.again(app); freed.Restricted || freed.Version <= app.Version {
		t.Errorf("the key is %+v", freed)
	}
	if held := f.again(hub); !held.Restricted {
		t.Errorf("the gateway is %+v", held)
	}
}
