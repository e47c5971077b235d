package registry

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		made := must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "fleet", Description: "sees", Permissions: []string{"devices.view", "events.publish", "devices.view"}}))
		if !slices.Equal(made.Permissions, []string{"devices.view", "events.publish"}) || made.Created.IsZero() {
			t.Errorf("made %+v", made)
		}
		if found := must[Role](t)(f.Role(ctx, acme, "fleet")); !reflect.DeepEqual(found, made) {
			t.Errorf("found %+v, want %+v", found, made)
		}
		_, err := f.CreateRole(ctx, acme, Role{ID: "fleet", Permissions: []string{"devices.view"}})
		refused(t, err, policy.KindExists)
		if roles, next, err := f.Roles(ctx, acme, Page{}); err != nil || next != "" || len(roles) != 1 {
			t.Errorf("roles = %v, %q, %v", roles, next, err)
		}

		// It is nothing to another organisation.
		_, err = f.Role(ctx, other, "fleet")
		refused(t, err, policy.KindNotFound)
		if roles, _, err := f.Roles(ctx, other, Page{}); err != nil || len(roles) != 0 {
			t.Errorf("roles of another organisation = %v, %v", roles, err)
		}
		if got, err := f.RolePermissions(ctx, other, []string{"fleet"}); err != nil || got != nil {
			t.Errorf("permissions in another organisation = %v, %v", got, err)
		}
		refused(t, f.DeleteRole(ctx, other, "fleet"), policy.KindNotFound)

		edited := must[Role](t)(f.UpdateRole(ctx, acme, "fleet", func(o *Role) error {
			o.ID, o.Permissions = "renamed", []string{"types.view"}
			return nil
		}))
		if edited.ID != "fleet" || !slices.Equal(edited.Permissions, []string{"types.view"}) {
			t.Errorf("edited %+v", edited)
		}
		if got := must[[]string](t)(f.RolePermissions(ctx, acme, []string{"fleet", "PD_ADMIN_APP", "unknown"})); !slices.Equal(got, []string{"types.view"}) {
			t.Errorf("permissions = %v", got)
		}
		f.reopen()
		must[Role](t)(f.Role(ctx, acme, "fleet"))
		f.ok(f.DeleteRole(ctx, acme, "fleet"))
		refused(t, f.DeleteRole(ctx, acme, "fleet"), policy.KindNotFound)
		_, err = f.UpdateRole(ctx, acme, "fleet", func(*Role) error { return nil })
		refused(t, err, policy.KindNotFound)
	})
}

func TestRolesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	for name, bad := range map[string]Role{
		"no name":                 {Permissions: []string{"devices.view"}},
		"an ill-formed name":      {ID: "a,b", Permissions: []string{"devices.view"}},
		"a name of the platform":  {ID: "PD_FLEET_APP", Permissions: []string{"devices.view"}},
		"a role of users":         {ID: "Administrator", Permissions: []string{"devices.view"}},
		"no permission":           {ID: "fleet"},
		"an unknown permission":   {ID: "fleet", Permissions: []string{"devices.view", "devices.delete"}},
		"everything":              {ID: "fleet", Permissions: []string{"everything"}},
		"two permissions in one":  {ID: "fleet", Permissions: []string{"devices.view,devices.edit"}},
		"a description too long":  {ID: "fleet", Permissions: []string{"devices.view"}, Description: strings.Repeat("x", maxText+1)},
		"control in what it says": {ID: "fleet", Permissions: []string{"devices.view"}, Description: "a\x00b"},
	} {
		if _, err := f.CreateRole(ctx, acme, bad); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range maxOwnRoles {
		must[Role](t)(f.CreateRole(ctx, acme, Role{ID: policy.ID(fmt.Sprint("r", i)), Permissions: Permissions()}))
	}
	_, err := f.CreateRole(ctx, acme, Role{ID: "more", Permissions: []string{"devices.view"}})
	refused(t, err, policy.KindConflict)
	f.ok(f.DeleteRole(ctx, acme, "r3"))
	must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "more", Permissions: []string{"devices.view"}}))
}

// Nobody gets permissions by a name that they had before it meant any, and none is
// taken away behind their back.
func TestRolesOfHolders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	key, token := f.apiKey(acme, APIKey{Roles: []string{"fleet", "PD_VISUALIZATION_APP"}})
	role := Role{ID: "fleet", Permissions: []string{"commands.publish", "devices.view"}}
	_, err := f.CreateRole(ctx, acme, role)
	refused(t, err, policy.KindConflict)
	roles := func(names ...string) {
		t.Helper()
		_, err := f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error { k.Roles = names; return nil })
		f.ok(err)
	}
	roles("PD_VISUALIZATION_APP")
	must[Role](t)(f.CreateRole(ctx, acme, role))
	must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "logs", Permissions: []string{"logs.view", "devices.view"}}))
	roles("fleet", "logs")
	refused(t, f.DeleteRole(ctx, acme, "fleet"), policy.KindConflict)
	_, password, err := f.CreateUser(ctx, acme, User{Name: "ann", Roles: []string{"logs"}})
	f.ok(err)

	application := must[policy.Principal](t)(f.connect(ctx, "a:acme01:app", key, token))
	if want := []string{"commands.publish", "devices.view", "logs.view"}; !slices.Equal(application.Permissions, want) {
		t.Errorf("the key has %v, want %v", application.Permissions, want)
	}
	if user := must[policy.Principal](t)(f.basic("ann@acme01", password)); !slices.Equal(user.Permissions, []string{"logs.view", "devices.view"}) {
		t.Errorf("the user has %v", user.Permissions)
	}
	f.changes()
	_, err = f.UpdateRole(ctx, acme, "fleet", func(o *Role) error { o.Permissions = []string{"types.view"}; return nil })
	f.ok(err)
	if told := f.changes(); len(told) != 1 || told[0].Kind != RoleChanged || told[0].Role != "fleet" || told[0].Incarnation != application.Incarnation {
		t.Errorf("told %+v", told)
	}
	now := must[policy.Principal](t)(f.Refresh(ctx, &application))
	if !slices.Equal(now.Permissions, []string{"types.view", "logs.view", "devices.view"}) || now.Version <= application.Version {
		t.Errorf("after the edit: %v, version %d after %d", now.Permissions, now.Version, application.Version)
	}
	roles("PD_VISUALIZATION_APP")
	if now = must[policy.Principal](t)(f.Refresh(ctx, &application)); now.Permissions != nil {
		t.Errorf("without the roles: %v", now.Permissions)
	}
	f.ok(f.DeleteRole(ctx, acme, "fleet"))
	refused(t, f.DeleteRole(ctx, acme, "logs"), policy.KindConflict)
	f.ok(f.DeleteUser(ctx, acme, "ann"))
	f.ok(f.DeleteRole(ctx, acme, "logs"))
}

// A principal of another verifier has no roles of the registry.
func TestRolesOfOtherVerifiers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "fleet", Permissions: []string{"commands.publish"}}))
	p := policy.Principal{Org: acme, Kind: policy.KindApplication, App: "app", Verifier: "jwt", Roles: []string{"fleet"}}
	if now := must[policy.Principal](t)(f.Refresh(ctx, &p)); now.Permissions != nil {
		t.Errorf("a plugin's application has %v", now.Permissions)
	}
}

// An import takes no role that CreateRole would not, and a merge no more of them.
func TestRolesAreTakenAlong(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "fleet", Permissions: []string{"commands.publish"}}))
	file := f.export(acme, ExportOptions{})
	there := newFixture(t, stores[0].open(t))
	must[Moved](t)(there.load(file, ImportOptions{}))
	if got := must[[]string](t)(there.RolePermissions(ctx, acme, []string{"fleet"})); !slices.Equal(got, []string{"commands.publish"}) {
		t.Errorf("there it permits %v", got)
	}

	_, err := f.UpdateRole(ctx, acme, "fleet", func(o *Role) error { o.Permissions = []string{"types.view"}; return nil })
	f.ok(err)
	must[Moved](t)(f.load(file, ImportOptions{Merge: true}))
	if got := must[[]string](t)(f.RolePermissions(ctx, acme, []string{"fleet"})); !slices.Equal(got, []string{"types.view"}) {
		t.Errorf("a merge changed what is there to %v", got)
	}
	f.ok(f.DeleteRole(ctx, acme, "fleet"))
	f.changes()
	must[Moved](t)(f.load(file, ImportOptions{Merge: true}))
	if told := f.changes(); !slices.ContainsFunc(told, func(ch Change) bool { return ch.Kind == RoleChanged && ch.Role == "fleet" }) {
		t.Errorf("told %+v", told)
	}
	f.ok(f.DeleteRole(ctx, acme, "fleet"))
	for i := range maxOwnRoles {
		must[Role](t)(f.CreateRole(ctx, acme, Role{ID: policy.ID(fmt.Sprint("r", i)), Permissions: []string{"types.view"}}))
	}
	_, err = f.load(file, ImportOptions{Merge: true})
	refused(t, err, policy.KindConflict)
	_, err = f.Role(ctx, acme, "fleet")
	refused(t, err, policy.KindNotFound)
}
