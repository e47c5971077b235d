package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// claim creates a claim of sensors that ends in an hour, and returns its token.
func (f *fixture) claim(org policy.OrgID, c Claim) (Claim, string) {
	f.t.Helper()
	if c.Type == "" {
		c.Type = "sensor"
	}
	if c.Count == 0 {
		c.Count = 1
	}
	if c.Expires.IsZero() {
		c.Expires = f.now().Add(time.Hour)
	}
	made, token, err := f.CreateClaim(f.t.Context(), org, c)
	f.ok(err)
	return made, token
}

// show verifies the token of a claim as what a device of acme shows.
func (f *fixture) show(id, token string) (policy.Principal, error) {
	return f.showAs("d:acme01:sensor:"+id, claimUser, token)
}

func (f *fixture) showAs(client, username, token string) (policy.Principal, error) {
	return f.ClaimVerifier().Verify(f.t.Context(), &plugins.Credential{
		Client:   policy.Client{ID: policy.ClientID(client), Username: username, Listener: "mqtts"},
		Password: plugins.NewSecret([]byte(token)), HasPassword: true,
	})
}

// provision does all that a device does with a claim, and returns its own token.
func (f *fixture) provision(id, token string) string {
	f.t.Helper()
	p := must[policy.Principal](f.t)(f.show(id, token))
	if !p.Registered {
		must[Device](f.t)(f.SpendClaim(f.t.Context(), &p))
		p = must[policy.Principal](f.t)(f.Refresh(f.t.Context(), &p))
	}
	return must[string](f.t)(f.HandOver(f.t.Context(), &p))
}

// factory is where claims are made: two organisations and their types.
func (f *fixture) factory() {
	f.t.Helper()
	f.organisation(acme)
	f.organisation(other)
	f.deviceType(acme, "sensor", ClassDevice)
	f.deviceType(acme, "motor", ClassDevice)
	f.deviceType(acme, "hub", ClassGateway)
	f.deviceType(other, "sensor", ClassDevice)
}

// Whom a claim is for, and for whom it is not.
func TestClaimVerifier(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		f.factory()
		f.device(acme, "sensor", "l1-old", "")
		_, theirs := f.claim(other, Claim{})
		_, token := f.claim(acme, Claim{Prefix: "l1-", Count: 2})
		ended, endedToken := f.claim(acme, Claim{Expires: f.now().Add(time.Minute)})
		gone, goneToken := f.claim(acme, Claim{})
		f.ok(f.DeleteClaim(t.Context(), acme, gone.ID))
		f.advance(time.Minute)

		for _, test := range []struct {
			id, username, password string
			want                   policy.Cause // CauseNone: verified
		}{
			{"d:acme01:sensor:l1-1", claimUser, token, policy.CauseNone},
			{"d:acme01:sensor:l1-1", claimUser, token[:len(token)-1] + "?", policy.CauseBad},
			{"d:acme01:sensor:l1-1", claimUser, token + "x", policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, "", policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, strings.Repeat("x", 65535), policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, strings.Replace(token, "-", "/", 1), policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, theirs, policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, goneToken, policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", claimUser, endedToken, policy.CauseExpired},
			{"d:other9:sensor:l1-1", claimUser, token, policy.CauseUnknown},
			{"d:nobody:sensor:l1-1", claimUser, token, policy.CauseNoOrg},
			{"d:acme01:motor:l1-1", claimUser, token, policy.CauseMismatch},
			{"d:acme01:hub:l1-1", claimUser, token, policy.CauseMismatch},
			{"d:acme01:sensor:l2-1", claimUser, token, policy.CauseMismatch},
			{"d:acme01:sensor:l1-old", claimUser, token, policy.CauseRevoked},
			{"d:acme01:sensor:l1-/..", claimUser, token, policy.CauseClientID},
			{"d:acme01:sensor", claimUser, token, policy.CauseClientID},
			{"g:acme01:hub:l1-1", claimUser, token, policy.CauseUnknown}, // not mine
			{"a:acme01:l1-1", claimUser, token, policy.CauseUnknown},
			{"l1-1", claimUser, token, policy.CauseUnknown},
			{"d:acme01:sensor:l1-1", TokenUser, token, policy.CauseUnknown},
		} {
			p, err := f.showAs(test.id, test.username, test.password)
			if test.want != policy.CauseNone {
				wantCause(t, err, test.want)
				continue
			}
			f.ok(err)
			if p.Kind != policy.KindDevice || p.Registered || p.Verifier != ClaimVerifierName || p.Claims["typeId"] != "sensor" || p.Claims["deviceIdPrefix"] != "l1-" || p.ExpiresAt.IsZero() {
				t.Errorf("principal %+v", p)
			}
		}
		if found := must[Claim](t)(f.Claim(t.Context(), acme, ended.ID)); !found.EndedAt(f.now()) {
			t.Errorf("claim %+v has not ended", found)
		}
		// The token of a claim is no other secret's, and the other way about.
		_, err := f.connect(t.Context(), "d:acme01:sensor:l1-old", TokenUser, token)
		wantCause(t, err, policy.CauseBad)
	})
}

// A device is handed a token until it has used one; then the claim is not for it.
func TestClaimIsHandedOver(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.factory()
		made, token := f.claim(acme, Claim{Count: 2, CreatedBy: "a-acme01-0123456789"})
		first := f.provision("d1", token)
		second := f.provision("d1", token)
		if left := must[Claim](t)(f.Claim(ctx, acme, made.ID)).Left; left != 1 {
			t.Errorf("%d left after one device", left)
		}
		if d := must[Device](t)(f.Device(ctx, acme, "sensor", "d1")); d.CreatedBy != "claim/"+string(made.ID) {
			t.Errorf("created by %q", d.CreatedBy)
		}
		_, err := f.connect(ctx, "d:acme01:sensor:d1", TokenUser, first)
		wantCause(t, err, policy.CauseBad)

		shown := must[policy.Principal](t)(f.show("d1", token))
		f.changes()
		must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", TokenUser, second))
		told := f.changes()
		if len(told) != 1 || told[0].Kind != CredentialReplaced || told[0].Credential != shown.Credential {
			t.Errorf("told of %+v, want the end of %v", told, shown.Credential)
		}
		must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", TokenUser, second))
		if told := f.changes(); len(told) != 0 {
			t.Errorf("told of %+v again", told)
		}
		_, err = f.show("d1", token)
		wantCause(t, err, policy.CauseRevoked)
		_, err = f.Refresh(ctx, &shown)
		wantCause(t, err, policy.CauseRevoked)
		_, err = f.HandOver(ctx, &shown)
		refused(t, err, policy.KindForbidden)

		// A token that an administrator sets ends it, too, and so does a deletion.
		f.provision("d2", token)
		shown = must[policy.Principal](t)(f.show("d2", token))
		must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d2", plugins.Secret{}, 0))
		_, err = f.HandOver(ctx, &shown)
		refused(t, err, policy.KindForbidden)
		f.ok(f.DeleteDevice(ctx, acme, "sensor", "d2"))
		_, err = f.show("d2", token) // the claim is spent on it all the same
		wantCause(t, err, policy.CauseRevoked)
		f.device(acme, "sensor", "d2", "") // a namesake
		_, err = f.HandOver(ctx, &shown)
		refused(t, err, policy.KindForbidden)
		if devices, tokens := f.Claimed(); devices != 2 || tokens != 3 {
			t.Errorf("%d devices and %d tokens are counted", devices, tokens)
		}
	})
}

// A claim that is taken away, ends or is suspended between two steps is good for none
// of those that follow.
func TestClaimIsHeldAgainstTheRegistryAtEachStep(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f *fixture, c Claim){
		"claim deleted":        func(f *fixture, c Claim) { f.ok(f.DeleteClaim(f.t.Context(), acme, c.ID)) },
		"claim over":           func(f *fixture, _ Claim) { f.advance(time.Hour) },
		"organisation deleted": func(f *fixture, _ Claim) { f.ok(f.DeleteOrganisation(f.t.Context(), acme)); f.organisation(acme) },
		"organisation suspended": func(f *fixture, _ Claim) {
			must[Organisation](f.t)(f.UpdateOrganisation(f.t.Context(), acme, func(o *Organisation) error { o.Suspended = true; return nil }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachStore(t, func(t *testing.T, f *fixture) {
				ctx := t.Context()
				f.factory()
				c, token := f.claim(acme, Claim{Count: 3})
				fresh := must[policy.Principal](t)(f.show("d1", token))
				f.provision("d2", token)
				known := must[policy.Principal](t)(f.show("d2", token))
				f.changes()
				end(f, c)
				if name == "claim deleted" {
					if told := f.changes(); len(told) != 1 || told[0].Kind != ClaimDeleted || told[0].Claim != c.ID {
						t.Errorf("told of %+v", told)
					}
				}
				for _, p := range []*policy.Principal{&fresh, &known} {
					if _, err := f.Refresh(ctx, p); !errors.Is(err, plugins.ErrBad) {
						t.Errorf("refresh of %s: %v", p.ID, err)
					}
				}
				_, err := f.SpendClaim(ctx, &fresh)
				refused(t, err, policy.KindForbidden)
				_, err = f.HandOver(ctx, &known)
				refused(t, err, policy.KindForbidden)
				if name != "organisation deleted" {
					if _, err := f.Device(ctx, acme, "sensor", "d1"); policy.KindOf(err) != policy.KindNotFound {
						t.Errorf("the device is there: %v", err)
					}
				}
			})
		})
	}
}

// However many devices show a claim at once, and however many connections are one
// device: a claim is spent on as many as it says.
func TestClaimIsSpentOnceForEachDevice(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.factory()
		const count, devices, tries = 5, 20, 4
		made, token := f.claim(acme, Claim{Count: count})
		var spent, exists, full atomic.Int32
		var wg sync.WaitGroup
		for n := range devices * tries {
			wg.Go(func() {
				p, err := f.show(fmt.Sprint("d", n%devices), token)
				if err != nil || p.Registered {
					return // it lost before it began
				}
				switch _, err := f.SpendClaim(t.Context(), &p); policy.KindOf(err) {
				case policy.KindExists:
					exists.Add(1)
				case policy.KindForbidden:
					full.Add(1)
				default:
					if err == nil {
						spent.Add(1)
					}
				}
			})
		}
		wg.Wait()
		found := must[[]Device](t)(func() ([]Device, error) {
			list, _, err := f.Devices(ctx, acme, "sensor", Page{Limit: maxPage})
			return list, err
		}())
		left := must[Claim](t)(f.Claim(ctx, acme, made.ID)).Left
		if spent.Load() != count || len(found) != count || left != 0 {
			t.Errorf("%d spent, %d devices, %d left; want %d", spent.Load(), len(found), left, count)
		}
	})
}

// What cannot be a claim.
func TestCreateClaim(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.factory()
		soon := f.now().Add(time.Hour)
		for name, test := range map[string]struct {
			claim Claim
			want  policy.Kind
		}{
			"no type":         {Claim{Count: 1, Expires: soon}, policy.KindInvalid},
			"unknown type":    {Claim{Type: "ghost", Count: 1, Expires: soon}, policy.KindNotFound},
			"gateways":        {Claim{Type: "hub", Count: 1, Expires: soon}, policy.KindInvalid},
			"no count":        {Claim{Type: "sensor", Expires: soon}, policy.KindInvalid},
			"too many":        {Claim{Type: "sensor", Count: 10_001, Expires: soon}, policy.KindInvalid},
			"no end":          {Claim{Type: "sensor", Count: 1}, policy.KindInvalid},
			"over":            {Claim{Type: "sensor", Count: 1, Expires: f.now()}, policy.KindInvalid},
			"too long":        {Claim{Type: "sensor", Count: 1, Expires: f.now().Add(367 * 24 * time.Hour)}, policy.KindInvalid},
			"prefix":          {Claim{Type: "sensor", Count: 1, Expires: soon, Prefix: "a/b"}, policy.KindInvalid},
			"control in text": {Claim{Type: "sensor", Count: 1, Expires: soon, Comment: "\x00"}, policy.KindInvalid},
		} {
			if _, _, err := f.CreateClaim(ctx, acme, test.claim); policy.KindOf(err) != test.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		c, token := f.claim(acme, Claim{Count: 10_000})
		if !strings.HasPrefix(token, string(c.ID)+"-") || len(token) != claimIDLength+1+generatedToken {
			t.Errorf("a token of %d characters", len(token))
		}
		f.ok(f.DeleteType(ctx, acme, "sensor"))
		if _, err := f.Claim(ctx, acme, c.ID); policy.KindOf(err) != policy.KindNotFound {
			t.Errorf("the claim of a deleted type: %v", err)
		}
	})
}

func TestClaimsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.factory()
	brief, _ := f.claim(acme, Claim{Expires: f.now().Add(time.Minute)})
	for range maxClaims - 1 {
		f.claim(acme, Claim{})
	}
	_, _, err := f.CreateClaim(t.Context(), acme, Claim{Type: "sensor", Count: 1, Expires: f.now().Add(time.Hour)})
	refused(t, err, policy.KindConflict)
	f.advance(2 * time.Minute)
	f.claim(acme, Claim{}) // what is over makes room
	_, err = f.Claim(t.Context(), acme, brief.ID)
	refused(t, err, policy.KindNotFound)
}

// An export has claims with their hashes, and none of their tokens; where it comes to,
// they are good for what was left of them.
func TestClaimsMove(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.factory()
		made, token := f.claim(acme, Claim{Count: 2, Comment: "line 1"})
		f.provision("d1", token)
		shown := must[policy.Principal](t)(f.show("d1", token))
		var file bytes.Buffer
		if _, err := f.Export(ctx, acme, &file, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		_, secret := splitClaim(plugins.NewSecret([]byte(token)))
		if bytes.Contains(file.Bytes(), secret) {
			t.Error("the export has the token")
		}
		f.ok(f.DeleteOrganisation(ctx, acme))
		if _, err := f.Import(ctx, bytes.NewReader(file.Bytes()), ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		if back := must[Claim](t)(f.Claim(ctx, acme, made.ID)); back.Left != 1 || back.Comment != "line 1" || back.Incarnation == made.Incarnation {
			t.Errorf("claim %+v", back)
		}
		if _, err := f.HandOver(ctx, &shown); policy.KindOf(err) != policy.KindForbidden {
			t.Errorf("somebody of before: %v", err)
		}
		own := f.provision("d1", token) // it has not used its own yet
		f.provision("d2", token)
		_, err := f.show("d3", token)
		wantCause(t, err, policy.CauseRevoked)
		must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", TokenUser, own))
	})
}

// failing is a store that takes no writes while it is full.
type failing struct {
	store.Store
	full atomic.Bool
}

var errFull = errors.New("the disk is full")

func (s *failing) Commit(ops []store.Op, done func(error)) {
	if s.full.Load() {
		done(errFull)
		return
	}
	s.Store.Commit(ops, done)
}

func (s *failing) CommitSync(ops []store.Op, done func(error)) {
	if s.full.Load() {
		done(errFull)
		return
	}
	s.Store.CommitSync(ops, done)
}

// A write that fails spends nothing, makes no device and voids no token; one that
// does not is one commit.
func TestClaimIsSpentInOneCommit(t *testing.T) {
	t.Parallel()
	s := &failing{Store: stores[0].open(t)}
	f := newFixture(t, s)
	f.factory()
	made, token := f.claim(acme, Claim{Count: 2})
	p := must[policy.Principal](t)(f.show("d1", token))
	s.full.Store(true)
	if _, err := f.SpendClaim(t.Context(), &p); !errors.Is(err, errFull) {
		t.Errorf("spent on a full disk: %v", err)
	}
	if left := must[Claim](t)(f.Claim(t.Context(), acme, made.ID)).Left; left != 2 {
		t.Errorf("%d left", left)
	}
	_, err := f.Device(t.Context(), acme, "sensor", "d1")
	refused(t, err, policy.KindNotFound)
	s.full.Store(false)

	must[Device](t)(f.SpendClaim(t.Context(), &p))
	h, err := f.homeOf(acme)
	f.ok(err)
	for _, key := range []store.Key{deviceKey(h.scope, "sensor", "d1"), deviceCredential("sensor", "d1").key(h.scope), claimKey(h.scope, made.ID)} {
		if found := must[stamped[any]](t)(load[any](f.store, key)); found.Stamp != f.writer.last {
			t.Errorf("%v is of write %d, want %d", key, found.Stamp, f.writer.last)
		}
	}
	own := f.provision("d1", token)
	p = must[policy.Principal](t)(f.show("d1", token))
	s.full.Store(true)
	if _, err := f.HandOver(t.Context(), &p); !errors.Is(err, errFull) {
		t.Errorf("handed over on a full disk: %v", err)
	}
	// Nor does a device get in while nobody can note that the claim is not for it.
	_, err = f.connect(t.Context(), "d:acme01:sensor:d1", TokenUser, own)
	wantCause(t, err, policy.CauseUnavailable)
	s.full.Store(false)
	must[policy.Principal](t)(f.connect(t.Context(), "d:acme01:sensor:d1", TokenUser, own))
}

// Whatever a password is, it names a claim or it does not.
func FuzzSplitClaim(f *testing.F) {
	f.Add("k3f9a0b2c1-ABCDEFGHIJKLMNOPQRSTUVWX")
	f.Add("k3f9a0b2c1/ABCDEFGHIJKLMNOPQRSTUVWX")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, secret := splitClaim(plugins.NewSecret([]byte(text)))
		if (id == "") != (secret == nil) || id != "" && string(id)+"-"+string(secret) != text {
			t.Errorf("%q is %q and %d characters", text, id, len(secret))
		}
		named := policy.CredentialID{ID: claimedCredential(id, DeviceName{"sensor", "d1"})}
		if back, ok := ClaimOf(named); id != "" && (!ok || back != id) {
			t.Errorf("%q is read back as %q", id, back)
		}
		_, _ = ClaimOf(policy.CredentialID{ID: text})
	})
}
