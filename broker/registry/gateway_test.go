package registry

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// A gateway is registered with a group of its own, is in it and reaches nothing else.
// Both go together, and a namesake has nothing of what was there.
func TestGatewayHasItsGroup(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		d1 := sensor("d1")
		p := f.gateway(f.hubFleet())
		f.reaches("the gateway", p, hubGroup)
		if !slices.Equal(p.Roles, []string{RolePrivilegedGateway}) || !slices.Equal(p.MemberOf, []string{hubGroup}) {
			t.Errorf("principal %+v", p)
		}
		f.isIn(g1, hubGroup)

		// What it registers is in the group.
		behind := must[Device](t)(f.RegisterBehind(ctx, acme, g1, d1))
		if behind.GatewayID != "g1" || behind.CreatedBy != "g:acme01:hub:g1" {
			t.Errorf("behind it: %+v", behind)
		}
		f.isIn(d1, hubGroup)
		if facts := must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "d1")); !facts.Registered || facts.Status != "enabled" {
			t.Errorf("facts %+v", facts)
		}

		// A key may reach the group, which stays as long as the gateway.
		app := f.app(f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(hubGroup)}}))
		f.reaches("the application", app, hubGroup)
		refused(t, f.DeleteGroup(ctx, acme, hubGroup), policy.KindConflict)
		checkWhole(t, f.Registry, acme, 2)

		f.delete(g1)
		_, err := f.Group(ctx, acme, hubGroup)
		refused(t, err, policy.KindNotFound)
		f.isIn(d1)
		later := f.again(app)
		f.reaches("the application", later)
		if later.Version <= app.Version {
			t.Errorf("the application's version was %d and is %d", app.Version, later.Version)
		}

		f.device(acme, "hub", "g1", "") // a namesake
		f.isIn(d1)
		f.reaches("the application", f.again(app))
		f.has([]string{hubGroup}, "", Page{}, "hub/g1")
		f.background.Wait()
		f.delete(d1)
		h := must[home](t)(f.homeOf(acme))
		f.ok(f.store.Scan(h.scope.Prefix(store.KindGroupMember), store.Key{}, func(key store.Key, _ []byte) bool {
			if parts := key.Parts(); len(parts) == 4 && parts[3] != "g1" {
				t.Errorf("%v is left", key)
			}
			return true
		}))
	})
}

// A record from before there were groups reaches what it did.
func TestGatewayFromBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	token := f.hubFleet()
	h := must[home](t)(f.homeOf(acme))
	key := deviceKey(h.scope, "hub", "g1")
	found := must[stamped[Device]](t)(load[Device](f.store, key))
	text := fmt.Sprintf("\x01"+`{"stamp":%d,"record":{"typeId":"hub","deviceId":"g1","classId":"Gateway","incarnation":%d,`+
		`"created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`, found.Stamp, found.Record.Incarnation)
	f.ok(store.CommitWait(ctx, f.store, store.Put(key, []byte(text))))
	f.reopen()
	p := f.gateway(token)
	if p.Restricted || p.Groups != nil || p.Roles != nil {
		t.Errorf("principal %+v", p)
	}
	if d := must[Device](t)(f.RegisterBehind(ctx, acme, g1, sensor("d1"))); len(d.Groups) != 0 {
		t.Errorf("behind it: %+v", d)
	}

	// Groups once given restrict it, also when they are taken away again.
	north := f.group("north")
	for _, groups := range [][]string{{north}, nil} {
		f.edit(g1, func(d *Device) {
			d.Roles, d.Reach = []string{RoleStandardGateway}, Reach{Groups: RefsTo(groups...)}
		})
		now := f.again(p)
		f.reaches("the gateway", now, groups...)
		if now.Version <= p.Version {
			t.Errorf("with %q its version was %d and is %d", groups, p.Version, now.Version)
		}
	}
}

func TestRegisterBehindRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.behind = 3
	f.hubFleet("d1")
	off := DeviceName{"hub", "off"}
	f.device(acme, "hub", "off", "")
	f.edit(off, func(d *Device) { d.Disabled = true })
	for name, test := range map[string]struct {
		gateway, device DeviceName
		want            policy.Kind
	}{
		"by nobody":             {DeviceName{"hub", "none"}, sensor("n"), policy.KindForbidden},
		"by no gateway":         {sensor("d1"), sensor("n"), policy.KindForbidden},
		"by a disabled gateway": {off, sensor("n"), policy.KindForbidden},
		"of no type":            {g1, DeviceName{"none", "n"}, policy.KindNotFound},
		"again":                 {g1, sensor("d1"), policy.KindExists},
		"no name":               {g1, sensor("a/b"), policy.KindInvalid},
		"a wildcard":            {g1, sensor("+"), policy.KindInvalid},
		"a gateway":             {g1, DeviceName{"hub", "n"}, policy.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) { refused(t, f.register(test.gateway, test.device), test.want) })
	}
	if _, err := f.Group(t.Context(), acme, "gw_def_res_grp:acme01:hub:n"); err == nil {
		t.Error("a refused gateway left its group")
	}
	_, err := f.RegisterBehind(t.Context(), other, g1, sensor("n"))
	refused(t, err, policy.KindNotFound)

	// It has so many devices at a time.
	for i := range f.behind {
		f.ok(f.register(g1, sensor(policy.ID(fmt.Sprint("n", i)))))
	}
	more := sensor("more")
	refused(t, f.register(g1, more), policy.KindLimit)
	f.delete(sensor("n0"))
	f.ok(f.register(g1, more))

	// What it would not reach, it does not register.
	f.edit(g1, func(d *Device) { d.Reach.Groups = nil })
	f.delete(more)
	refused(t, f.register(g1, more), policy.KindConflict)
	checkWhole(t, f.Registry, acme, 5)
}

// Whoever comes first makes the device, while gateways and groups come and go.
func TestRegisterBehindRaces(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.hubFleet()
		f.device(acme, "hub", "g2", "")
		var made sync.Map
		var work sync.WaitGroup
		for n := range 4 {
			gateway := DeviceName{"hub", policy.ID(fmt.Sprint("g", 1+n%2))}
			work.Go(func() {
				for i := range 20 {
					id := policy.ID(fmt.Sprint("d", i))
					d, err := f.RegisterBehind(ctx, acme, gateway, sensor(id))
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
	token := f.hubFleet()
	create := func(role policy.ID, permission string) error {
		_, err := f.CreateRole(ctx, acme, Role{ID: role, Permissions: []string{permission}})
		return err
	}
	give := func(role string) {
		t.Helper()
		f.edit(g1, func(d *Device) { d.Roles = []string{role} })
	}
	f.ok(create("fleet", "events.publish"))
	give("fleet")
	if p := f.gateway(token); !slices.Equal(p.Permissions, []string{"events.publish"}) {
		t.Errorf("principal %+v", p)
	}
	refused(t, f.DeleteRole(ctx, acme, "fleet"), policy.KindConflict)
	give(RoleStandardGateway)
	f.ok(f.DeleteRole(ctx, acme, "fleet"))

	// Nor is one made under a name that a gateway has kept.
	give("later")
	refused(t, create("later", "devices.edit"), policy.KindConflict)
	f.delete(g1)
	f.ok(create("later", "devices.edit"))
}
