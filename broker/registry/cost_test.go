package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// occupied takes every place of the gate, so that a slow hash is unavailable to
// whoever does not want to wait.
func (f *fixture) occupied() (release func()) {
	f.t.Helper()
	var leave []func()
	for i := range cap(f.gate.common) {
		l, err := f.gate.enter(f.t.Context(), orgID("busy"+string(rune('0'+i))))
		f.ok(err)
		leave = append(leave, l)
	}
	return func() {
		for _, l := range leave {
			l()
		}
	}
}

// Inside one organisation, a failed check of a device costs the same whoever it
// is for: a slow hash if the organisation ever had a self-chosen token, else
// none. Success costs only what it needs, and a slow one only once.
func TestCostOfChecks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	mixed, plain := acme, other
	var generated, own string
	for _, org := range []policy.OrgID{mixed, plain} {
		f.organisation(org)
		f.deviceType(org, "sensor", ClassDevice)
		generated = f.device(org, "sensor", "generated", "")
	}
	plainToken := generated
	generated = must[string](t)(f.ReplaceDeviceToken(t.Context(), mixed, "sensor", "generated", plugins.Secret{}, 0))
	own = f.device(mixed, "sensor", "own", "self-chosen")
	f.device(mixed, "sensor", "gone", "self-chosen")
	f.ok(f.DeleteDevice(t.Context(), mixed, "sensor", "gone"))
	key, _ := f.apiKey(mixed, APIKey{})
	f.device(mixed, "sensor", "seen", "seen-before")
	must[policy.Principal](t)(f.connect(t.Context(), "d:acme01:sensor:seen", "use-token-auth", "seen-before"))

	release := f.occupied()
	now, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name, id, username, token string
		slow                      bool
	}{
		{"generated, wrong", "d:acme01:sensor:generated", "use-token-auth", "wrong", true},
		{"own, wrong", "d:acme01:sensor:own", "use-token-auth", "wrong", true},
		{"own, wrong but once seen elsewhere", "d:acme01:sensor:own", "use-token-auth", "seen-before", true},
		{"unknown", "d:acme01:sensor:none", "use-token-auth", "wrong", true},
		{"unknown gateway", "g:acme01:none:none", "use-token-auth", "wrong", true},
		{"deleted", "d:acme01:sensor:gone", "use-token-auth", own, true},
		{"own, for the first time", "d:acme01:sensor:own", "use-token-auth", own, true},
		{"own, seen before", "d:acme01:sensor:seen", "use-token-auth", "seen-before", false},
		{"generated", "d:acme01:sensor:generated", "use-token-auth", generated, false},
		{"API key, wrong", "a:acme01:app", key, "wrong", false},
		{"API key, unknown", "a:acme01:app", "a-acme01-0123456789", "wrong", false},
		{"only generated, right", "d:other9:sensor:generated", "use-token-auth", plainToken, false},
		{"only generated, wrong", "d:other9:sensor:generated", "use-token-auth", "wrong", false},
		{"only generated, unknown", "d:other9:sensor:none", "use-token-auth", "wrong", false},
		{"no organisation", "d:nobody:sensor:none", "use-token-auth", "wrong", false},
	} {
		_, err := f.connect(now, test.id, test.username, test.token)
		if slow := plugins.CauseOf(err) == policy.CauseUnavailable; slow != test.slow {
			t.Errorf("%s: asked for a slow hash: %v (%v), want %v", test.name, slow, err, test.slow)
		}
	}
	release()
	must[policy.Principal](t)(f.connect(t.Context(), "d:acme01:sensor:own", "use-token-auth", own))
}

// A token that was remembered is not good once it is replaced, nor after the
// device is gone.
func TestMemoryNeverOutlivesTheRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	own := f.device(acme, "sensor", "d1", "self-chosen")
	connect := func() error { _, err := f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", own); return err }
	f.ok(connect())
	must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.Secret{}, 0))
	wantCause(t, connect(), policy.CauseBad)
	must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.NewSecret([]byte(own)), 0))
	f.ok(connect())
	f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
	wantCause(t, connect(), policy.CauseUnknown)
}

// A token that is being checked while its device is deleted yields no
// principal, although it matches.
func TestDeletionDuringASlowCheck(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(ctx context.Context, f *fixture) error{
		"deleted": func(ctx context.Context, f *fixture) error { return f.DeleteDevice(ctx, acme, "sensor", "d1") },
		"replaced": func(ctx context.Context, f *fixture) error {
			_, err := f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.Secret{}, 0)
			return err
		},
		"suspended": func(ctx context.Context, f *fixture) error {
			_, err := f.UpdateOrganisation(ctx, acme, func(o *Organisation) error { o.Suspended = true; return nil })
			return err
		},
		"organisation deleted": func(ctx context.Context, f *fixture) error { return f.DeleteOrganisation(ctx, acme) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, memstore.New())
				f.organisation(acme)
				f.deviceType(acme, "sensor", ClassDevice)
				own := f.device(acme, "sensor", "d1", "self-chosen")
				release := f.occupied()
				answer := make(chan error, 1)
				go func() {
					_, err := f.connect(t.Context(), "d:acme01:sensor:d1", "use-token-auth", own)
					answer <- err
				}()
				synctest.Wait() // it has read the credential and waits for its place
				f.ok(remove(t.Context(), f))
				release()
				if err := <-answer; !errors.Is(err, plugins.ErrBad) {
					t.Errorf("%v, want it refused", err)
				}
			})
		})
	}
}

// However many checks one organisation has waiting, another one's is served
// after few of them.
func TestGateIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		var served []string
		hold := make(chan struct{})
		enter := func(org policy.OrgID) {
			go func() {
				leave, err := g.enter(t.Context(), org)
				if err != nil {
					t.Error(err)
					return
				}
				<-hold // one by one, so served needs no lock
				served = append(served, org.String())
				leave()
			}()
			synctest.Wait()
		}
		for range 10 {
			enter(acme)
		}
		enter(other)
		for range 11 {
			hold <- struct{}{}
			synctest.Wait()
		}
		if at := slices.Index(served, other.String()); at < 0 || at > 1 {
			t.Errorf("served %s", strings.Join(served, " "))
		}
		if len(g.waiting.lines) != 0 {
			t.Errorf("%d lines are kept although nobody waits", len(g.waiting.lines))
		}
	})
}

func TestGateGivesUp(t *testing.T) {
	t.Parallel()
	g := newGate(1)
	leave := must[func()](t)(g.enter(t.Context(), acme))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, org := range []policy.OrgID{acme, other} {
		if _, err := g.enter(ended, org); !errors.Is(err, context.Canceled) {
			t.Errorf("entered a full gate: %v", err)
		}
	}
	leave()
	must[func()](t)(g.enter(t.Context(), other))()
	if len(g.waiting.lines) != 0 {
		t.Errorf("%d lines are kept although nobody waits", len(g.waiting.lines))
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := newMemory(8)
	number := func(n int) mark { return m.mark("device/t/d", uint64(n), []byte("token")) }
	if m.has(number(0)) {
		t.Error("an empty memory knows something")
	}
	for n := range 100 {
		m.add(number(n))
		if !m.has(number(n)) || n > 0 && !m.has(number(n-1)) {
			t.Errorf("%d was forgotten at once", n)
		}
		if size := len(m.known.young) + len(m.known.old); size > 8 {
			t.Fatalf("%d entries, at most 8", size)
		}
	}
	if m.has(number(50)) {
		t.Error("nothing is ever forgotten")
	}

	marks := map[mark]string{}
	for _, c := range []struct {
		id      credentialID
		version uint64
		token   string
	}{{"a", 1, "bc"}, {"ab", 1, "c"}, {"a", 2, "bc"}, {"b", 1, "bc"}, {"a", 1, ""}} {
		k := m.mark(c.id, c.version, []byte(c.token))
		if before, taken := marks[k]; taken {
			t.Errorf("%v and %s share a mark", c, before)
		}
		marks[k] = string(c.id)
	}
	if newMemory(8).mark("a", 1, []byte("bc")) == m.mark("a", 1, []byte("bc")) {
		t.Error("two memories share their key")
	}
}
