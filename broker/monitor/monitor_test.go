package monitor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

const patience = 10 * time.Second

// world is a broker with its monitor, on a network in memory and a disk that
// outlives it.
type world struct {
	t        *testing.T
	disk     *memstore.Disk
	store    store.Store
	registry *registry.Registry
	broker   *broker.Broker
	ledger   *ledger.Ledger
	monitor  *monitor.Monitor
	net      *listentest.Listener
	stop     func()
	orgs     map[string]*org
	heard    chan heard
}

type org struct {
	id       policy.OrgID
	key      string
	keyToken string
	tokens   map[string]string
	tenant   ledger.Tenant
}

// heard is one message on a mon topic.
type heard struct {
	topic    string
	retained bool
	fields   map[string]any
}

var bundle = sync.OnceValue(func() *opa.Bundle {
	b, report := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if report.Err() != nil {
		panic(report.Err())
	}
	return b
})

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, disk: memstore.NewDisk(), orgs: map[string]*org{}, heard: make(chan heard, 1000)}
	w.start(monitor.Config{})
	t.Cleanup(func() { w.stop() })
	return w
}

// start begins a run on the disk.
func (w *world) start(cfg monitor.Config) {
	w.t.Helper()
	t := w.t
	var err error
	w.store, err = w.disk.Open(store.Options{})
	must(t, err)
	w.registry, err = registry.Open(w.store, registry.Options{DefaultConnectionLevel: registry.LevelTLSOptional})
	must(t, err)
	engine := opa.New(opa.Options{Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second})
	engine.Activate(bundle())
	w.ledger = ledger.On(w.store)
	w.monitor = monitor.New(cfg, w.ledger, w.registry)
	w.broker = broker.New(broker.Config{Monitor: w.monitor}, broker.Deps{
		Decider: engine,
		Verifiers: plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
			{Verifier: registry.VerifierName}: w.registry.TokenVerifier(),
		}, nil),
		Registry: feed.Registry{Registry: w.registry}, Store: w.store,
	})
	list, _, err := w.registry.Organisations(t.Context(), registry.Page{})
	must(t, err)
	var tenants []broker.Tenant
	for _, o := range list {
		tenants = append(tenants, broker.Tenant{Org: o.ID, Incarnation: o.Incarnation})
	}
	_, err = w.broker.Restore(t.Context(), tenants)
	must(t, err)
	unwatch := w.registry.Watch(func(ch registry.Change) { w.broker.Apply(feed.Change(ch)) })
	forget := w.registry.WatchCommits(w.monitor.Changed)
	must(t, w.monitor.Start(t.Context(), w.broker, tenants))
	w.net = listentest.NewListener()
	l := listen.New(w.net, listen.Config{Name: "mqtt"})
	served := make(chan error, 1)
	go func() { served <- l.Serve(w.broker.Serve) }()
	w.stop = sync.OnceFunc(func() {
		must(t, l.Close())
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, w.broker.Shutdown(ctx))
		must(t, <-served)
		forget()
		unwatch()
		w.monitor.Stop()
		w.registry.Close()
		_ = w.store.Close()
	})
}

// crash ends the run as kill -9 does: nothing that happens from now on is kept.
func (w *world) crash() {
	w.t.Helper()
	must(w.t, w.store.Close())
	w.stop()
	w.start(monitor.Config{})
}

// org returns an organisation with type sensor and devices d1 and d2.
func (w *world) org(name string) *org {
	w.t.Helper()
	if o := w.orgs[name]; o != nil {
		return o
	}
	id, err := policy.ParseOrgID(name)
	must(w.t, err)
	seed, err := w.registry.SeedOrganisation(w.t.Context(), id, name)
	must(w.t, err)
	o := &org{id: id, key: seed.APIKey.Key, keyToken: seed.APIToken, tokens: map[string]string{}}
	o.tenant = ledger.Tenant{Org: id, Incarnation: seed.Organisation.Incarnation}
	w.orgs[name] = o
	_, err = w.registry.CreateType(w.t.Context(), id, registry.DeviceType{ID: "sensor"})
	must(w.t, err)
	w.device(o, "d1")
	w.device(o, "d2")
	return o
}

func (w *world) device(o *org, id string) {
	w.t.Helper()
	_, token, err := w.registry.CreateDevice(w.t.Context(), o.id, registry.Device{Type: "sensor", ID: policy.ID(id)}, plugins.Secret{})
	must(w.t, err)
	o.tokens[id] = token
}

func (o *org) clientID(device string) string { return "d:" + o.id.String() + ":sensor:" + device }

// options are those of a client that does not come back by itself.
func (w *world) options(id, user, password string) *mqtt.ClientOptions {
	at := w.net
	return mqtt.NewClientOptions().AddBroker("tcp://broker:1883").SetClientID(id).SetUsername(user).SetPassword(password).
		SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return at.Dial(), nil })
}

// connect returns a client and what its CONNECT came to.
func (w *world) connect(id, user, password string) (mqtt.Client, error) {
	c := mqtt.NewClient(w.options(id, user, password))
	token := c.Connect()
	if !token.WaitTimeout(patience) {
		return c, fmt.Errorf("%s: no CONNACK", id)
	}
	return c, token.Error()
}

func (w *world) deviceOnline(o *org, id string) mqtt.Client {
	w.t.Helper()
	c, err := w.connect(o.clientID(id), "use-token-auth", o.tokens[id])
	must(w.t, err)
	return c
}

// watch has an application of o hear who comes and goes.
func (w *world) watch(o *org, app string) mqtt.Client {
	w.t.Helper()
	c, err := w.connect("a:"+o.id.String()+":"+app, o.key, o.keyToken)
	must(w.t, err)
	filters := map[string]byte{"iot-2/type/+/id/+/mon": 0, "iot-2/app/+/mon": 0}
	token := c.SubscribeMultiple(filters, func(_ mqtt.Client, m mqtt.Message) {
		h := heard{topic: m.Topic(), retained: m.Retained()}
		if json.Unmarshal(m.Payload(), &h.fields) == nil {
			w.heard <- h
		}
	})
	if !token.WaitTimeout(patience) || token.Error() != nil {
		w.t.Fatal("not subscribed: ", token.Error())
	}
	return c
}

// next is the next message about a topic.
func (w *world) next(topic string) heard {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case h := <-w.heard:
			if h.topic == topic {
				return h
			}
		case <-deadline:
			w.t.Fatalf("nothing is heard on %s", topic)
		}
	}
}

func (h heard) want(t *testing.T, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if got := h.fields[name]; fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("%s: %s = %v, want %v; the message is %v", h.topic, name, got, value, h.fields)
		}
	}
}

// eventually waits until ok answers true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never: ", what)
		}
	}
}

const d1Topic = "iot-2/type/sensor/id/d1/mon"

func TestWhoComesAndGoesIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.org("acme01")
	w.watch(acme, "watch")
	w.next("iot-2/app/watch/mon").want(t, map[string]any{"Action": "Connect", "ClientID": "a:acme01:watch", "User": acme.key})

	d1 := w.deviceOnline(acme, "d1")
	said := w.next(d1Topic)
	said.want(t, map[string]any{
		"Action": "Connect", "ClientID": "d:acme01:sensor:d1", "ClientAddr": "127.0.0.1", "Protocol": "mqtt4",
		"Secure": false, "Durable": false, "CloseCode": nil, "Reason": nil, "User": nil, "ReadMsg": 0,
	})
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(said.fields["Time"])); err != nil {
		t.Error(err)
	}
	d1.Publish("iot-2/evt/status/fmt/json", 1, false, "{}").WaitTimeout(patience)
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
	acme := w.org("acme01")
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
	s, ok, err := w.ledger.State(acme.tenant, acme.clientID("d1"))
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
	acme := w.org("acme01")
	w.watch(acme, "watch")
	for _, c := range []struct {
		name string
		do   func(c mqtt.Client)
		want int
	}{
		{"a topic that there is not", func(c mqtt.Client) { c.Publish("iot-2/cmd/x/fmt/json", 0, false, "x") }, 276},
		{"by an administrator", func(mqtt.Client) {
			if n := w.broker.Disconnect(broker.Tenant(acme.tenant), policy.ClientID(acme.clientID("d1"))); n != 1 {
				t.Errorf("%d connections were closed", n)
			}
		}, 94},
		{"too large", func(c mqtt.Client) { c.Publish("iot-2/evt/x/fmt/bin", 0, false, make([]byte, 200<<10)) }, 287},
		{"disabled", func(mqtt.Client) {
			_, err := w.registry.UpdateDevice(t.Context(), acme.id, "sensor", "d1", func(d *registry.Device) error { d.Disabled = true; return nil })
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
	acme, rival := w.org("acme01"), w.org("rival1")
	w.watch(acme, "watch")
	for _, c := range []struct{ id, user, password string }{
		{"d:acme01:sensor:nobody", "use-token-auth", "wrong-token"},
		{"d:acme01:nothing:d1", "use-token-auth", "wrong-token"},
		{"d:nobody1:sensor:d1", "use-token-auth", "wrong-token"},
		{"d:rival1:sensor:d1", "use-token-auth", rival.tokens["d2"]},
		{"a:acme01:ghost", "a-acme01-0123456789", "wrong-token"},
		{"a:acme01:ghost", rival.key, rival.keyToken},
		{"anything", "a", "b"},
	} {
		if _, err := w.connect(c.id, c.user, c.password); err == nil {
			t.Errorf("%s is let in", c.id)
		}
	}
	if _, err := w.connect(acme.clientID("d1"), "use-token-auth", "wrong-token"); err == nil {
		t.Error("d1 is let in with a wrong token")
	}
	w.next("iot-2/app/watch/mon")
	h := <-w.heard // nothing comes before it
	h.want(t, map[string]any{"Action": "FailedConnect", "ClientID": "d:acme01:sensor:d1", "CloseCode": 180, "User": nil})
	if h.retained || h.topic != d1Topic {
		t.Errorf("heard %+v", h)
	}
	if _, ok, err := w.ledger.State(acme.tenant, acme.clientID("d1")); ok || err != nil {
		t.Errorf("a refused connect left a state: %v, %v", ok, err)
	}
	if _, ok, err := w.ledger.State(rival.tenant, rival.clientID("d1")); ok || err != nil {
		t.Errorf("a refused connect left a state: %v, %v", ok, err)
	}
}

// Whoever was connected when the process died is disconnected afterwards, and what
// is retained says so.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.org("acme01")
	w.deviceOnline(acme, "d1")
	w.deviceOnline(acme, "d2").Disconnect(20)
	connected := func(id string, want bool) func() bool {
		return func() bool {
			s, ok, err := w.ledger.State(acme.tenant, acme.clientID(id))
			return err == nil && ok && s.Connected == want
		}
	}
	eventually(t, "d1 is noted", connected("d1", true))
	eventually(t, "d2 has left", func() bool {
		s, ok, _ := w.ledger.State(acme.tenant, acme.clientID("d2"))
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
	d, err := w.registry.Device(t.Context(), acme.id, "sensor", "d1")
	must(t, err)
	lines, err := w.ledger.Lines(acme.tenant, ledger.Device{Type: "sensor", ID: "d1", Incarnation: d.Incarnation}, time.Time{})
	if err != nil || len(lines) != 2 {
		t.Errorf("the log is %v, %v", lines, err)
	}
}

// A shutdown that is orderly says goodbye in the records at once; what is retained
// follows at the next start.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.org("acme01")
	w.deviceOnline(acme, "d1")
	w.stop()
	w.start(monitor.Config{})
	s, ok, err := w.ledger.State(acme.tenant, acme.clientID("d1"))
	if err != nil || !ok || s.Connected || s.CloseCode != 93 {
		t.Errorf("the state is %+v, %v", s, err)
	}
	w.watch(acme, "watch")
	w.next(d1Topic).want(t, map[string]any{"Action": "Disconnect", "CloseCode": 93})
}

// A namesake of a device that was deleted begins with nothing.
func TestDeletedDeviceLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme := w.org("acme01")
	must(t, w.monitor.SetNoting(t.Context(), acme.tenant, ledger.Noting{LastEvents: true, TTLDays: 7, ClientState: true}))
	d1 := w.deviceOnline(acme, "d1")
	d1.Publish("iot-2/evt/status/fmt/json", 1, false, "{}").WaitTimeout(patience)
	before, err := w.registry.Device(t.Context(), acme.id, "sensor", "d1")
	must(t, err)
	was := ledger.Device{Type: "sensor", ID: "d1", Incarnation: before.Incarnation}
	eventually(t, "the event is kept", func() bool {
		events, err := w.ledger.Events(acme.tenant, was, time.Time{})
		return err == nil && len(events) == 1
	})
	must(t, w.registry.DeleteDevice(t.Context(), acme.id, "sensor", "d1"))
	w.device(acme, "d1")
	eventually(t, "nothing is left", func() bool {
		events, _ := w.ledger.Events(acme.tenant, was, time.Time{})
		lines, _ := w.ledger.Lines(acme.tenant, was, time.Time{})
		_, ok, _ := w.ledger.State(acme.tenant, acme.clientID("d1"))
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
	acme := w.org("acme01")
	w.stop()
	w.start(monitor.Config{Queue: 1})
	for i := range 20 {
		w.device(acme, fmt.Sprintf("x%d", i))
	}
	var online sync.WaitGroup
	for i := range 20 {
		online.Go(func() {
			id := fmt.Sprintf("x%d", i)
			c, err := w.connect(acme.clientID(id), "use-token-auth", acme.tokens[id])
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
		eventually(t, "every state is right", func() bool {
			s, ok, err := w.ledger.State(acme.tenant, acme.clientID(fmt.Sprintf("x%d", i)))
			// One that came and went unseen leaves no trace.
			return err == nil && (ok && s.Connected == (i%2 != 0) || !ok && i%2 == 0)
		})
	}
}

// Who comes and goes in one organisation is nobody else's business.
func TestOrganisationsHearTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, rival := w.org("acme01"), w.org("rival1")
	w.watch(acme, "watch")
	w.next("iot-2/app/watch/mon")
	w.deviceOnline(rival, "d1").Disconnect(20)
	w.deviceOnline(acme, "d2")
	h := <-w.heard
	h.want(t, map[string]any{"ClientID": "d:acme01:sensor:d2"})
	if n := w.broker.Disconnect(broker.Tenant(acme.tenant), policy.ClientID(rival.clientID("d1"))); n != 0 {
		t.Errorf("%d connections of another organisation were closed", n)
	}
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, rival := w.org("acme01"), w.org("rival1")
	w.deviceOnline(acme, "d1").Publish("iot-2/evt/status/fmt/bin", 1, false, make([]byte, 1000)).WaitTimeout(patience)
	w.stop()
	w.start(monitor.Config{})
	now := time.Now()
	days, err := w.ledger.Traffic(acme.tenant, now.AddDate(0, 0, -1), now)
	if err != nil || len(days) == 0 || days[len(days)-1].Bytes < 1000 {
		t.Errorf("the traffic is %v, %v", days, err)
	}
	if days, err := w.ledger.Traffic(rival.tenant, now.AddDate(0, 0, -1), now); err != nil || len(days) != 0 {
		t.Errorf("the traffic of nobody is %v, %v", days, err)
	}
}
