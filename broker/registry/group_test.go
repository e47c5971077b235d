package registry

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

const hubGroup = "gw_def_res_grp:acme01:hub:g1"

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

func (f *fixture) group(org policy.OrgID, name string) string {
	f.t.Helper()
	return must[Group](f.t)(f.CreateGroup(f.t.Context(), org, Group{Name: name})).ID
}

func (f *fixture) groupsOf(typ, id policy.ID) string {
	f.t.Helper()
	return strings.Join(must[*policy.Device](f.t)(f.DeviceFacts(f.t.Context(), acme, typ, id)).Groups, " ")
}

// put adds one device to a group.
func (f *fixture) put(group string, typ, id policy.ID) error {
	f.t.Helper()
	results, err := f.AddToGroup(f.t.Context(), acme, group, []DeviceName{{typ, id}})
	if err == nil {
		err = results[0].Err
	}
	return err
}

func ids(devices []Device) string {
	var list []string
	for _, d := range devices {
		list = append(list, string(d.Type)+"/"+string(d.ID))
	}
	return strings.Join(list, " ")
}

// A gateway is registered with a group of its own, is in it and reaches nothing else.
// Both go together, and a namesake has nothing of what was there.
func TestGatewayHasItsGroup(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "hub", ClassGateway)
		f.deviceType(acme, "sensor", ClassDevice)
		token := f.device(acme, "hub", "g1", "")
		p := must[policy.Principal](t)(f.connect(ctx, "g:acme01:hub:g1", "use-token-auth", token))
		if !p.Restricted || !slices.Equal(p.Groups, []string{hubGroup}) || !slices.Equal(p.Roles, []string{RolePrivilegedGateway}) {
			t.Errorf("principal %+v", p)
		}
		if got := f.groupsOf("hub", "g1"); got != hubGroup || !slices.Equal(p.MemberOf, []string{hubGroup}) {
			t.Errorf("it is in %q and %q", got, p.MemberOf)
		}
		behind := must[Device](t)(f.RegisterBehind(ctx, acme, DeviceName{"hub", "g1"}, DeviceName{"sensor", "d1"}))
		if behind.GatewayID != "g1" || behind.CreatedBy != "g:acme01:hub:g1" || f.groupsOf("sensor", "d1") != hubGroup {
			t.Errorf("behind it: %+v", behind)
		}
		device := must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "d1"))
		if !device.Registered || device.Status != "enabled" {
			t.Errorf("facts %+v", device)
		}
		key, keyToken := f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(hubGroup)}})
		app := must[policy.Principal](t)(f.connect(ctx, "a:acme01:app", key, keyToken))
		if !app.Restricted || !slices.Equal(app.Groups, []string{hubGroup}) {
			t.Errorf("application %+v", app)
		}
		refused(t, f.DeleteGroup(ctx, acme, hubGroup), policy.KindConflict)
		checkWhole(t, f.Registry, acme, 2)

		f.ok(f.DeleteDevice(ctx, acme, "hub", "g1"))
		_, err := f.Group(ctx, acme, hubGroup)
		refused(t, err, policy.KindNotFound)
		if got := f.groupsOf("sensor", "d1"); got != "" {
			t.Errorf("the device is in %q", got)
		}
		later := must[policy.Principal](t)(f.Refresh(ctx, &app))
		if len(later.Groups) != 0 || !later.Restricted || later.Version <= app.Version {
			t.Errorf("the application reaches %v, and its version was %d and is %d", later.Groups, app.Version, later.Version)
		}

		f.device(acme, "hub", "g1", "")
		if got := f.groupsOf("sensor", "d1"); got != "" {
			t.Errorf("the device is in %q of a namesake", got)
		}
		if later = must[policy.Principal](t)(f.Refresh(ctx, &app)); len(later.Groups) != 0 {
			t.Errorf("the application reaches %v of a namesake", later.Groups)
		}
		if found, _, err := f.Reached(ctx, acme, "", []string{hubGroup}, Page{}); err != nil || ids(found) != "hub/g1" {
			t.Errorf("the namesake has %s, %v", ids(found), err)
		}
		f.background.Wait()
		h := must[home](t)(f.homeOf(acme))
		f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
		err = f.store.Scan(h.scope.Prefix(store.KindGroupMember), store.Key{}, func(key store.Key, _ []byte) bool {
			if parts := key.Parts(); len(parts) == 4 && parts[3] != "g1" {
				t.Errorf("%v is left", key)
			}
			return true
		})
		f.ok(err)
	})
}

// A record from before there were groups reaches what it did.
func TestGatewayFromBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "hub", ClassGateway)
	f.deviceType(acme, "sensor", ClassDevice)
	token := f.device(acme, "hub", "g1", "")
	h := must[home](t)(f.homeOf(acme))
	key := deviceKey(h.scope, "hub", "g1")
	found := must[stamped[Device]](t)(load[Device](f.store, key))
	text := fmt.Sprintf("\x01"+`{"stamp":%d,"record":{"typeId":"hub","deviceId":"g1","classId":"Gateway","incarnation":%d,"created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`, found.Stamp, found.Record.Incarnation)
	f.ok(store.CommitWait(ctx, f.store, store.Put(key, []byte(text))))
	f.reopen()
	p := must[policy.Principal](t)(f.connect(ctx, "g:acme01:hub:g1", "use-token-auth", token))
	if p.Restricted || p.Groups != nil || p.Roles != nil {
		t.Errorf("principal %+v", p)
	}
	if d := must[Device](t)(f.RegisterBehind(ctx, acme, DeviceName{"hub", "g1"}, DeviceName{"sensor", "d1"})); len(d.Groups) != 0 {
		t.Errorf("behind it: %+v", d)
	}
	// Groups once given restrict it, also when they are taken away again.
	north := f.group(acme, "north")
	for _, groups := range [][]GroupRef{RefsTo(north), nil} {
		_, err := f.UpdateDevice(ctx, acme, "hub", "g1", func(d *Device) error {
			d.Roles, d.Reach = []string{RoleStandardGateway}, Reach{Groups: groups}
			return nil
		})
		f.ok(err)
		now := must[policy.Principal](t)(f.Refresh(ctx, &p))
		if !now.Restricted || !slices.Equal(now.Groups, names(groups)) || now.Version <= p.Version {
			t.Errorf("with %v it is %+v", groups, now)
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "sensor", "d1", "")
		f.device(acme, "sensor", "d22", "")
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
		for _, org := range []policy.OrgID{other} {
			_, err := f.Group(ctx, org, made.ID)
			refused(t, err, policy.KindNotFound)
			refused(t, f.DeleteGroup(ctx, org, made.ID), policy.KindNotFound)
			_, err = f.AddToGroup(ctx, org, made.ID, []DeviceName{{"sensor", "d1"}})
			refused(t, err, policy.KindNotFound)
			_, _, err = f.CreateAPIKey(ctx, org, APIKey{Reach: Reach{Groups: RefsTo(made.ID)}})
			refused(t, err, policy.KindInvalid)
		}
		results := must[[]Result](t)(f.AddToGroup(ctx, acme, made.ID, []DeviceName{{"sensor", "d22"}, {"sensor", "none"}, {"sensor", "d1"}, {"sensor", "d1"}}))
		if got, want := fmt.Sprint(kinds(results)), fmt.Sprint([]policy.Kind{0, policy.KindNotFound, 0, 0}); got != want {
			t.Errorf("added %v, want %v", got, want)
		}
		if found, next, err := f.Reached(ctx, acme, "sensor", []string{made.ID, made.ID, "none"}, Page{Limit: 1}); err != nil || ids(found) != "sensor/d1" || next == "" {
			t.Errorf("first page %s, %q, %v", ids(found), next, err)
		} else if found, next, err = f.Reached(ctx, acme, "", []string{made.ID}, Page{After: next, Limit: 1}); err != nil || ids(found) != "sensor/d22" || next != "" {
			t.Errorf("second page %s, %q, %v", ids(found), next, err)
		}
		_, _, err := f.Reached(ctx, acme, "none", []string{made.ID}, Page{})
		refused(t, err, policy.KindNotFound)
		f.changes()
		must[[]Result](t)(f.RemoveFromGroup(ctx, acme, made.ID, []DeviceName{{"sensor", "d1"}, {"sensor", "d22"}}))
		told := f.changes()
		if n := slices.IndexFunc(told, func(c Change) bool { return c.Kind == GroupChanged && c.Group == made.ID }); n < 0 || len(told) != 3 {
			t.Errorf("told %+v", told)
		}
		if got := f.groupsOf("sensor", "d1"); got != "" {
			t.Errorf("it is in %q", got)
		}
		f.ok(f.put(made.ID, "sensor", "d1"))
		checkWhole(t, f.Registry, acme, 2)
		f.ok(f.DeleteGroup(ctx, acme, made.ID))
		if got := f.groupsOf("sensor", "d1"); got != "" {
			t.Errorf("it is in %q, which is gone", got)
		}
		refused(t, f.put(made.ID, "sensor", "d1"), policy.KindNotFound)
		for _, bad := range []Group{{Name: "\x01"}, {SearchTags: slices.Repeat([]string{"a"}, maxSearchTags+1)}, {Description: strings.Repeat("a", maxText+1)}} {
			_, err := f.CreateGroup(ctx, acme, bad)
			refused(t, err, policy.KindInvalid)
		}
	})
}

func TestBoundsOfGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	f.deviceType(acme, "hub", ClassGateway)
	f.device(acme, "sensor", "d0", "")
	var groups []string
	for i := range maxGroups + 1 {
		groups = append(groups, f.group(acme, fmt.Sprint(i)))
	}
	// A device is in 10 groups.
	for _, group := range groups[:maxGroups] {
		f.ok(f.put(group, "sensor", "d0"))
	}
	refused(t, f.put(groups[maxGroups], "sensor", "d0"), policy.KindConflict)
	f.ok(f.put(groups[0], "sensor", "d0"))
	f.ok(f.DeleteGroup(ctx, acme, groups[0]))
	f.ok(f.put(groups[maxGroups], "sensor", "d0"))
	checkWhole(t, f.Registry, acme, 1)

	// A subject reaches 10, and has one role then.
	_, _, err := f.CreateAPIKey(ctx, acme, APIKey{Reach: Reach{Groups: RefsTo(append(groups[1:], f.group(acme, "more"))...)}})
	refused(t, err, policy.KindInvalid)
	_, _, err = f.CreateAPIKey(ctx, acme, APIKey{Roles: []string{"A", "B"}, Reach: Reach{Groups: RefsTo(groups[1])}})
	refused(t, err, policy.KindInvalid)
	key, _ := f.apiKey(acme, APIKey{Roles: []string{"A"}, Reach: Reach{Groups: RefsTo(groups[1:]...)}})
	k := must[APIKey](t)(f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error { k.Reach = Reach{}; return nil }))
	if !k.Reach.Restricted {
		t.Error("an emptied list made the key unrestricted")
	}

	// A group has 300 devices, and the default group of a gateway what it registers.
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
	for n := len(must[[]Group](t)(allGroups(f))); n < maxOwnGroups; n++ {
		f.group(acme, "")
	}
	_, err = f.CreateGroup(ctx, acme, Group{})
	refused(t, err, policy.KindConflict)
	f.device(acme, "hub", "g1", "") // whose group does not count
}

func allGroups(f *fixture) ([]Group, error) {
	found, _, err := f.Groups(f.t.Context(), acme, Page{Limit: 1000})
	return found, err
}

// Keys are held to their groups while the organisation wants it, gateways always.
func TestKeysReachAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "hub", ClassGateway)
	hub := must[policy.Principal](t)(f.connect(ctx, "g:acme01:hub:g1", "use-token-auth", f.device(acme, "hub", "g1", "")))
	key, token := f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(hubGroup)}})
	app := must[policy.Principal](t)(f.connect(ctx, "a:acme01:app", key, token))
	_, err := f.UpdateOrganisation(ctx, acme, func(o *Organisation) error { o.KeysReachAll = true; return nil })
	f.ok(err)
	freed := must[policy.Principal](t)(f.Refresh(ctx, &app))
	if freed.Restricted || freed.Version <= app.Version {
		t.Errorf("the key is %+v", freed)
	}
	if held := must[policy.Principal](t)(f.Refresh(ctx, &hub)); !held.Restricted {
		t.Errorf("the gateway is %+v", held)
	}
}

func TestRegisterBehindRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.behind = 3
	f.organisation(acme)
	f.deviceType(acme, "hub", ClassGateway)
	f.deviceType(acme, "sensor", ClassDevice)
	f.device(acme, "hub", "g1", "")
	f.device(acme, "hub", "off", "")
	f.device(acme, "sensor", "d1", "")
	_, err := f.UpdateDevice(ctx, acme, "hub", "off", func(d *Device) error { d.Disabled = true; return nil })
	f.ok(err)
	register := func(gateway, device DeviceName) error {
		_, err := f.RegisterBehind(ctx, acme, gateway, device)
		return err
	}
	g1 := DeviceName{"hub", "g1"}
	for _, test := range []struct {
		gateway, device DeviceName
		want            policy.Kind
	}{
		{DeviceName{"hub", "none"}, DeviceName{"sensor", "n"}, policy.KindForbidden},
		{DeviceName{"sensor", "d1"}, DeviceName{"sensor", "n"}, policy.KindForbidden},
		{DeviceName{"hub", "off"}, DeviceName{"sensor", "n"}, policy.KindForbidden},
		{g1, DeviceName{"none", "n"}, policy.KindNotFound},
		{g1, DeviceName{"sensor", "d1"}, policy.KindExists},
		{g1, DeviceName{"sensor", "a/b"}, policy.KindInvalid},
		{g1, DeviceName{"sensor", "+"}, policy.KindInvalid},
		{g1, DeviceName{"hub", "n"}, policy.KindInvalid},
	} {
		refused(t, register(test.gateway, test.device), test.want)
	}
	if _, err := f.Group(ctx, acme, "gw_def_res_grp:acme01:hub:n"); err == nil {
		t.Error("a refused gateway left its group")
	}
	for i := range 3 {
		f.ok(register(g1, DeviceName{"sensor", policy.ID(fmt.Sprint("n", i))}))
	}
	refused(t, register(g1, DeviceName{"sensor", "more"}), policy.KindLimit)
	f.ok(f.DeleteDevice(ctx, acme, "sensor", "n0"))
	f.ok(register(g1, DeviceName{"sensor", "more"}))
	_, err = f.UpdateDevice(ctx, acme, "hub", "g1", func(d *Device) error { d.Reach.Groups = nil; return nil })
	f.ok(err)
	f.ok(f.DeleteDevice(ctx, acme, "sensor", "more"))
	refused(t, register(g1, DeviceName{"sensor", "more"}), policy.KindConflict)
	_, err = f.RegisterBehind(ctx, other, g1, DeviceName{"sensor", "n"})
	refused(t, err, policy.KindNotFound)
	checkWhole(t, f.Registry, acme, 5)
}

// Whoever comes first makes the device, while gateways and groups come and go.
func TestRegisterBehindRaces(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "hub", ClassGateway)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "hub", "g1", "")
		f.device(acme, "hub", "g2", "")
		var made sync.Map
		var work sync.WaitGroup
		for n := range 4 {
			gateway := DeviceName{"hub", policy.ID(fmt.Sprint("g", 1+n%2))}
			work.Go(func() {
				for i := range 20 {
					id := policy.ID(fmt.Sprint("d", i))
					d, err := f.RegisterBehind(ctx, acme, gateway, DeviceName{"sensor", id})
					switch policy.KindOf(err) {
					case policy.KindExists, policy.KindForbidden:
					default:
						if err != nil {
							t.Error(err)
						} else if _, twice := made.LoadOrStore(fmt.Sprint(id, d.Incarnation), true); twice {
							t.Errorf("%s was made twice", id)
						}
					}
					_, _ = f.DeviceFacts(ctx, acme, "sensor", id)
				}
			})
		}
		work.Go(func() {
			for range 5 {
				_ = f.DeleteDevice(ctx, acme, "hub", "g2")
				_, _, _ = f.CreateDevice(ctx, acme, Device{Type: "hub", ID: "g2"}, plugins.Secret{})
			}
		})
		work.Wait()
		f.background.Wait()
		list, _, err := f.Devices(ctx, acme, "", Page{Limit: 100})
		f.ok(err)
		checkWhole(t, f.Registry, acme, len(list))
	})
}

// A role of the organisation is not removed while a gateway has it.
func TestRoleOfGateway(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "hub", ClassGateway)
	token := f.device(acme, "hub", "g1", "")
	_, err := f.CreateRole(ctx, acme, Role{ID: "fleet", Permissions: []string{"events.publish"}})
	f.ok(err)
	give := func(roles ...string) {
		_, err := f.UpdateDevice(ctx, acme, "hub", "g1", func(d *Device) error { d.Roles = roles; return nil })
		f.ok(err)
	}
	give("fleet")
	p := must[policy.Principal](t)(f.connect(ctx, "g:acme01:hub:g1", "use-token-auth", token))
	if !slices.Equal(p.Permissions, []string{"events.publish"}) {
		t.Errorf("principal %+v", p)
	}
	refused(t, f.DeleteRole(ctx, acme, "fleet"), policy.KindConflict)
	give(RoleStandardGateway)
	f.ok(f.DeleteRole(ctx, acme, "fleet"))
	give("later")
	_, err = f.CreateRole(ctx, acme, Role{ID: "later", Permissions: []string{"devices.edit"}})
	refused(t, err, policy.KindConflict)
	f.ok(f.DeleteDevice(ctx, acme, "hub", "g1"))
	_, err = f.CreateRole(ctx, acme, Role{ID: "later", Permissions: []string{"devices.edit"}})
	f.ok(err)
}

// Groups, who is in them and who reaches them move with the organisation.
func TestGroupsMove(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "hub", ClassGateway)
		f.deviceType(acme, "sensor", ClassDevice)
		token := f.device(acme, "hub", "g1", "")
		must[Device](t)(f.RegisterBehind(ctx, acme, DeviceName{"hub", "g1"}, DeviceName{"sensor", "d1"}))
		north, gone := f.group(acme, "north"), f.group(acme, "gone")
		f.ok(f.put(north, "sensor", "d1"))
		f.ok(f.put(gone, "sensor", "d1"))
		key, keyToken := f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(north, gone)}})
		f.ok(f.DeleteGroup(ctx, acme, gone))
		file := f.export(acme, ExportOptions{})
		check := func(there *fixture, what string) {
			t.Helper()
			p := must[policy.Principal](t)(there.connect(ctx, "g:acme01:hub:g1", "use-token-auth", token))
			app := must[policy.Principal](t)(there.connect(ctx, "a:acme01:app", key, keyToken))
			if !p.Restricted || !slices.Equal(p.Groups, []string{hubGroup}) || !app.Restricted || !slices.Equal(app.Groups, []string{north}) {
				t.Errorf("%s: gateway %+v, application %+v", what, p, app)
			}
			if facts := must[*policy.Device](t)(there.DeviceFacts(ctx, acme, "sensor", "d1")); !slices.Equal(facts.Groups, []string{hubGroup, north}) {
				t.Errorf("%s: the device is in %q", what, facts.Groups)
			}
			if found, _, err := there.Reached(ctx, acme, "", []string{hubGroup}, Page{}); err != nil || ids(found) != "hub/g1 sensor/d1" {
				t.Errorf("%s: the default group has %s, %v", what, ids(found), err)
			}
			checkWhole(t, there.Registry, acme, 2)
		}
		there := newFixture(t, stores[0].open(t))
		must[Moved](t)(there.load(file, ImportOptions{}))
		check(there, "import")
		if back := there.export(acme, ExportOptions{}); back != file {
			t.Errorf("exported\n%s\nimported\n%s", back, file)
		}
		there = newFixture(t, stores[0].open(t))
		there.organisation(acme)
		must[Moved](t)(there.load(file, ImportOptions{Merge: true}))
		check(there, "merge")
	})
}

// A file cannot have groups that no call could make.
func TestImportedGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	hub := `{"kind":"device_type","record":{"id":"hub","classId":"Gateway","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`
	device := func(more string) string {
		return `{"kind":"device","record":{"typeId":"hub","deviceId":"g1","classId":"Gateway","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"` + more + `}}`
	}
	group := func(id string) string {
		return `{"kind":"group","record":{"id":"` + id + `","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`
	}
	for name, lines := range map[string][]string{
		"a default group of nobody":     {fileHead, fileOrg, group(hubGroup)},
		"one of another organisation":   {fileHead, fileOrg, hub, device(""), group("gw_def_res_grp:other1:hub:g1")},
		"a name that is none":           {fileHead, fileOrg, group("a/b")},
		"groups without a role":         {fileHead, fileOrg, hub, device(`,"reach":{"restricted":true,"groups":["x"]}`)},
		"groups of whoever reaches all": {fileHead, fileOrg, hub, device(`,"roles":["A"],"reach":{"groups":["x"]}`)},
		"a reference that is none":      {fileHead, fileOrg, hub, device(`,"groups":["a@b"]`)},
		"too many groups of a device":   {fileHead, fileOrg, hub, device(`,"groups":["1","2","3","4","5","6","7","8","9","10","11"]`)},
		"roles of a device, no gateway": {fileHead, fileOrg, fileType, strings.Replace(fileDevice, `"classId"`, `"roles":["A"],"classId"`, 1)},
	} {
		if _, err := f.load(seal(lines...), ImportOptions{}); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A reference to a group that the file does not have is one to nothing, whatever
	// is made later.
	must[Moved](t)(f.load(seal(fileHead, fileOrg, hub, device(`,"groups":["x"],"roles":["A"],"reach":{"restricted":true,"groups":["x"]}`)), ImportOptions{}))
	if got := f.groupsOf("hub", "g1"); got != "" {
		t.Errorf("it is in %q", got)
	}
}
