package management_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	for _, c := range []struct {
		what, payload string
		want          int
	}{
		{"mgmt/manage", `{"reqId":"1"}`, 200},
		{"mgmt/manage", `{"d":{"lifetime":0},"reqId":"1","more":true}`, 200},
		{"mgmt/manage", `{"d":{"lifetime":3599},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"lifetime":-1},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"lifetime":1e300},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"lifetime":"3600"},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"supports":{"a/b":true}},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"supports":["deviceActions"]},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"deviceInfo":{"model":7}},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"deviceInfo":{"model":"` + strings.Repeat("x", 2000) + `"}},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"metadata":{"x":"` + strings.Repeat("x", 40000) + `"}},"reqId":"1"}`, 400},
		{"mgmt/manage", `{"d":{"metadata":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40) + `},"reqId":"1"}`, 400},
		{"device/update/location", `{"d":{"longitude":1,"latitude":2,"elevation":null},"reqId":"1"}`, 200},
		{"device/update/location", `{"d":{"longitude":181,"latitude":2},"reqId":"1"}`, 400},
		{"device/update/location", `{"d":{"longitude":1},"reqId":"1"}`, 400},
		{"device/update/location", `{"d":{"longitude":1,"latitude":2,"measuredDateTime":"yesterday"},"reqId":"1"}`, 400},
		{"add/diag/errorCodes", `{"d":{"errorCode":1.5},"reqId":"1"}`, 400},
		{"add/diag/errorCodes", `{"d":{},"reqId":"1"}`, 400},
		{"add/diag/errorCodes", `{"d":{"errorCode":5},"reqId":"1"}`, 200},
		{"clear/diag/errorCodes", `{"reqId":"1"}`, 200},
		{"add/diag/log", `{"d":{"message":"m","severity":3},"reqId":"1"}`, 400},
		{"add/diag/log", `{"d":{"message":"m","data":"x","severity":2},"reqId":"1"}`, 200},
		{"clear/diag/log", `{"reqId":"1"}`, 200},
		{"notify", `{"d":{"fields":[{"field":"mgmt.firmware","value":{"state":1}}]},"reqId":"1"}`, 200},
		{"notify", `{"d":{"fields":[{"field":"mgmt.firmware","value":{"state":9}}]},"reqId":"1"}`, 400},
		{"notify", `{"d":{"fields":[{"field":"colour","value":1}]},"reqId":"1"}`, 404},
		{"notify", `{"reqId":"1"}`, 400},
		{"mgmt/unmanage", `{"reqId":"1"}`, 200},
		{"mgmt/unmanage", `{"reqId":"1"}`, 200},
		{"notify", `{"d":{"fields":[{"field":"mgmt.firmware","value":{"state":1}}]},"reqId":"1"}`, 404},
	} {
		if h := d.ask(c.what, c.payload); h.Code != c.want || h.ReqID != "1" {
			t.Errorf("%s %.80s: %+v, want %d", c.what, c.payload, h, c.want)
		}
	}
	// What has no reqId, or is no JSON, is not answered: the next answer is another's.
	for _, silent := range []string{`{"d":{"lifetime":1}}`, "no", "[]", `{"reqId":7}`, `{"reqId":"` + strings.Repeat("x", 300) + `"}`, "null", ""} {
		d.say("mgmt/manage", silent)
	}
	d.hearsNoMore()
}

// What a device says of itself is merged into the registry.
func TestManageMerges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Registry.UpdateDevice(t.Context(), w.acme.ID, "sensor", "d1", func(d *registry.Device) error {
		d.DeviceInfo.Model, d.DeviceInfo.SerialNumber = "M1", "S1"
		return nil
	})
	must(t, err)
	d := w.connect("d1", false)
	d.ask("mgmt/manage", `{"d":{"deviceInfo":{"model":"M2","serialNumber":null,"fwVersion":"2"},"metadata":{"a":1.50}},"reqId":"1"}`)
	found, err := w.Registry.Device(t.Context(), w.acme.ID, "sensor", "d1")
	must(t, err)
	if i := found.DeviceInfo; i.Model != "M2" || i.SerialNumber != "S1" || i.FwVersion != "2" || fmt.Sprint(found.Metadata["a"]) != "1.50" {
		t.Errorf("the device is %+v", found)
	}
	before := found
	d.ask("mgmt/manage", `{"d":{"deviceInfo":{"model":"M2"}},"reqId":"2"}`)
	if found, err = w.Registry.Device(t.Context(), w.acme.ID, "sensor", "d1"); err != nil || !found.Updated.Equal(before.Updated) {
		t.Errorf("nothing changed, and it was written at %v, before at %v: %v", found.Updated, before.Updated, err)
	}
}

// A lifetime ends by itself, whatever becomes of the process.
func TestDormancy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	d.ask("mgmt/manage", `{"d":{"lifetime":3600,"supports":{"deviceActions":true}},"reqId":"1"}`)
	w.initiated("device/reboot", "d1")
	w.crash(true)
	w.pass(59 * time.Minute)
	w.initiated("device/reboot", "d1")
	w.pass(2 * time.Minute)
	if _, err := w.initiate("device/reboot", "d1"); policy.KindOf(err) != policy.KindInvalid || !strings.Contains(fmt.Sprint(err), "dormant") {
		t.Errorf("a dormant device is asked: %v", err)
	}
	w.connect("d1", false).ask("mgmt/manage", able) // the first answer, before what is asked again
	w.initiated("device/reboot", "d1")
}

// A namesake of a device that was deleted begins with nothing.
func TestDeletedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	d.manage()
	d.Disconnect(0)
	id := w.initiated("device/reboot", "d1")
	must(t, w.Registry.DeleteDevice(t.Context(), w.acme.ID, "sensor", "d1"))
	w.AddDevice(w.acme, "d1")
	w.becomes(id, "d1", ledger.TaskUnmanaged)
	if m, err := w.Registry.ManagedDevice(t.Context(), w.acme.ID, "sensor", "d1"); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the namesake is managed: %+v, %v", m, err)
	}
	d = w.connect("d1", false)
	d.manage()
	d.hearsNoMore()
}
