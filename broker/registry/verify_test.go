package registry

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/storetest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Who connects how, and why somebody does not.
func TestTokenVerifier(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		f.deviceType(acme, "sensor", ClassDevice)
		f.deviceType(acme, "hub", ClassGateway)
		device := f.device(acme, "sensor", "d1", "")
		own := f.device(acme, "sensor", "own", "correct-horse")
		gateway := f.device(acme, "hub", "g1", "")
		off := f.device(acme, "sensor", "off", "")
		_, err := f.UpdateDevice(ctx, acme, "sensor", "off", func(d *Device) error { d.Disabled = true; return nil })
		f.ok(err)
		key, token := f.apiKey(acme, APIKey{Roles: []string{"PD_OPERATOR_APP"}})
		brief, briefToken := f.apiKey(acme, APIKey{Expires: f.now().Add(time.Hour)})
		offKey, offToken := f.apiKey(acme, APIKey{})
		_, err = f.UpdateAPIKey(ctx, acme, offKey, func(k *APIKey) error { k.Disabled = true; return nil })
		f.ok(err)
		otherKey, otherToken := f.apiKey(other, APIKey{})
		f.advance(2 * time.Hour)

		for _, test := range []struct {
			id, username, password string
			want                   policy.Cause // CauseNone: verified
		}{
			{"d:acme01:sensor:d1", "use-token-auth", device, policy.CauseNone},
			{"d:acme01:sensor:own", "use-token-auth", own, policy.CauseNone},
			{"g:acme01:hub:g1", "use-token-auth", gateway, policy.CauseNone},
			{"a:acme01:app", key, token, policy.CauseNone},
			{"A:acme01:app", key, token, policy.CauseNone},
			{"A:acme01:app:1", key, token, policy.CauseNone},

			{"d:acme01:sensor:d1", "use-token-auth", device + "x", policy.CauseBad},
			{"d:acme01:sensor:d1", "use-token-auth", strings.ToLower(device), policy.CauseBad},
			{"d:acme01:sensor:d1", "use-token-auth", own, policy.CauseBad},
			{"d:acme01:sensor:own", "use-token-auth", "correct-horsf", policy.CauseBad},
			{"d:acme01:sensor:d1", "use-token-auth", "", policy.CauseBad},
			{"d:acme01:sensor:d1", "use-token-auth", strings.Repeat("x", 65535), policy.CauseBad},
			{"a:acme01:app", key, briefToken, policy.CauseBad},
			{"d:acme01:sensor:off", "use-token-auth", "wrong", policy.CauseBad},
			{"d:acme01:sensor:off", "use-token-auth", off, policy.CauseDisabled},
			{"a:acme01:app", offKey, offToken, policy.CauseDisabled},
			{"a:acme01:app", brief, briefToken, policy.CauseExpired},
			{"d:acme01:sensor:none", "use-token-auth", device, policy.CauseUnknown},
			{"d:acme01:none:d1", "use-token-auth", device, policy.CauseUnknown},
			{"a:acme01:app", "a-acme01-aaaaaaaaaa", token, policy.CauseUnknown},
			{"d:nobody:sensor:d1", "use-token-auth", device, policy.CauseNoOrg},
			{"a:nobody:app", "a-nobody-aaaaaaaaaa", token, policy.CauseNoOrg},

			// A gateway is no device, and the reverse.
			{"d:acme01:hub:g1", "use-token-auth", gateway, policy.CauseClientID},
			{"g:acme01:sensor:d1", "use-token-auth", device, policy.CauseClientID},

			// The organisation of a key and of a client identifier must agree.
			{"a:acme01:app", otherKey, otherToken, policy.CauseMismatch},
			{"a:other9:app", key, token, policy.CauseMismatch},
			{"d:other9:sensor:d1", "use-token-auth", device, policy.CauseUnknown},

			{"d:acme01:sensor", "use-token-auth", device, policy.CauseClientID},
			{"d:acme01:sensor:d1:x", "use-token-auth", device, policy.CauseClientID},
			{"d:ACME01:sensor:d1", "use-token-auth", device, policy.CauseClientID},
			{"d:acme01:sen+or:d1", "use-token-auth", device, policy.CauseClientID},
			{"d:acme01:sensor:", "use-token-auth", device, policy.CauseClientID},
			{"d:quickstart:sensor:d1", "use-token-auth", device, policy.CauseClientID},
			{"a:acme01:app:1", key, token, policy.CauseClientID},
			{"A:acme01:app:1:2", key, token, policy.CauseClientID},
		} {
			p, err := f.connect(ctx, test.id, test.username, test.password)
			if test.want != policy.CauseNone {
				wantCause(t, err, test.want)
				if !errors.Is(err, plugins.ErrBad) || !reflect.DeepEqual(p, policy.Principal{}) {
					t.Errorf("%s: %+v, %v: want no principal and ErrBad", test.id, p, err)
				}
			} else if err != nil || p.Org != acme || p.Verifier != VerifierName || !p.Registered || p.Version == 0 || p.Incarnation == 0 {
				t.Errorf("%s: %+v, %v", test.id, p, err)
			}
			if t.Failed() {
				t.Fatalf("%s as %s", test.id, test.username)
			}
		}

		for _, notMine := range [][2]string{
			{"", "use-token-auth"},
			{"d", "use-token-auth"},
			{"x:acme01:sensor:d1", "use-token-auth"},
			{"device", key},
			{"d:acme01:sensor:d1", ""},
			{"d:acme01:sensor:d1", key},
			{"d:acme01:sensor", "somebody"},
			{"a:acme01:app", "use-token-auth"},
			{"a:acme01:app", "eyJhbGciOi"},
			{"a:acme01:app", "a-acme01-short"},
		} {
			if _, err := f.connect(ctx, notMine[0], notMine[1], device); !errors.Is(err, plugins.ErrNotMine) {
				t.Errorf("%q as %q: %v, want ErrNotMine", notMine[0], notMine[1], err)
			}
		}
	})
}

// What a verified principal says about itself.
func TestPrincipals(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		organisation := f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		made, token, err := f.CreateDevice(ctx, acme, Device{
			Type: "sensor", ID: "d1", Metadata: map[string]any{"floor": "2"},
		}, plugins.Secret{})
		f.ok(err)
		got := must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))
		want := policy.Principal{
			Org: acme, Incarnation: organisation.Incarnation, Kind: policy.KindDevice, Type: "sensor", ID: "d1",
			Metadata: map[string]any{"floor": "2"}, Verifier: "token", Registered: true,
			Credential:        policy.CredentialID{ID: "device/sensor/d1", Version: made.Incarnation},
			DeviceIncarnation: made.Incarnation, Version: made.Incarnation,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("device\n got %+v\nwant %+v", got, want)
		}

		expires := f.now().Add(time.Hour).UTC()
		key, token := f.apiKey(acme, APIKey{Roles: []string{"PD_ADMIN_APP"}, Expires: expires})
		got = must[policy.Principal](t)(f.connect(ctx, "A:acme01:app:7", key, token))
		want = policy.Principal{
			Org: acme, Incarnation: organisation.Incarnation, Kind: policy.KindApplication, App: "app", APIKey: key,
			Roles: []string{"PD_ADMIN_APP"}, Verifier: "token", Registered: true, ExpiresAt: expires,
			Credential: policy.CredentialID{ID: "apikey/" + key, Version: got.Version}, Version: got.Version,
		}
		if !reflect.DeepEqual(got, want) || got.Version <= made.Incarnation {
			t.Errorf("application\n got %+v\nwant %+v", got, want)
		}
	})
}

func TestVerifyBasic(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		f.organisation(acme)
		f.organisation(other)
		f.deviceType(acme, "hub", ClassGateway)
		f.deviceType(acme, "hub-2", ClassGateway)
		f.deviceType(acme, "sensor", ClassDevice)
		gateway, second := f.device(acme, "hub", "g-1", ""), f.device(acme, "hub-2", "g1", "")
		device := f.device(acme, "sensor", "d1", "")
		key, token := f.apiKey(acme, APIKey{})
		_, password, err := f.CreateUser(t.Context(), acme, User{Name: "ann"})
		f.ok(err)
		for _, test := range []struct {
			username, password string
			kind               policy.PrincipalKind
			cause              policy.Cause
		}{
			{key, token, policy.KindApplication, ""},
			{"ann@acme01", password, policy.KindUser, ""},
			{"g/acme01/hub/g-1", gateway, policy.KindGateway, ""},
			{"g-acme01-hub-g-1", gateway, policy.KindGateway, ""},
			{"g/acme01/hub-2/g1", second, policy.KindGateway, ""},

			{key, password, 0, policy.CauseBad},
			{key, "", 0, policy.CauseBad},
			{"ann@acme01", token, 0, policy.CauseBad},
			{"ann@other9", password, 0, policy.CauseUnknown},
			{"bob@acme01", password, 0, policy.CauseUnknown},
			{"ann@nobody", password, 0, policy.CauseNoOrg},
			{strings.Replace(key, "acme01", "other9", 1), token, 0, policy.CauseUnknown},
			{"g/acme01/sensor/d1", device, 0, policy.CauseClientID},
			{"g-acme01-hub-2-g1", second, 0, policy.CauseUnknown},
			{"", "", 0, policy.CauseUnknown},
			{"ann", password, 0, policy.CauseUnknown},
			{"ann@acme01@other9", password, 0, policy.CauseUnknown},
			{"use-token-auth", device, 0, policy.CauseUnknown},
			{"a-acme01", token, 0, policy.CauseUnknown},
			{"g/acme01", gateway, 0, policy.CauseUnknown},
		} {
			p, err := f.basic(test.username, test.password)
			switch {
			case test.cause != "":
				wantCause(t, err, test.cause)
			case err != nil || p.Kind != test.kind || p.Org != acme:
				t.Errorf("%q: %+v, %v", test.username, p, err)
			}
			if t.Failed() {
				t.Fatalf("as %q", test.username)
			}
		}
		if p, err := f.basic(key, token); err != nil || string(p.App) != key || p.APIKey != key {
			t.Errorf("an API key over HTTP is %+v, %v", p, err)
		}
	})
}

// A1: every change that takes a credential away refuses the next attempt, and
// giving it back accepts it again.
func TestA1RevokedCredentials(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		token := f.device(acme, "sensor", "d1", "")
		key, keyToken := f.apiKey(acme, APIKey{})
		device := func() error { _, err := f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token); return err }
		application := func() error { _, err := f.connect(ctx, "a:acme01:app", key, keyToken); return err }
		disable := func(off bool) {
			_, err := f.UpdateDevice(ctx, acme, "sensor", "d1", func(d *Device) error { d.Disabled = off; return nil })
			f.ok(err)
		}
		suspend := func(off bool) {
			_, err := f.UpdateOrganisation(ctx, acme, func(o *Organisation) error { o.Suspended = off; return nil })
			f.ok(err)
		}

		f.ok(device())
		disable(true)
		wantCause(t, device(), policy.CauseDisabled)
		disable(false)
		f.ok(device())
		suspend(true)
		wantCause(t, device(), policy.CauseDisabled)
		wantCause(t, application(), policy.CauseDisabled)
		suspend(false)
		f.ok(device())
		f.ok(application())

		next, err := f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.Secret{}, 0)
		f.ok(err)
		wantCause(t, device(), policy.CauseBad)
		token = next
		f.ok(device())

		f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
		wantCause(t, device(), policy.CauseUnknown)
		f.device(acme, "sensor", "d1", "")
		wantCause(t, device(), policy.CauseBad)
		f.ok(f.DeleteAPIKey(ctx, acme, key))
		wantCause(t, application(), policy.CauseUnknown)
		f.ok(f.DeleteOrganisation(ctx, acme))
		wantCause(t, device(), policy.CauseNoOrg)
	})
}

// A replaced token stays good for its grace, and says so in its expiry.
func TestGrace(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		connect := func(token string) (policy.Principal, error) {
			return f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token)
		}
		replace := func(own string, grace time.Duration) string {
			return must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.NewSecret([]byte(own)), grace))
		}
		first := f.device(acme, "sensor", "d1", "")
		opened := must[policy.Principal](t)(connect(first))
		second := replace("self-chosen", time.Hour)
		end := f.now().Add(time.Hour)

		f.advance(59 * time.Minute)
		old := must[policy.Principal](t)(connect(first))
		if !old.ExpiresAt.Equal(end) || old.Credential != opened.Credential {
			t.Errorf("within the grace: expires %v with %v, want %v with %v", old.ExpiresAt, old.Credential, end, opened.Credential)
		}
		still := must[policy.Principal](t)(f.Refresh(ctx, &opened))
		if !still.ExpiresAt.Equal(end) || still.Version <= opened.Version {
			t.Errorf("refreshed within the grace: %+v", still)
		}
		fresh := must[policy.Principal](t)(connect(second))
		if !fresh.ExpiresAt.IsZero() || fresh.Credential.Version <= old.Credential.Version {
			t.Errorf("the new token: %+v", fresh)
		}

		f.advance(time.Minute)
		_, err := connect(first)
		wantCause(t, err, policy.CauseBad)
		_, err = f.Refresh(ctx, &opened)
		wantCause(t, err, policy.CauseRevoked)
		f.ok(func() error { _, err := connect(second); return err }())

		// A replacement without grace ends the one before it, and its grace.
		third := replace("", time.Hour)
		fourth := replace("", 0)
		for _, dead := range []string{first, second, third} {
			_, err := connect(dead)
			wantCause(t, err, policy.CauseBad)
		}
		f.ok(func() error { _, err := connect(fourth); return err }())
	})
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		token := f.device(acme, "sensor", "d1", "")
		key, keyToken := f.apiKey(acme, APIKey{})
		device := must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))
		application := must[policy.Principal](t)(f.connect(ctx, "a:acme01:app", key, keyToken))

		if same := must[policy.Principal](t)(f.Refresh(ctx, &device)); !reflect.DeepEqual(same, device) {
			t.Errorf("without a change\n got %+v\nwant %+v", same, device)
		}
		_, err := f.UpdateDevice(ctx, acme, "sensor", "d1", func(d *Device) error {
			d.Metadata = map[string]any{"floor": "3"}
			return nil
		})
		f.ok(err)
		changed := must[policy.Principal](t)(f.Refresh(ctx, &device))
		if changed.Metadata["floor"] != "3" || changed.Version <= device.Version {
			t.Errorf("after an edit of metadata: %+v", changed)
		}
		if same := must[policy.Principal](t)(f.Refresh(ctx, &application)); same.Version != application.Version {
			t.Errorf("an edit of a device touched an application: %+v", same)
		}
		_, err = f.UpdateAPIKey(ctx, acme, key, func(k *APIKey) error {
			k.Roles, k.Expires = []string{"PD_ADMIN_APP"}, f.now().Add(time.Minute)
			return nil
		})
		f.ok(err)
		changed = must[policy.Principal](t)(f.Refresh(ctx, &application))
		if !slices.Equal(changed.Roles, []string{"PD_ADMIN_APP"}) || changed.ExpiresAt.IsZero() || changed.Version <= application.Version {
			t.Errorf("after an edit of roles: %+v", changed)
		}
		f.advance(time.Minute)
		_, err = f.Refresh(ctx, &changed)
		wantCause(t, err, policy.CauseExpired)

		_, err = f.UpdateOrganisation(ctx, acme, func(o *Organisation) error { o.Data = map[string]any{"x": "y"}; return nil })
		f.ok(err)
		if after := must[policy.Principal](t)(f.Refresh(ctx, &device)); after.Version <= device.Version+1 {
			t.Errorf("an edit of the organisation left version %d", after.Version)
		}

		// A25: a namesake is somebody else, with the same token, too.
		f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
		_, err = f.Refresh(ctx, &device)
		wantCause(t, err, policy.CauseRevoked)
		_, _, err = f.CreateDevice(ctx, acme, Device{Type: "sensor", ID: "d1"}, plugins.NewSecret([]byte(token)))
		f.ok(err)
		_, err = f.Refresh(ctx, &device)
		wantCause(t, err, policy.CauseRevoked)
		namesake := must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))
		if namesake.Subject() == device.Subject() {
			t.Errorf("the namesake inherits the sessions of %v", device.Subject())
		}
	})
}

// A principal of another verifier gets what the registry knows of its subject.
func TestRefreshOfOtherVerifiers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	f.device(acme, "sensor", "d1", "")
	expires := f.now().Add(time.Hour)
	known := policy.Principal{Org: acme, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "jwt", ExpiresAt: expires}
	unknown, app := known, policy.Principal{Org: acme, Kind: policy.KindApplication, App: "x", Verifier: "jwt", Roles: []string{"r"}}
	unknown.ID = "d2"
	posing := known
	posing.Kind = policy.KindGateway

	p := must[policy.Principal](t)(f.Refresh(ctx, &known))
	if !p.Registered || p.DeviceIncarnation == 0 || p.Incarnation == 0 || !p.ExpiresAt.Equal(expires) {
		t.Errorf("a registered device: %+v", p)
	}
	if u := must[policy.Principal](t)(f.Refresh(ctx, &unknown)); u.Registered || u.Incarnation != p.Incarnation {
		t.Errorf("an unregistered device: %+v", u)
	}
	if a := must[policy.Principal](t)(f.Refresh(ctx, &app)); a.Registered || !slices.Equal(a.Roles, []string{"r"}) {
		t.Errorf("an application: %+v", a)
	}
	_, err := f.Refresh(ctx, &posing)
	wantCause(t, err, policy.CauseClientID)

	_, err = f.UpdateDevice(ctx, acme, "sensor", "d1", func(d *Device) error { d.Disabled = true; return nil })
	f.ok(err)
	_, err = f.Refresh(ctx, &p)
	wantCause(t, err, policy.CauseDisabled)
	_, err = f.Refresh(ctx, &known)
	wantCause(t, err, policy.CauseDisabled)
	f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
	_, err = f.Refresh(ctx, &p)
	wantCause(t, err, policy.CauseRevoked)

	// A25: namesakes of the device, and of the organisation, are others.
	f.device(acme, "sensor", "d1", "")
	_, err = f.Refresh(ctx, &p)
	wantCause(t, err, policy.CauseRevoked)
	app = must[policy.Principal](t)(f.Refresh(ctx, &app))
	f.ok(f.DeleteOrganisation(ctx, acme))
	_, err = f.Refresh(ctx, &app)
	wantCause(t, err, policy.CauseNoOrg)
	f.organisation(acme)
	_, err = f.Refresh(ctx, &app)
	wantCause(t, err, policy.CauseRevoked)

	f.advance(time.Hour)
	_, err = f.Refresh(ctx, &unknown)
	wantCause(t, err, policy.CauseExpired)
	_, err = f.Refresh(ctx, &policy.Principal{})
	wantCause(t, err, policy.CauseNoOrg)
}

// A record that cannot be read refuses, and so does a store that fails.
func TestUnreadableRefuses(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	ctx := t.Context()
	o := f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	token := f.device(acme, "sensor", "d1", "")
	connect := func() error { // as if nothing had been read before
		f.cache.guarded.records = nil
		_, err := f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token)
		return err
	}
	f.ok(connect())

	scope := store.In("acme01", o.Incarnation)
	for _, key := range []store.Key{
		directoryKey(acme), organisationKey(scope), deviceKey(scope, "sensor", "d1"), deviceCredential("sensor", "d1").key(scope),
	} {
		good := must[[]byte](t)(faulty.Get(key))
		for _, bad := range [][]byte{nil, {}, {2}, {formatJSON}, good[:len(good)-1], append(good[:len(good):len(good)], "{}"...)} {
			f.ok(store.CommitWait(ctx, faulty, store.Put(key, bad)))
			if err := connect(); plugins.CauseOf(err) != policy.CauseUnavailable {
				t.Errorf("%v holding %q: %v, want it unavailable", key, bad, err)
			}
		}
		f.ok(store.CommitWait(ctx, faulty, store.Put(key, good)))
		f.ok(connect())
	}

	faulty.FailReads(errors.New("disk gone"))
	wantCause(t, connect(), policy.CauseUnavailable)
	faulty.FailReads(nil)
	f.ok(connect())
}

func TestEndedContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(acme)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.CreateType(ctx, acme, DeviceType{ID: "sensor"})
	refused(t, err, policy.KindUnavailable)
	_, err = f.Type(t.Context(), acme, "sensor")
	refused(t, err, policy.KindNotFound)
}
