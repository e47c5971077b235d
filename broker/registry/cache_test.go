package registry

import (
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Whoever has seen a write end never reads the record before it, however many
// read it meanwhile.
func TestCacheNeverOutlivesAWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	f.device(acme, "sensor", "d1", "")
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = f.DeviceFacts(ctx, acme, "sensor", "d1")
				}
			}
		})
	}
	for i := range 200 {
		want := []string{"enabled", "disabled"}[i%2]
		_, err := f.UpdateDevice(ctx, acme, "sensor", "d1", func(d *Device) error { d.Disabled = want == "disabled"; return nil })
		f.ok(err)
		if facts := must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "d1")); facts.Status != want {
			t.Fatalf("after edit %d it is %v, want %v", i, facts.Status, want)
		}
	}
	close(done)
	readers.Wait()
}

// The memory of it has a bound in bytes: records with much data do not get the
// room of as many small ones.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	for _, cost := range []int{cacheEntry, 200 << 10} {
		var c cache
		for i := range 2 * cacheMost / cost {
			c.remember(cached{as: i}, remembered{i, cost}, 0)
			if c.guarded.bytes > cacheMost {
				t.Fatalf("%d records cost %d bytes", len(c.guarded.records), c.guarded.bytes)
			}
		}
		if got, least := len(c.guarded.records), cacheMost/cost*3/4; got < least {
			t.Errorf("only %d records of %d bytes are left, want %d", got, cost, least)
		}
		sum := 0
		for _, r := range c.guarded.records {
			sum += r.cost
		}
		if sum != c.guarded.bytes {
			t.Errorf("the records cost %d bytes, counted %d", sum, c.guarded.bytes)
		}
	}
}

// Every type that is remembered is forgotten by a write.
func TestWritesForgetEveryDecoding(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	seed := must[Seed](t)(f.SeedOrganisation(ctx, acme, ""))
	f.deviceType(acme, "sensor", ClassDevice)
	must[Role](t)(f.CreateRole(ctx, acme, Role{ID: "fleet", Permissions: []string{"devices.view"}}))
	must[[]string](t)(f.RolePermissions(ctx, acme, []string{"fleet"}))
	token := f.device(acme, "sensor", "d1", "")
	f.device(acme, "sensor", "d2", "") // reads the type through the cache
	must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", token))
	must[policy.Principal](t)(f.basic(seed.APIKey.Key, seed.APIToken))
	must[policy.Principal](t)(f.basic("admin@acme01", seed.AdminPassword))
	must[*policy.Organisation](t)(f.OrganisationFacts(ctx, acme))

	var ops []store.Op
	for name := range f.cache.guarded.records {
		ops = append(ops, store.Delete(name.key))
	}
	if len(ops) < 10 {
		t.Fatalf("only %d records are remembered", len(ops))
	}
	f.cache.forget(ops)
	if left := len(f.cache.guarded.records); left != 0 || f.cache.guarded.bytes != 0 {
		t.Errorf("%d records of %d bytes are left: %v", left, f.cache.guarded.bytes, f.cache.guarded.records)
	}
}
