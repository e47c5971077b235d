package registry

import (
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/storetest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// left counts the keys of one incarnation.
func left(t *testing.T, s store.Reader, org policy.OrgID, incarnation uint64) (n int) {
	t.Helper()
	err := s.Scan(store.In(org.String(), incarnation).All(), store.Key{}, func(store.Key, []byte) bool { n++; return true })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func graves(t *testing.T, s store.Reader) (n int) {
	t.Helper()
	if err := s.Scan(tombstones(), store.Key{}, func(store.Key, []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A25: a namesake starts empty, and nothing of the old organisation stays.
func TestA25DeletedOrganisation(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		seed := must[Seed](t)(f.SeedOrganisation(ctx, acme, ""))
		f.deviceType(acme, "sensor", ClassDevice)
		token := f.device(acme, "sensor", "d1", "")
		opened := must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))
		bystander := must[Seed](t)(f.SeedOrganisation(ctx, other, ""))

		f.ok(f.DeleteOrganisation(ctx, acme))
		again := f.organisation(acme)
		if again.Incarnation <= seed.Organisation.Incarnation {
			t.Errorf("incarnation %d after %d", again.Incarnation, seed.Organisation.Incarnation)
		}
		if types, _, err := f.Types(ctx, acme, Page{}); err != nil || len(types) != 0 {
			t.Errorf("types of the namesake: %v, %v", types, err)
		}
		if keys, _, err := f.APIKeys(ctx, acme, Page{}); err != nil || len(keys) != 0 {
			t.Errorf("API keys of the namesake: %v, %v", keys, err)
		}
		_, err := f.Refresh(ctx, &opened)
		wantCause(t, err, policy.CauseRevoked)
		_, err = f.basic(seed.APIKey.Key, seed.APIToken)
		wantCause(t, err, policy.CauseUnknown)

		// A session that is being closed may still write something.
		late := store.In(acme.String(), seed.Organisation.Incarnation).Key(store.KindSession, "late")
		f.ok(store.CommitWait(ctx, f.store, store.Put(late, nil)))
		f.reopen()
		f.background.Wait()
		if n := left(t, f.store, acme, seed.Organisation.Incarnation); n != 0 {
			t.Errorf("%d keys of the deleted organisation are left", n)
		}
		if n := graves(t, f.store); n != 0 {
			t.Errorf("%d marks are left", n)
		}
		if n := left(t, f.store, acme, again.Incarnation); n != 1 {
			t.Errorf("the namesake has %d keys, want its record", n)
		}
		if _, err := f.basic(bystander.APIKey.Key, bystander.APIToken); err != nil {
			t.Errorf("another organisation lost its key: %v", err)
		}
	})
}

// A deletion that a crash interrupted is finished at the next Open.
func TestInterruptedDeletion(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		made := f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "sensor", "d1", "")

		// What is on disk when the process dies right after the commit.
		f.ok(store.CommitWait(ctx, f.store,
			store.Delete(directoryKey(acme)),
			store.Put(tombstoneKey("acme01", made.Incarnation), nil)))
		if n := left(t, f.store, acme, made.Incarnation); n < 4 {
			t.Fatalf("only %d keys before the restart", n)
		}
		f.reopen()
		f.background.Wait()
		if n := left(t, f.store, acme, made.Incarnation) + graves(t, f.store); n != 0 {
			t.Errorf("%d keys are left after the restart", n)
		}
	})
}

// Numbers are never used twice, whatever is deleted and however often the
// registry is opened.
func TestNumbersAreNeverReused(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		var last uint64
		for range 3 {
			o := f.organisation(acme)
			f.deviceType(acme, "sensor", ClassDevice)
			d, _, err := f.CreateDevice(t.Context(), acme, Device{Type: "sensor", ID: "d1"}, plugins.Secret{})
			f.ok(err)
			if o.Incarnation <= last || d.Incarnation <= o.Incarnation {
				t.Errorf("incarnations %d and %d after %d", o.Incarnation, d.Incarnation, last)
			}
			last = d.Incarnation
			f.ok(f.DeleteOrganisation(t.Context(), acme))
			f.reopen()
		}
	})
}

// A counter that cannot be read must not start again at one.
func TestUnreadableCounter(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	defer faulty.Close()
	if err := store.CommitWait(t.Context(), faulty, store.Put(counterKey(), []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(faulty, Options{}); err == nil {
		r.Close()
		t.Error("opened with an unreadable counter")
	}
}
