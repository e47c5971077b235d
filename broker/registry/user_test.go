package registry

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// Whatever is tried, somebody stays an administrator where somebody was one.
func TestTheLastAdministratorStays(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		must[Seed](t)(f.SeedOrganisation(ctx, acme, ""))
		must[Seed](t)(f.SeedOrganisation(ctx, other, "")) // whose administrator does not count here
		edit := func(name policy.ID, edit func(*User)) error {
			_, err := f.UpdateUser(ctx, acme, name, func(u *User) error { edit(u); return nil })
			return err
		}
		demote := func(u *User) { u.Roles = []string{"Operator"} }
		disable := func(u *User) { u.Disabled = true }
		for range 2 {
			refused(t, edit("admin", demote), policy.KindConflict)
			refused(t, edit("admin", func(u *User) { u.Roles = nil }), policy.KindConflict)
			refused(t, edit("admin", disable), policy.KindConflict)
			refused(t, f.DeleteUser(ctx, acme, "admin"), policy.KindConflict)
			// One who cannot sign in does not count.
			_, _, err := f.CreateUser(ctx, acme, User{Name: "off", Roles: []string{RoleAdministrator}, Disabled: true})
			if err != nil {
				refused(t, err, policy.KindExists)
			}
		}
		f.ok(edit("admin", func(u *User) { u.Roles = []string{"PD_ADMIN_USER", "Operator"} }))
		_, _, err := f.CreateUser(ctx, acme, User{Name: "ann", Roles: []string{RoleAdministrator}})
		f.ok(err)
		f.ok(edit("admin", disable))
		refused(t, f.DeleteUser(ctx, acme, "ann"), policy.KindConflict)
		f.ok(edit("admin", func(u *User) { u.Disabled = false }))
		f.ok(f.DeleteUser(ctx, acme, "ann"))
		refused(t, f.DeleteUser(ctx, acme, "admin"), policy.KindConflict)
		f.ok(f.DeleteUser(ctx, acme, "off"))
		if users, _, err := f.Users(ctx, acme, Page{}); err != nil || len(users) != 1 || !users[0].administers() {
			t.Errorf("left are %v, %v", users, err)
		}
	})
}

// An organisation has so many users, and no import or merge makes more.
func TestUsersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	for i := range maxUsers {
		_, _, err := f.CreateUser(ctx, acme, User{Name: policy.ID(fmt.Sprint("u", i))})
		f.ok(err)
	}
	_, _, err := f.CreateUser(ctx, acme, User{Name: "more"})
	refused(t, err, policy.KindConflict)
	file := f.export(acme, ExportOptions{})
	f.ok(f.DeleteUser(ctx, acme, "u7"))
	_, _, err = f.CreateUser(ctx, acme, User{Name: "more"})
	f.ok(err)
	_, err = f.load(file, ImportOptions{Merge: true})
	refused(t, err, policy.KindConflict)

	there := newFixture(t, stores[0].open(t))
	if moved := must[Moved](t)(there.load(file, ImportOptions{})); moved.Records["user"] != maxUsers {
		t.Errorf("moved %+v", moved)
	}
	lines := []string{fileHead, fileOrg}
	for i := range maxUsers + 1 {
		lines = append(lines, fmt.Sprintf(`{"kind":"user","record":{"name":"u%04d","roles":["Reader"],"created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`, i))
	}
	_, err = newFixture(t, stores[0].open(t)).load(seal(lines...), ImportOptions{})
	refused(t, err, policy.KindInvalid)
}

// What is changed of a user counts from the next call on, and a namesake is somebody
// else.
func TestUsersAreRefreshed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	_, password, err := f.CreateUser(ctx, acme, User{Name: "ann", Roles: []string{"Developer"}})
	f.ok(err)
	p := must[policy.Principal](t)(f.basic("ann@acme01", password))
	_, err = f.UpdateUser(ctx, acme, "ann", func(u *User) error { u.Roles = nil; return nil })
	f.ok(err)
	if now := must[policy.Principal](t)(f.Refresh(ctx, &p)); !slices.Equal(now.Roles, []string{RoleReader}) || now.Version <= p.Version {
		t.Errorf("after the edit: %+v", now)
	}
	fresh := must[string](t)(f.ReplaceUserPassword(ctx, acme, "ann", 0))
	_, err = f.Refresh(ctx, &p)
	wantCause(t, err, policy.CauseRevoked)
	_, err = f.basic("ann@acme01", password)
	wantCause(t, err, policy.CauseBad)
	p = must[policy.Principal](t)(f.basic("ann@acme01", fresh))
	f.ok(f.DeleteUser(ctx, acme, "ann"))
	_, _, err = f.CreateUser(ctx, acme, User{Name: "ann", Roles: []string{RoleAdministrator}})
	f.ok(err)
	_, err = f.Refresh(ctx, &p)
	wantCause(t, err, policy.CauseRevoked)
}
