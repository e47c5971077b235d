package monitor_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

func TestWhoComesAndGoesIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.watch(acme, "watch")
	w.next("iot-2/app/watch/mon").want(t, map[string]any{"Action": "Connect", "ClientID": "a:acme01:watch", "User": acme.APIKey})

	d1 := w.deviceOnline(acme, "d1")
	said := w.next(d1Topic)
	said.want(t, map[string]any{
		"Action": "Connect", "ClientID": "d:acme01:sensor:d1", "ClientAddr": "127.0.0.1", "Protocol": "mqtt4",
		"Secure": false, "Durable": false, "CloseCode": nil, "Reason": nil, "User": nil, "ReadMsg": 0,
	})
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(said.fields["Time"])); err != nil {
		t.Error(err)
	}
	d1.Publish("iot-2/evt/status/fmt/json", 1, false, "{}").WaitTimeout(brokertest.Patience)
	d1.Disconnect(20)
	gone := w.next(d1Topic)
	gone.want(t, map[string]any{"Action": "Disconnect", "CloseCode": nil, "ReadMsg": 1, "WriteMsg": 0, "Reason": "The connection has completed normally."})
	if gone.fields["ReadBytes"].(float64) < 60 || gone.fields["WriteBytes"].(float64) < 8 {
		t.Errorf("bytes of %v", gone.fields)
	}

	// A device's last word is retained; an application's is there while it is.
	second := w.watch(acme, "second")
	missing := map[string]bool{d1Topic: true, "iot-2/app/watch/mon": true}
	for len(missing) > 0 {
		if h := <-w.heard; h.retained {
			delete(missing, h.topic)
		}
	}
	second.Disconnect(20)
	for {
		h := w.next("iot-2/app/second/mon")
		if h.fields["Action"] == "Disconnect" {
			break
		}
	}
	w.watch(acme, "third")
	w.next("iot-2/app/third/mon")
	w.deviceOnline(acme, "d2")
	for h := range w.heard {
		if h.topic == "iot-2/app/second/mon" {
			t.Errorf("an application that left is still retained: %v", h)
		}
		if h.topic == "iot-2/type/sensor/id/d2/mon" {
			break
		}
	}
}

// A client whose place another connection took is there all the same.
func TestTakenOverIsStillConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.watch(acme, "watch")
	w.deviceOnline(acme, "d1")
	w.next(d1Topic)
	w.deviceOnline(acme, "d1")
	codes := map[string]bool{}
	for range 2 {
		h := w.next(d1Topic)
		codes[fmt.Sprint(h.fields["Action"], " ", h.fields["CloseCode"])] = true
	}
	if !maps.Equal(codes, map[string]bool{"Connect <nil>": true, "Disconnect 288": true}) {
		t.Errorf("said %v", codes)
	}
	s, ok, err := w.Ledger.State(acme.Tenant, acme.ClientID("d1"))
	if err != nil || !ok || !s.Connected {
		t.Errorf("the state is %+v, %v", s, err)
	}
	w.watch(acme, "late")
	for {
		h := w.next(d1Topic)
		if h.retained {
			h.want(t, map[string]any{"Action": "Connect"})
			break
		}
	}
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.Seed("acme01")
	w.watch(acme, "watch")
	for _, c := range []struct {
		name string
		do   func(c mqtt.Client)
		want int
	}{
		{"a topic that there is not", func(c mqtt.Client) { c.Publish("iot-2/cmd/x/fmt/json", 0, false, "x") }, 276},
		{"by an administrator", func(mqtt.Client) {
			if n := w.Broker.Disconnect(broker.Tenant(acme.Tenant), policy.ClientID(acme.ClientID("d1"))); n != 1 {
				t.Errorf("%d connections were closed", n)
			}
		}, 94},
		{"too large", func(c mqtt.Client) { c.Publish("iot-2/evt/x/fmt/bin", 0, false, make([]byte, 200<<10)) }, 287},
		{"disabled", func(mqtt.Client) {
			_, err := w.Registry.UpdateDevice(t.Context(), acme.ID, "sensor", "d1", func(d *registry.Device) error { d.Disabled = true; return nil })
			must(t, err)
		}, 94},
	} {
		d1 := w.deviceOnline(acme, "d1")
		w.next(d1Topic).want(t, map[string]any{"Action": "Connect"})
		c.do(d1)
		h := w.next(d1Topic)
		if h.fields["Action"] != "Disconnect" || fmt.Sprint(h.fields["CloseCode"]) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %d", c.name, h.fields, c.want)
		}
	}
}

// A connect that was refused is told of where its identity exists, to that
// organisation alone, and changes nothing.
func TestRefusedConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, rival := w.Seed("acme01"), w.Seed("rival1")
	w.watch(acme, "watch")
	for _, c := range []struct{ id, user, password string }{
		{"d:acme01:sensor:nobody", "use-token-auth", "wrong-token"},
		{"d:acme01:nothing:d1", "use-token-auth", "wrong-token"},
		{"d:nobody1:sensor:d1", "use-token-auth", "wrong-token"},
		{"d:rival1:sensor:d1", "use-token-auth", rival.Tokens["d2"]},
		{"a:acme01:ghost", "a-acme01-0123456789", "wrong-token"},
		{"a:acme01:ghost", rival.APIKey, rival.APIToken},
		{"anything", "a", "b"},
	} {
		if _, err := brokertest.Connect(w.Options(c.id, c.user, c.password)); err == nil {
			t.Errorf("%s is let in", c.id)
		}
	}
	if _, err := brokertest.Connect(w.Options(acme.ClientID("d1"), "use-token-auth", "wrong-token")); err == nil {
		t.Error("d1 is let in with a wrong token")
	}
	w.next("iot-2/app/watch/mon")
	h := <-w.heard // nothing comes before it
	h.want(t, map[string]any{"Action": "FailedConnect", "ClientID": "d:acme01:sensor:d1", "CloseCode": 180, "User": nil})
	if h.retained || h.topic != d1Topic {
		t.Errorf("heard %+v", h)
	}
	if _, ok, err := w.Ledger.State(acme.Tenant, acme.ClientID("d1")); ok || err != nil {
		t.Errorf("a refused connect left a state: %v, %v", ok, err)
	}
	if _, ok, err := w.Ledger.State(rival.Tenant, rival.ClientID("d1")); ok || err != nil {
		t.Errorf("a refused connect left a state: %v, %v", ok, err)
	}
}

// Who comes and goes in one organisation is nobody else's business.
func TestOrganisationsHearTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, rival := w.Seed("acme01"), w.Seed("rival1")
	w.watch(acme, "watch")
	w.next("iot-2/app/watch/mon")
	w.deviceOnline(rival, "d1").Disconnect(20)
	w.deviceOnline(acme, "d2")
	h := <-w.heard
	h.want(t, map[string]any{"ClientID": "d:acme01:sensor:d2"})
	if n := w.Broker.Disconnect(broker.Tenant(acme.Tenant), policy.ClientID(rival.ClientID("d1"))); n != 0 {
		t.Errorf("%d connections of another organisation were closed", n)
	}
}
