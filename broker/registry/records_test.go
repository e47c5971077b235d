package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func TestOrganisations(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		_, err := f.Organisation(ctx, acme)
		refused(t, err, policy.KindNotFound)

		made := f.organisation(acme)
		if made.ID != acme || made.Name != "Test" || made.Incarnation == 0 || made.Quotas != DefaultQuotas() ||
			made.Suspended || !made.Created.Equal(f.now()) || made.Created.Location() != time.UTC {
			t.Errorf("made %+v", made)
		}
		_, err = f.CreateOrganisation(ctx, acme, "again")
		refused(t, err, policy.KindExists)
		_, err = f.CreateOrganisation(ctx, policy.OrgID{}, "none")
		refused(t, err, policy.KindInvalid)

		f.advance(time.Minute)
		changed := must[Organisation](t)(f.UpdateOrganisation(ctx, acme, func(o *Organisation) error {
			o.ID, o.Incarnation, o.Created = other, 99, time.Time{}
			o.Name, o.ConnectionLevel = "Acme", LevelTLSOptional
			o.Data = map[string]any{"colour": "red", "number": json.Number("12345678901234567890")}
			o.Quotas.Connections = 5
			return nil
		}))
		if changed.ID != acme || changed.Incarnation != made.Incarnation || !changed.Created.Equal(made.Created) || !changed.Updated.After(made.Updated) {
			t.Errorf("an edit changed what identifies the organisation: %+v", changed)
		}
		if read := must[Organisation](t)(f.Organisation(ctx, acme)); !reflect.DeepEqual(read, changed) {
			t.Errorf("read %+v, want %+v", read, changed)
		}

		stop := errors.New("stop")
		if _, err = f.UpdateOrganisation(ctx, acme, func(*Organisation) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("an edit's error became %v", err)
		}
		_, err = f.UpdateOrganisation(ctx, other, func(*Organisation) error { return nil })
		refused(t, err, policy.KindNotFound)
		refused(t, f.DeleteOrganisation(ctx, other), policy.KindNotFound)
		if read := must[Organisation](t)(f.Organisation(ctx, acme)); !reflect.DeepEqual(read, changed) {
			t.Errorf("refused edits left %+v", read)
		}
	})
}

func TestOrganisationBounds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	deep := map[string]any{}
	for range 40 {
		deep = map[string]any{"deeper": deep}
	}
	for name, edit := range map[string]func(*Organisation){
		"name too long":        func(o *Organisation) { o.Name = strings.Repeat("x", maxName+1) },
		"name not UTF-8":       func(o *Organisation) { o.Name = "\xff" },
		"name with NUL":        func(o *Organisation) { o.Name = "a\x00b" },
		"connection level":     func(o *Organisation) { o.ConnectionLevel = "plain" },
		"no connections":       func(o *Organisation) { o.Quotas.Connections = 0 },
		"negative sessions":    func(o *Organisation) { o.Quotas.Sessions = -1 },
		"infinite rate":        func(o *Organisation) { o.Quotas.PublishRate = math.Inf(1) },
		"rate not a number":    func(o *Organisation) { o.Quotas.EvaluationsRate = math.NaN() },
		"too much data":        func(o *Organisation) { o.Data = map[string]any{"x": strings.Repeat("x", maxData)} },
		"data too deep":        func(o *Organisation) { o.Data = deep },
		"data that is no JSON": func(o *Organisation) { o.Data = map[string]any{"x": func() {}} },
	} {
		_, err := f.UpdateOrganisation(t.Context(), acme, func(o *Organisation) error { edit(o); return nil })
		if policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v, want it refused as invalid", name, err)
		}
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		made := f.deviceType(acme, "sensor", "")
		if made.ClassID != ClassDevice {
			t.Errorf("class %q, want %q", made.ClassID, ClassDevice)
		}
		_, err := f.CreateType(ctx, acme, DeviceType{ID: "sensor"})
		refused(t, err, policy.KindExists)
		_, err = f.CreateType(ctx, acme, DeviceType{ID: "a/b"})
		refused(t, err, policy.KindInvalid)
		_, err = f.CreateType(ctx, acme, DeviceType{ID: "x", ClassID: "Thing"})
		refused(t, err, policy.KindInvalid)
		_, err = f.CreateType(ctx, other, DeviceType{ID: "sensor"})
		refused(t, err, policy.KindNotFound)

		changed := must[DeviceType](t)(f.UpdateType(ctx, acme, "sensor", func(d *DeviceType) error {
			d.ID, d.ClassID, d.Description = "other", ClassGateway, "measures"
			return nil
		}))
		if changed.ID != "sensor" || changed.ClassID != ClassDevice || changed.Description != "measures" {
			t.Errorf("changed %+v", changed)
		}

		f.device(acme, "sensor", "d1", "")
		refused(t, f.DeleteType(ctx, acme, "sensor"), policy.KindConflict)
		f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
		f.ok(f.DeleteType(ctx, acme, "sensor"))
		_, err = f.Type(ctx, acme, "sensor")
		refused(t, err, policy.KindNotFound)
		refused(t, f.DeleteType(ctx, acme, "sensor"), policy.KindNotFound)
	})
}

// A type is a template, copied when a device is created; the device's own word
// wins field by field.
func TestDeviceCopiesItsType(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		_, err := f.CreateType(ctx, acme, DeviceType{
			ID: "sensor", ClassID: ClassGateway,
			DeviceInfo: DeviceInfo{Manufacturer: "Acme", Model: "M1"},
			Metadata:   map[string]any{"unit": "K", "floor": "1"},
		})
		f.ok(err)
		own := map[string]any{"floor": "2"}
		made, _, err := f.CreateDevice(ctx, acme, Device{
			Type: "sensor", ID: "d1", ClassID: "ignored", Incarnation: 7, CreatedBy: "a-acme01-0123456789",
			DeviceInfo: DeviceInfo{Model: "M2"}, Metadata: own,
		}, plugins.Secret{})
		f.ok(err)
		if want := (DeviceInfo{Manufacturer: "Acme", Model: "M2"}); made.DeviceInfo != want {
			t.Errorf("device info %+v, want %+v", made.DeviceInfo, want)
		}
		if want := map[string]any{"unit": "K", "floor": "2"}; !maps.Equal(made.Metadata, want) {
			t.Errorf("metadata %v, want %v", made.Metadata, want)
		}
		if made.ClassID != ClassGateway || made.Incarnation == 7 {
			t.Errorf("made %+v", made)
		}
		made.Metadata["floor"] = "3"
		if read := must[Device](t)(f.Device(ctx, acme, "sensor", "d1")); read.Metadata["floor"] != "2" || len(own) != 1 {
			t.Errorf("what the caller holds is shared with the registry: %v, %v", read.Metadata, own)
		}

		_, err = f.UpdateType(ctx, acme, "sensor", func(d *DeviceType) error { d.DeviceInfo.Manufacturer = "Later"; return nil })
		f.ok(err)
		if read := must[Device](t)(f.Device(ctx, acme, "sensor", "d1")); read.DeviceInfo.Manufacturer != "Acme" {
			t.Errorf("an edit of the type changed its device: %+v", read.DeviceInfo)
		}
	})
}

func TestDevices(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		f.deviceType(acme, "hub", ClassGateway)
		f.device(acme, "hub", "g1", "")
		f.device(acme, "sensor", "d1", "")

		create := func(d Device) error {
			_, _, err := f.CreateDevice(ctx, acme, d, plugins.Secret{})
			return err
		}
		refused(t, create(Device{Type: "sensor", ID: "d1"}), policy.KindExists)
		refused(t, create(Device{Type: "none", ID: "d1"}), policy.KindNotFound)
		refused(t, create(Device{Type: "sensor", ID: "a b"}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", GatewayType: "sensor", GatewayID: "d1"}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", Location: &Location{Longitude: 181}}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", Location: &Location{Latitude: math.NaN()}}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", Groups: RefsTo("a/b")}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", Groups: RefsTo("none")}), policy.KindInvalid)
		refused(t, create(Device{Type: "sensor", ID: "x", DeviceInfo: DeviceInfo{Model: "\x01"}}), policy.KindInvalid)
		f.ok(create(Device{Type: "sensor", ID: "d2", GatewayType: "hub", GatewayID: "g1"}))

		f.advance(time.Second)
		where := &Location{Longitude: 13.4, Latitude: 52.5, Measured: f.now()}
		changed := must[Device](t)(f.UpdateDevice(ctx, acme, "sensor", "d2", func(d *Device) error {
			d.ID, d.Incarnation, d.GatewayID, d.ClassID = "other", 1, "other", ClassGateway
			d.Location, d.Status.Alert = where, Alert{Enabled: true, Timestamp: f.now()}
			return nil
		}))
		if changed.ID != "d2" || changed.Incarnation == 1 || changed.GatewayID != "g1" || changed.ClassID != ClassDevice {
			t.Errorf("an edit changed what identifies the device: %+v", changed)
		}
		if !changed.Status.Alert.Enabled || changed.Location.Latitude != 52.5 || changed.Location == where {
			t.Errorf("changed %+v", changed)
		}
		_, err := f.UpdateDevice(ctx, acme, "sensor", "none", func(*Device) error { return nil })
		refused(t, err, policy.KindNotFound)
		refused(t, f.DeleteDevice(ctx, acme, "sensor", "none"), policy.KindNotFound)
		_, err = f.ReplaceDeviceToken(ctx, acme, "sensor", "none", plugins.Secret{}, 0)
		refused(t, err, policy.KindNotFound)
		_, err = f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.Secret{}, 25*time.Hour)
		refused(t, err, policy.KindInvalid)

		facts := must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "d1"))
		if !facts.Registered || facts.Status != "enabled" {
			t.Errorf("facts %+v", facts)
		}
		facts = must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "none"))
		if facts.Registered || facts.Status != "" || facts.ID != "none" {
			t.Errorf("facts of an unknown device: %+v", facts)
		}
	})
}

func TestSelfChosenTokenRule(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	for i, test := range []struct {
		token string
		ok    bool
	}{
		{"aA0-_!&@", true},
		{"?*+.()aA", true},
		{"aaaaaaaa", true},
		{strings.Repeat("x", 36), true},
		{"short77", false},
		{strings.Repeat("x", 37), false},
		{"has a space", false},
		{"slash/es//", false},
		{"pass#word1", false},
		{"unicodé-password", false},
	} {
		_, shown, err := f.CreateDevice(t.Context(), acme, Device{Type: "sensor", ID: policy.ID(fmt.Sprint(i))}, plugins.NewSecret([]byte(test.token)))
		switch {
		case test.ok && (err != nil || shown != test.token):
			t.Errorf("%q: shown %q, %v", test.token, shown, err)
		case !test.ok && policy.KindOf(err) != policy.KindInvalid:
			t.Errorf("%q: %v, want it refused as invalid", test.token, err)
		case !test.ok && strings.Contains(err.Error(), test.token):
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		made, token, err := f.CreateAPIKey(ctx, acme, APIKey{Key: "a-acme01-chosen0000", Comment: "ci"})
		f.ok(err)
		if org, ok := parseAPIKey(made.Key); !ok || org != acme || made.Key == "a-acme01-chosen0000" || len(token) != generatedToken {
			t.Errorf("made %+v with a token of %d characters", made, len(token))
		}
		if !slices.Equal(made.Roles, []string{RoleStandardApp}) {
			t.Errorf("roles %v", made.Roles)
		}
		_, _, err = f.CreateAPIKey(ctx, acme, APIKey{Roles: []string{"not a role"}})
		refused(t, err, policy.KindInvalid)
		_, _, err = f.CreateAPIKey(ctx, acme, APIKey{Expires: f.now()})
		refused(t, err, policy.KindInvalid)
		_, _, err = f.CreateAPIKey(ctx, acme, APIKey{Comment: strings.Repeat("x", maxText+1)})
		refused(t, err, policy.KindInvalid)

		changed := must[APIKey](t)(f.UpdateAPIKey(ctx, acme, made.Key, func(k *APIKey) error {
			k.Key, k.Roles, k.Comment = "other", []string{"PD_OPERATOR_APP", "PD_ADMIN_APP", "PD_OPERATOR_APP"}, ""
			return nil
		}))
		if changed.Key != made.Key || !slices.Equal(changed.Roles, []string{"PD_OPERATOR_APP", "PD_ADMIN_APP"}) || changed.Comment != "" {
			t.Errorf("changed %+v", changed)
		}

		// The key of one organisation does not exist in another one.
		_, err = f.APIKey(ctx, other, made.Key)
		refused(t, err, policy.KindNotFound)
		_, err = f.UpdateAPIKey(ctx, other, made.Key, func(*APIKey) error { return nil })
		refused(t, err, policy.KindNotFound)
		_, err = f.ReplaceAPIKeyToken(ctx, other, made.Key, 0)
		refused(t, err, policy.KindNotFound)
		refused(t, f.DeleteAPIKey(ctx, other, made.Key), policy.KindNotFound)

		f.ok(f.DeleteAPIKey(ctx, acme, made.Key))
		_, err = f.APIKey(ctx, acme, made.Key)
		refused(t, err, policy.KindNotFound)
	})
}

func TestUsers(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		made, password, err := f.CreateUser(ctx, acme, User{Name: "ann"})
		f.ok(err)
		if !slices.Equal(made.Roles, []string{RoleReader}) || len(password) != generatedToken {
			t.Errorf("made %+v with a password of %d characters", made, len(password))
		}
		_, _, err = f.CreateUser(ctx, acme, User{Name: "ann"})
		refused(t, err, policy.KindExists)
		_, _, err = f.CreateUser(ctx, acme, User{Name: "ann@home"})
		refused(t, err, policy.KindInvalid)
		changed := must[User](t)(f.UpdateUser(ctx, acme, "ann", func(u *User) error { u.Name, u.Roles = "bob", []string{"Operator"}; return nil }))
		if changed.Name != "ann" || !slices.Equal(changed.Roles, []string{"Operator"}) {
			t.Errorf("changed %+v", changed)
		}
		if users, _, err := f.Users(ctx, acme, Page{}); err != nil || len(users) != 1 || users[0].Name != "ann" {
			t.Errorf("users %+v, %v", users, err)
		}
		next := must[string](t)(f.ReplaceUserPassword(ctx, acme, "ann", 0))
		_, err = f.basic("ann@acme01", password)
		wantCause(t, err, policy.CauseBad)
		_, err = f.basic("ann@acme01", next)
		f.ok(err)
		must[User](t)(f.UpdateUser(ctx, acme, "ann", func(u *User) error { u.Disabled = true; return nil }))
		_, err = f.basic("ann@acme01", next)
		wantCause(t, err, policy.CauseDisabled)
		_, err = f.ReplaceUserPassword(ctx, acme, "bob", 0)
		refused(t, err, policy.KindNotFound)
		f.ok(f.DeleteUser(ctx, acme, "ann"))
		_, err = f.User(ctx, acme, "ann")
		refused(t, err, policy.KindNotFound)
	})
}

func TestSeed(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		seed := must[Seed](t)(f.SeedOrganisation(t.Context(), acme, "Acme"))
		key := must[policy.Principal](t)(f.basic(seed.APIKey.Key, seed.APIToken))
		if key.Kind != policy.KindApplication || !slices.Equal(key.Roles, []string{RoleAdminApp}) || key.Incarnation != seed.Organisation.Incarnation {
			t.Errorf("the key signs in as %+v", key)
		}
		user := must[policy.Principal](t)(f.basic("admin@acme01", seed.AdminPassword))
		if user.Kind != policy.KindUser || user.ID != "admin" || !slices.Equal(user.Roles, []string{RoleAdministrator}) {
			t.Errorf("the user signs in as %+v", user)
		}
		_, err := f.SeedOrganisation(t.Context(), acme, "again")
		refused(t, err, policy.KindExists)
		if _, err := f.basic(seed.APIKey.Key, seed.APIToken); err != nil {
			t.Errorf("a refused second seed broke the first: %v", err)
		}
	})
}

// Every list pages without gaps or repetitions, and the last page has no bookmark.
func TestPages(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for i := range 7 {
			f.organisation(orgID(fmt.Sprintf("org%d", i)))
		}
		f.ok(f.DeleteOrganisation(ctx, orgID("org6")))
		org := orgID("org0")
		f.deviceType(org, "t", ClassDevice)
		f.deviceType(org, "u", ClassDevice)
		for i := range 6 {
			f.device(org, "t", policy.ID(fmt.Sprintf("d%d", i)), "")
		}
		f.device(org, "u", "d0", "")

		pages := func(limit int, read func(Page) (int, string, error)) (sizes []int) {
			page := Page{Limit: limit}
			for {
				n, next, err := read(page)
				f.ok(err)
				sizes = append(sizes, n)
				if next == "" {
					return sizes
				}
				page.After = next
			}
		}
		seen := map[string]bool{}
		organisations := func(p Page) (int, string, error) {
			found, next, err := f.Organisations(ctx, p)
			for _, o := range found {
				seen[o.ID.String()] = true
			}
			return len(found), next, err
		}
		devices := func(typ policy.ID) func(Page) (int, string, error) {
			return func(p Page) (int, string, error) {
				found, next, err := f.Devices(ctx, org, typ, p)
				for _, d := range found {
					seen[string(d.Type+"/"+d.ID)] = true
				}
				return len(found), next, err
			}
		}
		for _, test := range []struct {
			name  string
			limit int
			read  func(Page) (int, string, error)
			want  []int
		}{
			{"organisations, one page", 0, organisations, []int{6}},
			{"organisations by four", 4, organisations, []int{4, 2}},
			{"organisations, exactly", 6, organisations, []int{6}},
			{"devices of one type", 4, devices("t"), []int{4, 2}},
			{"devices of the other type", 4, devices("u"), []int{1}},
			{"all devices", 5, devices(""), []int{5, 2}},
			{"all devices by one", 1, devices(""), []int{1, 1, 1, 1, 1, 1, 1}},
		} {
			clear(seen)
			sizes := pages(test.limit, test.read)
			total := 0
			for _, n := range sizes {
				total += n
			}
			if !slices.Equal(sizes, test.want) || len(seen) != total {
				t.Errorf("%s: pages of %v with %d different entries, want %v", test.name, sizes, len(seen), test.want)
			}
		}
		for _, bookmark := range []string{"!", "AAAA", makeBookmark([]string{"a", "b", "c"}), strings.Repeat("A", 300)} {
			_, _, err := f.Devices(ctx, org, "", Page{After: bookmark})
			refused(t, err, policy.KindInvalid)
		}
		_, _, err := f.Devices(ctx, org, "none", Page{})
		refused(t, err, policy.KindNotFound)
	})
}

func TestOrganisationFacts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ standard, own, want string }{
		{"", "", LevelTLS},
		{LevelTLSOptional, "", LevelTLSOptional},
		{LevelTLSOptional, LevelTLS, LevelTLS},
		{LevelTLS, LevelTLSOptional, LevelTLSOptional},
	} {
		s := stores[0].open(t)
		r := must[*Registry](t)(Open(s, Options{DefaultConnectionLevel: test.standard}))
		must[Organisation](t)(r.CreateOrganisation(t.Context(), acme, ""))
		must[Organisation](t)(r.UpdateOrganisation(t.Context(), acme, func(o *Organisation) error {
			o.ConnectionLevel, o.Data = test.own, map[string]any{"a": "b"}
			return nil
		}))
		facts := must[*policy.Organisation](t)(r.OrganisationFacts(t.Context(), acme))
		if facts.ConnectionLevel != test.want || facts.ID != acme || facts.Data["a"] != "b" {
			t.Errorf("%+v: facts %+v", test, facts)
		}
		_, err := r.OrganisationFacts(t.Context(), other)
		refused(t, err, policy.KindNotFound)
		r.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s := stores[0].open(t)
	defer s.Close()
	if r, err := Open(s, Options{DefaultConnectionLevel: "plain"}); err == nil {
		t.Errorf("opened %v with an unknown connection level", r)
	}
}
