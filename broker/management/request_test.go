package management_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/management"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

func TestWhatMayBeAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	d.manage()
	w.connect("d2", false).ask("mgmt/manage", `{"reqId":"1"}`)
	many := make([]string, management.MaxDevices+1)
	for i := range many {
		many[i] = fmt.Sprint("x", i)
	}
	for _, c := range []struct {
		action  string
		devices []string
	}{
		{"device/reboot", nil},
		{"device/reboot", []string{"d1", "d1"}},
		{"device/reboot", []string{"d2"}},
		{"device/reboot", []string{"d1", "d2"}},
		{"device/reboot", []string{"nobody"}},
		{"device/reboot", many},
		{"firmware/download", []string{"d1"}},
		{"firmware", []string{"d1"}},
		{"", []string{"d1"}},
		{"device/explode", []string{"d1"}},
		{"pump/start", []string{"d1"}},
	} {
		if id, err := w.initiate(c.action, c.devices...); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s of %d: %s, %v", c.action, len(c.devices), id, err)
		}
	}
	if all, err := w.management.Requests(t.Context(), w.acme.Tenant); err != nil || len(all) != 0 {
		t.Errorf("there are %v, %v", all, err)
	}
	w.initiated("firmware/update", "d1")
	if _, err := w.initiate("firmware/update", "d1"); policy.KindOf(err) != policy.KindConflict {
		t.Errorf("its firmware is changed twice: %v", err)
	}
	for range 15 {
		w.initiated("device/reboot", "d1")
	}
	if _, err := w.initiate("device/reboot", "d1"); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("it is asked for more: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"d1", "d2"} {
		d := w.connect(id, false)
		d.manage()
		d.Disconnect(0)
	}
	id := w.initiated("device/reboot", "d1", "d2")
	w.pass(management.DefaultTimeout)
	for _, swept := range []bool{false, true} {
		if task := w.status(id, "d1"); task.Status != ledger.TaskTimedOut {
			t.Errorf("swept %v: %+v", swept, task)
		}
		r, err := w.management.Request(t.Context(), w.acme.Tenant, id)
		if err != nil || r.Open != 0 || r.Failed != 2 || r.Ended.IsZero() {
			t.Errorf("swept %v: %+v, %v", swept, r, err)
		}
		w.management.Sweep()
		brokertest.Eventually(t, "it is swept", func() bool {
			task, ok, err := w.Ledger.Task(w.acme.Tenant, id, "sensor", "d2")
			return err == nil && ok && task.Status == ledger.TaskTimedOut
		})
	}
	// Nothing of it is left to be asked.
	d := w.connect("d1", false)
	d.manage()
	d.hearsNoMore()
}

// The oldest that are complete make room, and what is open never does.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = fmt.Sprint("m", i)
		w.AddDevice(w.acme, ids[i])
		w.managed(ids[i])
	}
	first := ""
	for i := range management.MaxOpen {
		id := w.initiated("device/reboot", ids[i%len(ids)])
		if i == 0 {
			first = id
			w.pass(time.Second)
		}
	}
	if _, err := w.initiate("device/reboot", "m7"); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("there is one more open: %v", err)
	}
	for made := management.MaxOpen; made < management.MaxRequests+1; made++ {
		if (made-management.MaxOpen)%management.MaxOpen == 0 {
			w.pass(management.DefaultTimeout)
			w.management.Sweep()
			brokertest.Eventually(t, "they are swept", func() bool {
				all, err := w.Ledger.Requests(w.acme.Tenant)
				must(t, err)
				for i := range all {
					if all[i].Open > 0 {
						return false
					}
				}
				return true
			})
		}
		w.initiated("device/reboot", ids[made%len(ids)])
	}
	all, err := w.management.Requests(t.Context(), w.acme.Tenant)
	if err != nil || len(all) != management.MaxRequests {
		t.Errorf("%d are kept, %v", len(all), err)
	}
	if _, err := w.management.Request(t.Context(), w.acme.Tenant, first); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the first is still there: %v", err)
	}
	if tasks, err := w.Ledger.Tasks(w.acme.Tenant, first, "", "", 10); err != nil || len(tasks) != 0 {
		t.Errorf("its tasks are: %v, %v", tasks, err)
	}
}

// Five thousand devices are asked in one request, and all of it is stored or nothing.
func TestManyDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	devices := make([]registry.NewDevice, management.MaxDevices)
	names := make([]string, len(devices))
	for i := range devices {
		names[i] = fmt.Sprintf("many%05d", i)
		devices[i].Device = registry.Device{Type: "sensor", ID: policy.ID(names[i])}
	}
	_, err := w.Registry.AddDevices(t.Context(), w.acme.ID, devices)
	must(t, err)
	for _, name := range names {
		w.managed(name)
	}
	id := w.initiated("device/reboot", names...)
	w.crash(true)
	r, err := w.management.Request(t.Context(), w.acme.Tenant, id)
	if err != nil || r.Devices != len(names) || r.Open != len(names) {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, w.management.Delete(t.Context(), w.acme.Tenant, id))
	for _, kind := range []store.Kind{store.KindManagementRequest, store.KindManagementTask, store.KindManagementOpen} {
		must(t, w.Store.Scan(store.In(w.acme.ID.String(), w.acme.Tenant.Incarnation).Prefix(kind), store.Key{}, func(key store.Key, _ []byte) bool {
			t.Errorf("%v is left", key)
			return false
		}))
	}
}
