package registry

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store/storetest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// What a watcher is told of each call, and whether the call is on disk when it
// returns.
func TestChanges(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	ctx := t.Context()

	var key string
	var incarnation, deviceIncarnation uint64
	credential := func(id string) policy.CredentialID {
		var p policy.CredentialID
		c := must[stamped[credential]](t)(load[credential](faulty, credentialID(id).key(must[home](t)(f.find(acme)).scope)))
		p.ID, p.Version = id, c.Record.Current.Version
		return p
	}
	editDevice := func(edit func(*Device)) func() error {
		return func() error {
			_, err := f.UpdateDevice(ctx, acme, "hub", "g1", func(d *Device) error { edit(d); return nil })
			return err
		}
	}
	editOrganisation := func(edit func(*Organisation)) func() error {
		return func() error {
			_, err := f.UpdateOrganisation(ctx, acme, func(o *Organisation) error { edit(o); return nil })
			return err
		}
	}
	org := func(kind ChangeKind) func() []Change {
		return func() []Change { return []Change{{Kind: kind, Org: acme, Incarnation: incarnation}} }
	}
	device := func(kind ChangeKind) func() []Change {
		return func() []Change {
			return []Change{{
				Kind: kind, Org: acme, Incarnation: incarnation, PrincipalKind: policy.KindGateway,
				Type: "hub", ID: "g1", DeviceIncarnation: deviceIncarnation,
			}}
		}
	}
	apiKey := func(kind ChangeKind) func() []Change {
		return func() []Change {
			return []Change{{Kind: kind, Org: acme, Incarnation: incarnation, PrincipalKind: policy.KindApplication, APIKey: key}}
		}
	}
	user := func(kind ChangeKind) func() []Change {
		return func() []Change {
			return []Change{{Kind: kind, Org: acme, Incarnation: incarnation, PrincipalKind: policy.KindUser, ID: "ann"}}
		}
	}
	replaced := func(subject func(ChangeKind) func() []Change, dead *policy.CredentialID, at *time.Time) func() []Change {
		return func() []Change {
			change := subject(CredentialReplaced)()[0]
			change.Credential = *dead
			if at != nil {
				change.At = *at
			}
			return []Change{change}
		}
	}
	nothing := func() []Change { return nil }
	var first, second, third, keyCredential policy.CredentialID
	var end time.Time

	for _, step := range []struct {
		name string
		call func() error
		want func() []Change
		sync bool
	}{
		{"create organisation", func() error {
			o, err := f.CreateOrganisation(ctx, acme, "")
			incarnation = o.Incarnation
			return err
		}, org(OrganisationChanged), false},
		{"create type", func() error {
			_, err := f.CreateType(ctx, acme, DeviceType{ID: "hub", ClassID: ClassGateway})
			return err
		}, nothing, false},
		{"create device", func() error {
			d, _, err := f.CreateDevice(ctx, acme, Device{Type: "hub", ID: "g1"}, plugins.Secret{})
			deviceIncarnation, first = d.Incarnation, credential("device/hub/g1")
			return err
		}, device(SubjectChanged), false},
		{"edit device", editDevice(func(d *Device) { d.Metadata = map[string]any{"a": "b"} }), device(SubjectChanged), true},
		{"disable device", editDevice(func(d *Device) { d.Disabled = true }), device(SubjectDisabled), true},
		{"enable device", editDevice(func(d *Device) { d.Disabled = false }), device(SubjectChanged), true},
		{"replace token with grace", func() error {
			end = f.moment().Add(time.Hour)
			_, err := f.ReplaceDeviceToken(ctx, acme, "hub", "g1", plugins.Secret{}, time.Hour)
			second = credential("device/hub/g1")
			return err
		}, replaced(device, &first, &end), true},
		{"replace token within the grace", func() error {
			_, err := f.ReplaceDeviceToken(ctx, acme, "hub", "g1", plugins.Secret{}, 0)
			third = credential("device/hub/g1")
			return err
		}, func() []Change {
			return append(replaced(device, &first, nil)(), replaced(device, &second, nil)()...)
		}, true},
		{"replace token", func() error {
			_, err := f.ReplaceDeviceToken(ctx, acme, "hub", "g1", plugins.Secret{}, 0)
			return err
		}, replaced(device, &third, nil), true},
		{"edit type", func() error {
			_, err := f.UpdateType(ctx, acme, "hub", func(d *DeviceType) error { d.Description = "x"; return nil })
			return err
		}, nothing, true},
		{"delete gateway", func() error { return f.DeleteDevice(ctx, acme, "hub", "g1") }, func() []Change {
			return append(device(SubjectDeleted)(), Change{Kind: GroupChanged, Org: acme, Incarnation: incarnation, Group: "gw_def_res_grp:acme01:hub:g1"})
		}, true},
		{"delete type", func() error { return f.DeleteType(ctx, acme, "hub") }, nothing, true},
		{"create API key", func() error {
			k, _, err := f.CreateAPIKey(ctx, acme, APIKey{})
			key = k.Key
			keyCredential = credential("apikey/" + key)
			return err
		}, apiKey(SubjectChanged), false},
		{"disable API key", func() error {
			_, err := f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error { k.Disabled = true; return nil })
			return err
		}, apiKey(SubjectDisabled), true},
		{"enable API key", func() error {
			_, err := f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error { k.Disabled = false; return nil })
			return err
		}, apiKey(SubjectChanged), true},
		{"replace API key token", func() error { _, err := f.ReplaceAPIKeyToken(ctx, acme, key, 0); return err }, replaced(apiKey, &keyCredential, nil), true},
		{"delete API key", func() error { return f.DeleteAPIKey(ctx, acme, key) }, apiKey(SubjectDeleted), true},
		{"create user", func() error { _, _, err := f.CreateUser(ctx, acme, User{Name: "ann"}); return err }, user(SubjectChanged), false},
		{"disable user", func() error {
			_, err := f.UpdateUser(ctx, acme, "ann", func(u *User) error { u.Disabled = true; return nil })
			return err
		}, user(SubjectDisabled), true},
		{"delete user", func() error { return f.DeleteUser(ctx, acme, "ann") }, user(SubjectDeleted), true},
		{"suspend organisation", editOrganisation(func(o *Organisation) { o.Suspended = true }), org(OrganisationSuspended), true},
		{"edit suspended organisation", editOrganisation(func(o *Organisation) { o.Name = "x" }), org(OrganisationChanged), true},
		{"resume organisation", editOrganisation(func(o *Organisation) { o.Suspended = false }), org(OrganisationChanged), true},
		{"delete organisation", func() error { return f.DeleteOrganisation(ctx, acme) }, org(OrganisationDeleted), true},
	} {
		syncs := faulty.Syncs()
		f.ok(step.call())
		if got, want := f.changes(), step.want(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n told %+v\n want %+v", step.name, got, want)
		}
		if got := faulty.Syncs() > syncs; got != step.sync {
			t.Errorf("%s: synced %v, want %v", step.name, got, step.sync)
		}
	}
}

// Watchers are told in order, after the commit, and not after cancel.
func TestWatchers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	var told []string
	watch := func(name string) (cancel func()) {
		return f.Watch(func(c Change) {
			_, err := f.Organisation(context.Background(), c.Org)
			told = append(told, name+" "+c.Kind.String()+" "+policy.KindOf(err).String())
		})
	}
	stopA := watch("a")
	watch("b")
	var stopOnce func()
	stopOnce = f.Watch(func(Change) { told = append(told, "once"); stopOnce() })
	f.organisation(acme)
	stopA()
	stopA()
	f.ok(f.DeleteOrganisation(t.Context(), acme))
	want := []string{
		"a organisation_changed internal", "b organisation_changed internal", "once",
		"b organisation_deleted not_found",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q\nwant %q", told, want)
	}
}

// A write that failed changes nothing and is not told; one that was written and
// not confirmed takes effect, so it is told, and still an error.
func TestFailedWrites(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	token := f.device(acme, "sensor", "d1", "")
	f.changes()
	full := errors.New("disk full")

	faulty.FailCommits(full)
	err := f.DeleteDevice(ctx, acme, "sensor", "d1")
	refused(t, err, policy.KindInternal)
	if !errors.Is(err, full) || len(f.changes()) != 0 {
		t.Errorf("%v, want %v and no change", err, full)
	}
	faulty.FailCommits(nil)
	opened := must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))

	faulty.FailAnswers(full)
	refused(t, f.DeleteDevice(ctx, acme, "sensor", "d1"), policy.KindInternal)
	if told := f.changes(); len(told) != 1 || told[0].Kind != SubjectDeleted {
		t.Errorf("told %+v, want the deletion", told)
	}
	faulty.FailAnswers(nil)
	_, err = f.Refresh(ctx, &opened)
	wantCause(t, err, policy.CauseRevoked)

	// The number of a failed write is not used again.
	made := f.organisation(other)
	if made.Incarnation <= opened.Version+2 {
		t.Errorf("incarnation %d after two failed writes upon version %d", made.Incarnation, opened.Version)
	}
}

func TestClosedRegistryRefusesWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	f.Close()
	f.Close()
	refused(t, f.DeleteOrganisation(t.Context(), acme), policy.KindUnavailable)
	if _, err := f.Organisation(t.Context(), acme); err != nil {
		t.Errorf("read after close: %v", err)
	}
}
