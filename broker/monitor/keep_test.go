package monitor_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/monitor"
)

func TestTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, rival := w.Seed("acme01"), w.Seed("rival1")
	w.deviceOnline(acme, "d1").Publish("iot-2/evt/status/fmt/bin", 1, false, make([]byte, 1000)).WaitTimeout(brokertest.Patience)
	w.stop()
	w.start(monitor.Config{})
	now := time.Now()
	days, err := w.Ledger.Traffic(acme.Tenant, now.AddDate(0, 0, -1), now)
	if err != nil || len(days) == 0 || days[len(days)-1].Bytes < 1000 {
		t.Errorf("the traffic is %v, %v", days, err)
	}
	if days, err := w.Ledger.Traffic(rival.Tenant, now.AddDate(0, 0, -1), now); err != nil || len(days) != 0 {
		t.Errorf("the traffic of nobody is %v, %v", days, err)
	}
}

// A namesake of a device that was deleted begins with nothing.
func TestDeletedDeviceLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	must(t, w.monitor.SetNoting(t.Context(), acme.Tenant, ledger.Noting{LastEvents: true, TTLDays: 7, ClientState: true}))
	d1 := w.deviceOnline(acme, "d1")
	d1.Publish("iot-2/evt/status/fmt/json", 1, false, "{}").WaitTimeout(brokertest.Patience)
	before, err := w.Registry.Device(t.Context(), acme.ID, "sensor", "d1")
	must(t, err)
	was := ledger.Device{Type: "sensor", ID: "d1", Incarnation: before.Incarnation}
	brokertest.Eventually(t, "the event is kept", func() bool {
		events, err := w.Ledger.Events(acme.Tenant, was, time.Time{})
		return err == nil && len(events) == 1
	})
	must(t, w.Registry.DeleteDevice(t.Context(), acme.ID, "sensor", "d1"))
	w.AddDevice(acme, "d1")
	brokertest.Eventually(t, "nothing is left", func() bool {
		events, _ := w.Ledger.Events(acme.Tenant, was, time.Time{})
		lines, _ := w.Ledger.Lines(acme.Tenant, was, time.Time{})
		_, ok, _ := w.Ledger.State(acme.Tenant, acme.ClientID("d1"))
		return len(events)+len(lines) == 0 && !ok
	})
	w.watch(acme, "watch")
	w.deviceOnline(acme, "d2")
	for h := range w.heard {
		if h.topic == d1Topic {
			t.Errorf("the namesake has a past: %v", h)
		}
		if h.topic == "iot-2/type/sensor/id/d2/mon" {
			break
		}
	}
}

// What does not fit the queue is dropped, and the truth is restored.
func TestOverload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.stop()
	w.start(monitor.Config{Queue: 1})
	for i := range 20 {
		w.AddDevice(acme, fmt.Sprintf("x%d", i))
	}
	var online sync.WaitGroup
	for i := range 20 {
		online.Go(func() {
			id := fmt.Sprintf("x%d", i)
			c, err := brokertest.Connect(w.DeviceOptions(acme, id))
			if err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				c.Disconnect(20)
			}
		})
	}
	online.Wait()
	for i := range 20 {
		brokertest.Eventually(t, "every state is right", func() bool {
			s, ok, err := w.Ledger.State(acme.Tenant, acme.ClientID(fmt.Sprintf("x%d", i)))
			// One that came and went unseen leaves no trace.
			return err == nil && (ok && s.Connected == (i%2 != 0) || !ok && i%2 == 0)
		})
	}
}
