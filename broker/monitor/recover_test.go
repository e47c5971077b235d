package monitor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
)

// Whoever was connected when the process died is disconnected afterwards, and what
// is retained says so.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.deviceOnline(acme, "d1")
	w.deviceOnline(acme, "d2").Disconnect(20)
	connected := func(id string, want bool) func() bool {
		return func() bool {
			s, ok, err := w.Ledger.State(acme.Tenant, acme.ClientID(id))
			return err == nil && ok && s.Connected == want
		}
	}
	brokertest.Eventually(t, "d1 is noted", connected("d1", true))
	brokertest.Eventually(t, "d2 has left", func() bool {
		s, ok, _ := w.Ledger.State(acme.Tenant, acme.ClientID("d2"))
		return ok && !s.Connected
	})
	w.crash()
	if !connected("d1", false)() {
		t.Error("d1 is still noted as connected")
	}
	w.watch(acme, "watch")
	for range 2 {
		switch h := <-w.heard; h.topic {
		case d1Topic:
			h.want(t, map[string]any{"Action": "Disconnect", "CloseCode": 92, "Reason": "The connection was closed because the server was restarted."})
		case "iot-2/type/sensor/id/d2/mon":
			h.want(t, map[string]any{"Action": "Disconnect", "CloseCode": nil})
		}
	}
	d, err := w.Registry.Device(t.Context(), acme.ID, "sensor", "d1")
	must(t, err)
	lines, err := w.Ledger.Lines(acme.Tenant, ledger.Device{Type: "sensor", ID: "d1", Incarnation: d.Incarnation}, time.Time{})
	if err != nil || len(lines) != 2 {
		t.Errorf("the log is %v, %v", lines, err)
	}
}

// A shutdown that is orderly says goodbye in the records at once; what is retained
// follows at the next start.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.deviceOnline(acme, "d1")
	w.stop()
	w.start(monitor.Config{})
	s, ok, err := w.Ledger.State(acme.Tenant, acme.ClientID("d1"))
	if err != nil || !ok || s.Connected || s.CloseCode != 93 {
		t.Errorf("the state is %+v, %v", s, err)
	}
	w.watch(acme, "watch")
	w.next(d1Topic).want(t, map[string]any{"Action": "Disconnect", "CloseCode": 93})
}

// What was retained is again after a restart, though the quota has shrunk since.
func TestRetainedAgainBeyondTheQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	for _, id := range []string{"d1", "d2"} {
		w.deviceOnline(acme, id).Disconnect(20)
		brokertest.Eventually(t, id+" has left", func() bool {
			s, _, err := w.Ledger.State(acme.Tenant, acme.ClientID(id))
			return err == nil && !s.DisconnectTime.IsZero()
		})
	}
	_, err := w.Registry.UpdateOrganisation(t.Context(), acme.ID, func(o *registry.Organisation) error {
		o.Quotas.RetainedBytes = 1
		return nil
	})
	must(t, err)
	w.crash()
	for _, id := range []string{"d1", "d2"} {
		name := mustName(t, fmt.Sprintf("iot-2/type/sensor/id/%s/mon", id))
		if _, had := w.Broker.Voice(mustMounts(t)).Retained(broker.Tenant(acme.Tenant), name); !had {
			t.Errorf("nothing is retained of %s", id)
		}
	}
}

// An earlier version stored what is retained. It gives way to what is in memory, and
// leaves the store.
func TestStoredByAnEarlierVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.deviceOnline(acme, "d1")
	brokertest.Eventually(t, "d1 is noted", func() bool {
		s, _, err := w.Ledger.State(acme.Tenant, acme.ClientID("d1"))
		return err == nil && s.Connected
	})
	routed, _, err := mustMounts(t).In(mustName(t, d1Topic))
	must(t, err)
	old := durable.Message{Topic: routed, Payload: []byte(`{"Action":"Connect","Time":"2020-01-01T00:00:00.000Z"}`), Retain: true}
	space := durable.In(acme.ID, acme.Tenant.Incarnation)
	must(t, store.CommitWait(t.Context(), w.Store, store.Put(space.Retained(routed), old.Append(nil))))
	w.crash()
	w.watch(acme, "watch")
	w.next(d1Topic).want(t, map[string]any{"Action": "Disconnect", "CloseCode": 92})
	brokertest.Eventually(t, "the store has none", func() bool {
		_, err := w.Store.Get(space.Retained(routed))
		return err != nil
	})
}
