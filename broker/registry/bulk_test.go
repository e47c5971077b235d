package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/storetest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// newDevices are n of type sensor.
func newDevices(n int) []NewDevice {
	list := make([]NewDevice, n)
	for i := range list {
		list[i].Device = Device{Type: "sensor", ID: policy.ID(fmt.Sprintf("b%05d", i))}
	}
	return list
}

func kinds(results []Result) (list []policy.Kind) {
	for _, r := range results {
		list = append(list, policy.KindOf(r.Err))
	}
	return list
}

func TestBulkCalls(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		f.deviceType(acme, "hub", ClassGateway)
		f.device(acme, "sensor", "d1", "")
		f.changes()

		own := plugins.NewSecret([]byte("self-chosen"))
		results := must[[]Result](t)(f.AddDevices(ctx, acme, []NewDevice{
			{Device: Device{Type: "sensor", ID: "b1", Metadata: map[string]any{"a": "b"}}},
			{Device: Device{Type: "sensor", ID: "d1"}},
			{Device: Device{Type: "sensor", ID: "b1"}},
			{Device: Device{Type: "none", ID: "b2"}},
			{Device: Device{Type: "sensor", ID: "b 2"}},
			{Device: Device{Type: "sensor", ID: "b2"}, Token: plugins.NewSecret([]byte("short"))},
			{Device: Device{Type: "hub", ID: "g1"}, Token: own},
			{Device: Device{Type: "sensor", ID: "b3", GatewayType: "hub", GatewayID: "g1", Disabled: true}},
			{Device: Device{Type: "sensor", ID: "b4", GatewayType: "hub", GatewayID: "g2"}},
		}))
		want := []policy.Kind{
			0: policy.KindOf(nil), 1: policy.KindExists, 2: policy.KindExists, 3: policy.KindNotFound, 4: policy.KindInvalid,
			5: policy.KindInvalid, 6: policy.KindOf(nil), 7: policy.KindOf(nil), 8: policy.KindInvalid,
		}
		if got := kinds(results); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("results = %v, want %v", got, want)
		}
		for i, r := range results {
			if (r.Err == nil) != (r.Token != "") || (r.Err == nil) != (r.Device.Incarnation != 0) {
				t.Errorf("result %d = %+v", i, r)
			}
			if r.Err != nil {
				refused(t, r.Err, want[i])
			}
		}
		if read := must[Device](t)(f.Device(ctx, acme, "sensor", "b1")); read.Metadata["a"] != "b" || read.Incarnation != results[0].Device.Incarnation {
			t.Errorf("read %+v", read)
		}
		must[policy.Principal](t)(f.connect(ctx, "d:acme01:sensor:b1", "use-token-auth", results[0].Token))
		must[policy.Principal](t)(f.connect(ctx, "g:acme01:hub:g1", "use-token-auth", "self-chosen"))
		if h, err := f.find(acme); err != nil || !h.Record.OwnTokens {
			t.Errorf("the self-chosen token was not noted: %+v, %v", h, err)
		}
		var told []string
		for _, c := range f.changes() {
			told = append(told, fmt.Sprintf("%v %s", c.Kind, c.ID))
		}
		if got, want := strings.Join(told, ", "), "subject_changed b1, subject_changed g1, subject_disabled b3"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}

		gone := must[[]Result](t)(f.RemoveDevices(ctx, acme, []DeviceName{{"sensor", "b1"}, {"sensor", "b1"}, {"none", "x"}, {"hub", "g1"}, {"sensor", "a b"}}))
		if got, want := fmt.Sprint(kinds(gone)), fmt.Sprint([]policy.Kind{policy.KindOf(nil), policy.KindNotFound, policy.KindNotFound, policy.KindOf(nil), policy.KindNotFound}); got != want {
			t.Errorf("removed %s, want %s", got, want)
		}
		if told := f.changes(); len(told) != 3 || told[0].Kind != SubjectDeleted || told[1].PrincipalKind != policy.KindGateway || told[2].Kind != GroupChanged {
			t.Errorf("told %+v", told)
		}
		_, err := f.connect(ctx, "d:acme01:sensor:b1", "use-token-auth", results[0].Token)
		wantCause(t, err, policy.CauseUnknown)

		_, err = f.AddDevices(ctx, other, newDevices(1))
		refused(t, err, policy.KindNotFound)
		_, err = f.RemoveDevices(ctx, other, []DeviceName{{"sensor", "d1"}})
		refused(t, err, policy.KindNotFound)
		if r := must[[]Result](t)(f.AddDevices(ctx, acme, nil)); len(r) != 0 {
			t.Errorf("nothing became %v", r)
		}
	})
}

// More than a commit holds, in number and in bytes.
func TestBulkCallsOfAnySize(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		devices := newDevices(3*bulkStep + 7)
		for i := range 100 {
			devices[i].Device.Metadata = map[string]any{"x": strings.Repeat("x", maxMetadata-100)}
		}
		for _, r := range must[[]Result](t)(f.AddDevices(ctx, acme, devices)) {
			f.ok(r.Err)
		}
		names := make([]DeviceName, len(devices))
		for i, d := range devices {
			names[i] = DeviceName{d.Device.Type, d.Device.ID}
		}
		checkWhole(t, f.Registry, acme, len(devices))
		for _, r := range must[[]Result](t)(f.RemoveDevices(ctx, acme, names)) {
			f.ok(r.Err)
		}
		checkWhole(t, f.Registry, acme, 0)
	})
}

// When the store stops half-way, what was done is told apart from what was not.
func TestBulkCallThatFailsHalfWay(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	full := errors.New("full")
	told := 0
	defer f.Watch(func(Change) {
		if told++; told == bulkStep {
			faulty.FailCommits(full)
		}
	})()
	results := must[[]Result](t)(f.AddDevices(t.Context(), acme, newDevices(3*bulkStep)))
	faulty.FailCommits(nil)
	for i, r := range results {
		done := i < bulkStep
		if done != (r.Err == nil) || done != (r.Token != "") || !done && !errors.Is(r.Err, full) {
			t.Fatalf("result %d = %+v", i, r)
		}
	}
	checkWhole(t, f.Registry, acme, bulkStep)
	faulty.FailCommits(full)
	if _, err := f.AddDevices(t.Context(), acme, newDevices(1)); !errors.Is(err, full) {
		t.Errorf("nothing was added, and the error is %v", err)
	}
	faulty.FailCommits(nil)
}

func TestBulkUpdate(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		f.deviceType(acme, "sensor", ClassDevice)
		for _, id := range []policy.ID{"d1", "d2"} {
			f.device(acme, "sensor", id, "")
		}
		f.changes()
		describe := func(typ, id policy.ID, text string) DeviceEdit {
			return DeviceEdit{DeviceName{typ, id}, func(d *Device) error {
				d.DeviceInfo.Model += text
				d.ID, d.Incarnation = "renamed", 7
				return nil
			}}
		}
		no := errors.New("no")
		results := must[[]Result](t)(f.UpdateDevices(ctx, acme, []DeviceEdit{
			describe("sensor", "d1", "a"), describe("sensor", "none", "a"), describe("none", "d1", "a"),
			describe("sensor", "d2", "\x00"),
			{DeviceName{"sensor", "d2"}, func(d *Device) error { d.Disabled = true; return no }},
			describe("sensor", "d1", "b"),
			{DeviceName{"sensor", "d2"}, func(d *Device) error { d.Disabled = true; return nil }},
		}))
		want := []policy.Kind{policy.KindOf(nil), policy.KindNotFound, policy.KindNotFound, policy.KindInvalid, policy.KindInternal, policy.KindOf(nil), policy.KindOf(nil)}
		if got := kinds(results); !slices.Equal(got, want) || !errors.Is(results[4].Err, no) {
			t.Fatalf("results = %v, want %v", got, want)
		}
		d1, d2 := must[Device](t)(f.Device(ctx, acme, "sensor", "d1")), must[Device](t)(f.Device(ctx, acme, "sensor", "d2"))
		if d1.DeviceInfo.Model != "ab" || d1.Incarnation == 7 || !d2.Disabled || d2.DeviceInfo.Model != "" {
			t.Errorf("d1 = %+v, d2 = %+v", d1, d2)
		}
		var told []string
		for _, c := range f.changes() {
			told = append(told, fmt.Sprintf("%v %s", c.Kind, c.ID))
		}
		if got, want := strings.Join(told, ", "), "subject_changed d1, subject_changed d1, subject_disabled d2"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		theirs := must[[]Result](t)(f.UpdateDevices(ctx, other, []DeviceEdit{describe("sensor", "d1", "c")}))
		refused(t, theirs[0].Err, policy.KindNotFound)
	})
}

// An update of more than a commit holds stops where the store does: edits before
// that are whole, and those after it never were.
func TestBulkUpdateThatFailsHalfWay(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	must[[]Result](t)(f.AddDevices(ctx, acme, newDevices(2*bulkStep)))
	edits := make([]DeviceEdit, 2*bulkStep)
	for i, d := range newDevices(len(edits)) {
		edits[i] = DeviceEdit{DeviceName{d.Device.Type, d.Device.ID}, func(d *Device) error { d.DeviceInfo.Model = "new"; return nil }}
	}
	full, told := errors.New("full"), 0
	defer f.Watch(func(Change) {
		if told++; told == bulkStep {
			faulty.FailCommits(full)
		}
	})()
	results := must[[]Result](t)(f.UpdateDevices(ctx, acme, edits))
	faulty.FailCommits(nil)
	for i, r := range results {
		d := must[Device](t)(f.Device(ctx, acme, "sensor", edits[i].ID))
		if done := i < bulkStep; done != (r.Err == nil) || done != (d.DeviceInfo.Model == "new") {
			t.Fatalf("result %d = %+v, device %+v", i, r, d)
		}
	}
}

// checkWhole holds everything of an organisation against each other: each device
// has a type of its class and a token, and no token is nobody's.
func checkWhole(t *testing.T, r *Registry, org policy.OrgID, devices int) {
	t.Helper()
	h, err := r.homeOf(org)
	if err != nil {
		t.Fatal(err)
	}
	proofs, found := 0, 0
	err = r.store.Scan(h.scope.All(), store.Key{}, func(key store.Key, value []byte) bool {
		switch key.Kind() {
		case store.KindDevice:
			found++
			d, err := decode[Device](value)
			if err != nil || string(d.Record.Type) != key.Parts()[0] || string(d.Record.ID) != key.Parts()[1] {
				t.Errorf("%v holds %+v, %v", key, d, err)
				return false
			}
			typ, err := load[DeviceType](r.store, typeKey(h.scope, d.Record.Type))
			if err != nil || typ.Record.ClassID != d.Record.ClassID {
				t.Errorf("%v has type %+v, %v", key, typ, err)
			}
			if _, err := load[credential](r.store, deviceCredential(d.Record.Type, d.Record.ID).key(h.scope)); err != nil {
				if !strings.HasPrefix(d.Record.CreatedBy, "g:") {
					t.Errorf("%v has no token: %v", key, err)
				}
				proofs++ // it has none to have
			}
			checkPlaced(t, r, h, &d.Record)
		case store.KindGroupMember, store.KindAttached:
			if parts := key.Parts(); len(parts) == 4 {
				checkMember(t, r, h, key)
			}
		case store.KindCredential:
			subject, ok := subjectOf(h.scope, key.Parts())
			if _, err := r.store.Get(subject); !ok || err != nil {
				t.Errorf("%v is nobody's: %v", key, err)
			}
			if key.Parts()[0] == "device" {
				proofs++
			}
		}
		return !t.Failed()
	})
	if err != nil || found != devices || proofs != devices {
		t.Errorf("%d devices and %d tokens, want %d (%v)", found, proofs, devices, err)
	}
}
