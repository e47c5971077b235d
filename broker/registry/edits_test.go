package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Whatever is created, edited, deleted and given other tokens at once, one at a time
// or in bulk: devices have their type and their token, no edit is lost, and an
// export under way is of one moment.
func TestParallelEdits(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "counted", ClassDevice)
		f.device(acme, "counted", "c", "")
		const editors, rounds = 4, 60
		class := func(typ policy.ID) string {
			if typ == "t0" {
				return ClassGateway
			}
			return ClassDevice
		}
		expected := func(err error, kinds ...policy.Kind) {
			if err == nil {
				return
			}
			for _, kind := range kinds {
				if policy.KindOf(err) == kind {
					return
				}
			}
			t.Error(err)
		}
		var all sync.WaitGroup
		for editor := range editors {
			random := rand.New(rand.NewPCG(uint64(editor), 1))
			all.Go(func() {
				for range rounds {
					typ, id := policy.ID(fmt.Sprintf("t%d", random.IntN(3))), policy.ID(fmt.Sprintf("d%d", random.IntN(4)))
					switch random.IntN(9) {
					case 0:
						_, err := f.CreateType(ctx, acme, DeviceType{ID: typ, ClassID: class(typ)})
						expected(err, policy.KindExists)
					case 1:
						expected(f.DeleteType(ctx, acme, typ), policy.KindNotFound, policy.KindConflict)
					case 2:
						_, err := f.UpdateType(ctx, acme, typ, func(d *DeviceType) error { d.Description += "x"; return nil })
						expected(err, policy.KindNotFound)
					case 3:
						_, _, err := f.CreateDevice(ctx, acme, Device{Type: typ, ID: id}, plugins.Secret{})
						expected(err, policy.KindExists, policy.KindNotFound)
					case 4:
						expected(f.DeleteDevice(ctx, acme, typ, id), policy.KindNotFound)
					case 5:
						_, err := f.UpdateDevice(ctx, acme, typ, id, func(d *Device) error { d.Disabled = !d.Disabled; return nil })
						expected(err, policy.KindNotFound)
					case 6:
						_, err := f.ReplaceDeviceToken(ctx, acme, typ, id, plugins.Secret{}, maxGrace)
						expected(err, policy.KindNotFound)
					case 7:
						results, err := f.AddDevices(ctx, acme, []NewDevice{
							{Device: Device{Type: typ, ID: id}}, {Device: Device{Type: typ, ID: id + "x"}}, {Device: Device{Type: "t1", ID: id}},
						})
						expected(err)
						for _, r := range results {
							expected(r.Err, policy.KindExists, policy.KindNotFound)
						}
					case 8:
						results, err := f.RemoveDevices(ctx, acme, []DeviceName{{typ, id}, {typ, id + "x"}, {"t1", id}})
						expected(err)
						for _, r := range results {
							expected(r.Err, policy.KindNotFound)
						}
					}
					// Edits of the same record by everybody.
					_, err := f.UpdateDevice(ctx, acme, "counted", "c", func(d *Device) error {
						n, _ := d.Metadata["n"].(json.Number)
						count, _ := n.Int64()
						d.Metadata = map[string]any{"n": count + 1}
						return nil
					})
					expected(err)
				}
			})
		}
		all.Go(func() {
			for range 10 {
				var file bytes.Buffer
				if _, err := f.Export(ctx, acme, &file, ExportOptions{}); err != nil {
					t.Error(err)
					return
				}
				there := newFixture(t, stores[0].open(t))
				moved, err := there.Import(ctx, bytes.NewReader(file.Bytes()), ImportOptions{})
				if err != nil {
					t.Errorf("an export cannot be imported: %v\n%s", err, file.String())
					return
				}
				checkWhole(t, there.Registry, acme, moved.Records["device"])
			}
		})
		all.Wait()

		counted := must[Device](t)(f.Device(ctx, acme, "counted", "c"))
		if got, want := fmt.Sprint(counted.Metadata["n"]), fmt.Sprint(editors*rounds); got != want {
			t.Errorf("%s edits of one device took effect, want %s", got, want)
		}
		devices, _, err := f.Devices(ctx, acme, "", Page{Limit: maxPage})
		f.ok(err)
		checkWhole(t, f.Registry, acme, len(devices))
		// Where a type is listed, so are its devices, and nowhere else.
		types, _, err := f.Types(ctx, acme, Page{})
		f.ok(err)
		found := 0
		for _, typ := range types {
			list, _, err := f.Devices(ctx, acme, typ.ID, Page{Limit: maxPage})
			f.ok(err)
			for _, d := range list {
				if d.Type != typ.ID || d.ClassID != typ.ClassID {
					t.Errorf("%s lists %s/%s of class %s", typ.ID, d.Type, d.ID, d.ClassID)
				}
			}
			found += len(list)
		}
		if found != len(devices) {
			t.Errorf("%d devices in the lists of types, %d in all", found, len(devices))
		}
	})
}
