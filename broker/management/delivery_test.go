package management_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/store"
)

// What was answered 202 is not lost when the process dies before anybody heard of it.
func TestAskedAgainAfterCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	d.manage()
	d.Disconnect(0)
	id := w.initiated("device/reboot", "d1")
	w.crash(true)
	d = w.connect("d1", false)
	d.manage()
	if h := d.hear("mgmt/initiate/device/reboot"); h.ReqID != id+"-i" {
		t.Errorf("%+v", h)
	}
	d.say("response", `{"rc":202,"reqId":"`+id+`-i"}`)
	brokertest.Eventually(t, "it is accepted", func() bool { return w.status(id, "d1").Accepted })
	w.crash(true)
	d = w.connect("d1", false)
	d.manage()
	w.becomes(id, "d1", ledger.TaskSucceeded)
}

// What waits in a kept session is sent once, from there.
func TestKeptSessionHearsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", true)
	d.manage()
	d.Disconnect(0)
	brokertest.Eventually(t, "nobody is there", func() bool { return w.Broker.Stats().Connections["mqtt"] == 0 })
	id := w.initiated("device/reboot", "d1")
	brokertest.Eventually(t, "it waits", func() bool { return w.status(id, "d1").Kept })
	w.crash(true)
	d = w.connect("d1", true)
	h := <-d.heard
	if h.topic == "iotdm-1/response" { // it was not acknowledged before
		h = <-d.heard
	}
	if h.topic != "iotdm-1/mgmt/initiate/device/reboot" || h.ReqID != id+"-i" {
		t.Errorf("%+v", h)
	}
	d.manage()
	d.hearsNoMore()
}

// A message of QoS 1 that was acknowledged is dealt with, whatever happens to the
// process; those that came first are first.
func TestAcknowledgedIsDealtWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crash(false)
	d := w.connect("d1", false)
	d.say("mgmt/manage", able)
	for i := range 10 {
		d.say("add/diag/errorCodes", fmt.Sprintf(`{"d":{"errorCode":%d}}`, i))
	}
	w.crash(true)
	device := ledger.Device{Type: "sensor", ID: "d1"}
	found, err := w.Registry.Device(t.Context(), w.acme.ID, "sensor", "d1")
	must(t, err)
	device.Incarnation = found.Incarnation
	brokertest.Eventually(t, "all of it is there, once", func() bool {
		codes, err := w.Ledger.Diagnostics(w.acme.Tenant, device, ledger.ErrorCodes)
		for i, c := range codes {
			if c.Code != int64(i) {
				t.Fatalf("%+v", codes)
			}
		}
		return err == nil && len(codes) == 10
	})
	w.initiated("device/reboot", "d1")
	brokertest.Eventually(t, "nothing waits", func() bool {
		left := 0
		err := w.Store.Scan(store.In(w.acme.ID.String(), w.acme.Tenant.Incarnation).Prefix(store.KindArrival), store.Key{}, func(store.Key, []byte) bool {
			left++
			return true
		})
		return err == nil && left == 0
	})
}

// Who finds no room is told to try again; what cannot be answered is refused.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crash(false)
	d := w.connect("d1", false)
	for range 1024 {
		d.say("clear/diag/log", `{}`)
	}
	d.say("clear/diag/log", `{"reqId":"late"}`)
	if n := w.management.Dropped(); n != 1 {
		t.Errorf("%d were dropped", n)
	}
	must(t, w.management.Start(w.Broker, []broker.Tenant{broker.Tenant(w.acme.Tenant)}))
	if h := d.hear("response"); h.Code != 409 || h.ReqID != "late" {
		t.Errorf("%+v", h)
	}
	brokertest.Eventually(t, "there is room again", func() bool {
		d.say("clear/diag/log", `{"reqId":"again"}`)
		return d.hear("response").Code == 200
	})
}
