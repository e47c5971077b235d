package registry

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
)

func pump() ActionBundle {
	usual := "3"
	return ActionBundle{
		ID: "pump-v1", DisplayName: map[string]string{"en_US": "Pump"}, Version: "1.0",
		Actions: map[string]BundleAction{"start": {
			DisplayName: map[string]string{"en_US": "Start"},
			Parameters:  []BundleParameter{{Name: "speed", Pattern: "[0-9]+", Required: true, Default: &usual}},
		}},
	}
}

// managedFleet is acme01 with sensor/d1, which manages itself, and a bundle.
func managedFleet(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, memstore.New())
	must[Seed](t)(f.SeedOrganisation(t.Context(), acme, "Acme"))
	f.deviceType(acme, "sensor", ClassDevice)
	f.device(acme, "sensor", "d1", "")
	must[Managed](t)(f.ManageDevice(t.Context(), acme, "sensor", "d1", func(_ *Device, m *Managed) error {
		m.Since, m.Renewed, m.Activity, m.Lifetime = f.now(), f.now(), f.now(), 3600
		m.Supports = []string{"pump-v1", SupportsDeviceActions, "pump-v1"}
		m.Firmware = &Firmware{Version: "2", URI: "https://example.test/fw", State: 2, Updated: f.now()}
		return nil
	}))
	must[ActionBundle](t)(f.CreateActionBundle(t.Context(), acme, pump()))
	return f
}

func TestManagedDevice(t *testing.T) {
	t.Parallel()
	f := managedFleet(t)
	ctx := t.Context()
	m := must[Managed](t)(f.ManagedDevice(ctx, acme, "sensor", "d1"))
	if !slices.Equal(m.Supports, []string{SupportsDeviceActions, "pump-v1"}) || m.Dormant(f.now()) {
		t.Errorf("%+v", m)
	}
	f.advance(time.Hour)
	if !m.Dormant(f.now()) {
		t.Error("its lifetime has ended, and it is awake")
	}
	// What policies see is told, and nothing else.
	f.changes()
	f.ok(f.NoteDevice(ctx, acme, "sensor", "d1", func(d *Device) error {
		d.Location, d.DeviceInfo.Model, d.Disabled, d.Groups = &Location{Longitude: 1, Latitude: 2}, "M", true, nil
		return nil
	}))
	if told := f.changes(); len(told) != 0 {
		t.Errorf("told %+v", told)
	}
	if d := must[Device](t)(f.Device(ctx, acme, "sensor", "d1")); d.Disabled || d.Location == nil || d.DeviceInfo.Model != "M" {
		t.Errorf("the device is %+v", d)
	}
	f.ok(f.NoteDevice(ctx, acme, "sensor", "d1", func(d *Device) error { d.Metadata = map[string]any{"a": "b"}; return nil }))
	if told := f.changes(); len(told) != 1 || told[0].Kind != SubjectChanged {
		t.Errorf("told %+v", told)
	}
	f.ok(f.DeleteDevice(ctx, acme, "sensor", "d1"))
	f.device(acme, "sensor", "d1", "")
	if m, err := f.ManagedDevice(ctx, acme, "sensor", "d1"); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the namesake is managed: %+v, %v", m, err)
	}
	if err := f.UnmanageDevice(ctx, acme, "sensor", "d1"); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("unmanage: %v", err)
	}
}

func TestActionBundlesAreChecked(t *testing.T) {
	t.Parallel()
	f := managedFleet(t)
	ctx := t.Context()
	for name, spoil := range map[string]func(*ActionBundle){
		"no name":              func(b *ActionBundle) { b.ID = "" },
		"a slash":              func(b *ActionBundle) { b.ID = "a/b" },
		"a wildcard":           func(b *ActionBundle) { b.ID = "+" },
		"the platform's":       func(b *ActionBundle) { b.ID = "firmware" },
		"no display name":      func(b *ActionBundle) { b.DisplayName = nil },
		"no actions":           func(b *ActionBundle) { b.Actions = nil },
		"an action's slash":    func(b *ActionBundle) { b.Actions["a/b"] = b.Actions["start"] },
		"a pattern":            func(b *ActionBundle) { b.Actions["start"].Parameters[0].Pattern = "(" },
		"a default":            func(b *ActionBundle) { b.Actions["start"].Parameters[0].Pattern = "[a-z]" },
		"a long pattern":       func(b *ActionBundle) { b.Actions["start"].Parameters[0].Pattern = strings.Repeat("x", 2000) },
		"too large altogether": func(b *ActionBundle) { b.Description = manyWords() },
	} {
		b := pump()
		b.ID = "other"
		spoil(&b)
		if _, err := f.CreateActionBundle(ctx, acme, b); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.CreateActionBundle(ctx, acme, pump()); policy.KindOf(err) != policy.KindExists {
		t.Errorf("twice: %v", err)
	}
	for i := 1; i < maxBundles; i++ {
		b := pump()
		b.ID = "b" + strings.Repeat("x", i)
		must[ActionBundle](t)(f.CreateActionBundle(ctx, acme, b))
	}
	b := pump()
	b.ID = "beyond"
	if _, err := f.CreateActionBundle(ctx, acme, b); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("beyond the limit: %v", err)
	}
	f.ok(f.DeleteActionBundle(ctx, acme, "pump-v1"))
	if _, err := f.ReplaceActionBundle(ctx, acme, pump()); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("replaced: %v", err)
	}
}

func manyWords() map[string]string {
	words := map[string]string{}
	for i := range maxBundleParts {
		words[strings.Repeat("a", i%30+1)+string(rune('a'+i/30))] = strings.Repeat("x", maxText)
	}
	return words
}

func TestManagementMoves(t *testing.T) {
	t.Parallel()
	f := managedFleet(t)
	file := f.export(acme, ExportOptions{})
	g := newFixture(t, memstore.New())
	must[Moved](t)(g.load(file, ImportOptions{}))
	if again := g.export(acme, ExportOptions{}); again != file {
		t.Errorf("the export of the import is\n%s\nbefore\n%s", again, file)
	}
	b := must[ActionBundle](t)(g.ActionBundle(context.Background(), acme, "pump-v1"))
	if a := b.Actions["start"]; !a.Parameters[0].Allows("42") || a.Parameters[0].Allows("4x2") {
		t.Errorf("%+v", b)
	}
	// A merge adds what is not there.
	f.ok(f.UnmanageDevice(t.Context(), acme, "sensor", "d1"))
	f.ok(f.DeleteActionBundle(t.Context(), acme, "pump-v1"))
	moved := must[Moved](t)(f.load(file, ImportOptions{Merge: true}))
	if moved.Records["managed_device"] != 1 || moved.Records["action_bundle"] != 1 {
		t.Errorf("merged %+v", moved)
	}
	if _, err := f.ManagedDevice(t.Context(), acme, "sensor", "d1"); err != nil {
		t.Error(err)
	}
	if store.KindManagedDevice > lastOfRegistry || store.KindActionBundle > lastOfRegistry {
		t.Error("they are no part of an export")
	}
}
