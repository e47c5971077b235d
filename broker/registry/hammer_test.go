package registry

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// A18: once a call that takes a credential away has returned, no verification
// that begins afterwards succeeds, and no principal from before stands.
func TestA18RevocationUnderLoad(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		const rounds, clients = 6, 3
		var accepted atomic.Int64
		for round := range rounds {
			id := policy.ID(fmt.Sprintf("d%d", round))
			own := ""
			if round%2 == 0 {
				own = "self-chosen"
			}
			token := f.device(acme, "sensor", id, own)
			var revoked atomic.Bool
			var ready, done sync.WaitGroup
			ready.Add(clients)
			for range clients {
				done.Go(func() {
					once := sync.OnceFunc(ready.Done)
					defer once()
					for range 100_000 {
						before := revoked.Load()
						p, err := f.connect(ctx, "d:acme01:sensor:"+string(id), "use-token-auth", token)
						if err == nil && before {
							t.Errorf("%s was verified after it was taken away", id)
							return
						}
						if err == nil {
							accepted.Add(1)
							if before = revoked.Load(); before {
								if _, err := f.Refresh(ctx, &p); err == nil {
									t.Errorf("a principal of %s still stands", id)
								}
							}
						}
						once()
						if before {
							return
						}
					}
				})
			}
			ready.Wait()
			switch round % 3 {
			case 0:
				f.ok(f.DeleteDevice(ctx, acme, "sensor", id))
			case 1:
				_, err := f.UpdateDevice(ctx, acme, "sensor", id, func(d *Device) error { d.Disabled = true; return nil })
				f.ok(err)
			case 2:
				must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", id, plugins.Secret{}, 0))
			}
			revoked.Store(true)
			done.Wait()
		}
		if accepted.Load() < rounds {
			t.Errorf("only %d verifications succeeded", accepted.Load())
		}
	})
}

// Writers, readers, watchers and the organisation's own end, all at once.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		var all sync.WaitGroup
		for n := range 4 {
			org := orgID(fmt.Sprintf("org%d", n))
			all.Go(func() {
				for range 3 {
					seed, err := f.SeedOrganisation(ctx, org, "")
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := f.CreateType(ctx, org, DeviceType{ID: "sensor"}); err != nil {
						t.Error(err)
					}
					for d := range 3 {
						if _, _, err := f.CreateDevice(ctx, org, Device{Type: "sensor", ID: policy.ID(fmt.Sprint(d))}, plugins.Secret{}); err != nil {
							t.Error(err)
						}
					}
					if _, err := f.VerifyBasic(ctx, seed.APIKey.Key, plugins.NewSecret([]byte(seed.APIToken))); err != nil {
						t.Error(err)
					}
					if err := f.DeleteOrganisation(ctx, org); err != nil {
						t.Error(err)
					}
				}
			})
			all.Go(func() {
				for range 50 {
					cancel := f.Watch(func(Change) {})
					if _, _, err := f.Organisations(ctx, Page{}); err != nil {
						t.Error(err)
					}
					if _, _, err := f.Devices(ctx, org, "", Page{}); err != nil && policy.KindOf(err) != policy.KindNotFound {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		all.Wait()
		told := map[uint64][]ChangeKind{}
		for _, change := range f.changes() {
			told[change.Incarnation] = append(told[change.Incarnation], change.Kind)
		}
		want := []ChangeKind{
			OrganisationChanged, SubjectChanged, SubjectChanged, // with its key and user
			SubjectChanged, SubjectChanged, SubjectChanged, OrganisationDeleted,
		}
		for incarnation, kinds := range told {
			if !slices.Equal(kinds, want) {
				t.Errorf("told of incarnation %d: %v, want %v", incarnation, kinds, want)
			}
		}
		if len(told) != 4*3 {
			t.Errorf("told of %d incarnations, want %d", len(told), 4*3)
		}
		if left, _, err := f.Organisations(ctx, Page{}); err != nil || len(left) != 0 {
			t.Errorf("organisations left: %v, %v", left, err)
		}
	})
}
