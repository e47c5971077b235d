package management_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
	"github.com/cordon-mq/cordon/broker/management"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

const patience = 10 * time.Second

// world is a broker with device management, on a network in memory and a disk that
// outlives it. Organisation acme01 has type sensor with devices d1 and d2.
type world struct {
	t          *testing.T
	disk       *memstore.Disk
	store      store.Store
	registry   *registry.Registry
	broker     *broker.Broker
	management *management.Management
	ledger     *ledger.Ledger
	net        *listentest.Listener
	stop       func()
	org        policy.OrgID
	tenant     ledger.Tenant
	tokens     map[string]string

	clock struct {
		sync.Mutex
		ahead time.Duration
	}
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

func (w *world) now() time.Time {
	w.clock.Lock()
	defer w.clock.Unlock()
	return time.Now().Add(w.clock.ahead)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.clock.Lock()
	defer w.clock.Unlock()
	w.clock.ahead += d
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, disk: memstore.NewDisk(), tokens: map[string]string{}}
	var err error
	w.org, err = policy.ParseOrgID("acme01")
	must(t, err)
	w.start(true)
	t.Cleanup(func() { w.stop() })
	seed, err := w.registry.SeedOrganisation(t.Context(), w.org, "acme")
	must(t, err)
	w.tenant = ledger.Tenant{Org: w.org, Incarnation: seed.Organisation.Incarnation}
	_, err = w.registry.CreateType(t.Context(), w.org, registry.DeviceType{ID: "sensor"})
	must(t, err)
	w.device("d1")
	w.device("d2")
	return w
}

// start begins a run on the disk; one that is not working leaves what comes where it
// is.
func (w *world) start(working bool) {
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
	w.management = management.New(management.Config{Now: w.now}, w.ledger, w.registry)
	w.broker = broker.New(broker.Config{Intake: w.management, IntakePrefix: management.Prefix}, broker.Deps{
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
	changed := w.registry.WatchCommits(w.management.Changed)
	if working {
		must(t, w.management.Start(w.broker, tenants))
	}
	w.net = listentest.NewListener()
	l := listen.New(w.net, listen.Config{Name: "mqtt"})
	served := make(chan error, 1)
	go func() { served <- l.Serve(w.broker.Serve) }()
	w.stop = sync.OnceFunc(func() {
		must(t, l.Close())
		w.management.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, w.broker.Shutdown(ctx))
		must(t, <-served)
		changed()
		unwatch()
		w.registry.Close()
		_ = w.store.Close()
		engine.Close()
	})
}

// crash ends the run as kill -9 does: nothing that happens from now on is kept.
func (w *world) crash(working bool) {
	w.t.Helper()
	must(w.t, w.store.Close())
	w.stop()
	w.start(working)
}

func (w *world) device(id string) {
	w.t.Helper()
	_, token, err := w.registry.CreateDevice(w.t.Context(), w.org, registry.Device{Type: "sensor", ID: policy.ID(id)}, plugins.Secret{})
	must(w.t, err)
	w.tokens[id] = token
}

// device is one that manages itself over MQTT.
type device struct {
	mqtt.Client
	w     *world
	heard chan heard
}

type heard struct {
	topic string
	fields
}

type fields struct {
	Code    int    `json:"rc"`
	Message string `json:"message"`
	ReqID   string `json:"reqId"`
}

// connect brings a device online, which hears what it is told.
func (w *world) connect(id string, kept bool) *device {
	w.t.Helper()
	at := w.net
	d := &device{w: w, heard: make(chan heard, 4096)}
	take := func(_ mqtt.Client, m mqtt.Message) {
		h := heard{topic: m.Topic()}
		if err := json.Unmarshal(m.Payload(), &h.fields); err != nil {
			w.t.Errorf("%s: %q: %v", m.Topic(), m.Payload(), err)
		}
		d.heard <- h
	}
	o := mqtt.NewClientOptions().AddBroker("tcp://broker:1883").SetClientID("d:acme01:sensor:" + id).
		SetUsername("use-token-auth").SetPassword(w.tokens[id]).SetCleanSession(!kept).SetDefaultPublishHandler(take).
		SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return at.Dial(), nil })
	d.Client = mqtt.NewClient(o)
	for _, token := range []func() mqtt.Token{d.Connect, func() mqtt.Token { return d.Subscribe("iotdm-1/#", 1, take) }} {
		if tk := token(); !tk.WaitTimeout(patience) || tk.Error() != nil {
			w.t.Fatalf("%s: %v", id, tk.Error())
		}
	}
	w.t.Cleanup(func() { d.Client.Disconnect(0) })
	return d
}

// say publishes at QoS 1 and waits for the acknowledgement.
func (d *device) say(what, payload string) {
	d.w.t.Helper()
	if tk := d.Publish("iotdevice-1/"+what, 1, false, payload); !tk.WaitTimeout(patience) || tk.Error() != nil {
		d.w.t.Fatalf("%s: %v", what, tk.Error())
	}
}

// hear waits for a message on a topic; others before it are an error.
func (d *device) hear(topic string) heard {
	d.w.t.Helper()
	select {
	case h := <-d.heard:
		if h.topic != "iotdm-1/"+topic {
			d.w.t.Fatalf("heard %+v instead of %s", h, topic)
		}
		return h
	case <-time.After(patience):
		d.w.t.Fatalf("nothing is heard on %s", topic)
	}
	return heard{}
}

// ask says something and answers the code of the answer.
func (d *device) ask(what, payload string) heard {
	d.w.t.Helper()
	d.say(what, payload)
	return d.hear("response")
}

const able = `{"d":{"supports":{"deviceActions":true,"firmwareActions":true}},"reqId":"m"}`

func (d *device) manage() {
	d.w.t.Helper()
	if h := d.ask("mgmt/manage", able); h.Code != 200 {
		d.w.t.Fatalf("%+v", h)
	}
}

// initiate asks devices to do something.
func (w *world) initiate(action string, ids ...string) (string, error) {
	n := ledger.NewRequest{Action: action}
	for _, id := range ids {
		n.Devices = append(n.Devices, ledger.Device{Type: "sensor", ID: policy.ID(id)})
	}
	return w.management.Initiate(w.t.Context(), w.tenant, n)
}

func (w *world) initiated(action string, ids ...string) string {
	w.t.Helper()
	id, err := w.initiate(action, ids...)
	must(w.t, err)
	return id
}

func (w *world) status(request, device string) ledger.Task {
	w.t.Helper()
	task, err := w.management.Task(w.t.Context(), w.tenant, request, "sensor", policy.ID(device))
	must(w.t, err)
	return task
}

// becomes waits until a task has a status.
func (w *world) becomes(request, device string, want ledger.TaskStatus) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%s is %d", device, want), func() bool { return w.status(request, device).Status == want })
}

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
	if h := d.ask("clear/diag/log", `{"reqId":"last"}`); h.ReqID != "last" {
		t.Errorf("%+v", h)
	}
}

// What a device says of itself is merged into the registry.
func TestManageMerges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.registry.UpdateDevice(t.Context(), w.org, "sensor", "d1", func(d *registry.Device) error {
		d.DeviceInfo.Model, d.DeviceInfo.SerialNumber = "M1", "S1"
		return nil
	})
	must(t, err)
	d := w.connect("d1", false)
	d.ask("mgmt/manage", `{"d":{"deviceInfo":{"model":"M2","serialNumber":null,"fwVersion":"2"},"metadata":{"a":1.50}},"reqId":"1"}`)
	found, err := w.registry.Device(t.Context(), w.org, "sensor", "d1")
	must(t, err)
	if i := found.DeviceInfo; i.Model != "M2" || i.SerialNumber != "S1" || i.FwVersion != "2" || fmt.Sprint(found.Metadata["a"]) != "1.50" {
		t.Errorf("the device is %+v", found)
	}
	before := found
	d.ask("mgmt/manage", `{"d":{"deviceInfo":{"model":"M2"}},"reqId":"2"}`)
	if found, err = w.registry.Device(t.Context(), w.org, "sensor", "d1"); err != nil || !found.Updated.Equal(before.Updated) {
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
		r, err := w.management.Request(t.Context(), w.tenant, id)
		if err != nil || r.Open != 0 || r.Failed != 2 || r.Ended.IsZero() {
			t.Errorf("swept %v: %+v, %v", swept, r, err)
		}
		w.management.Sweep()
		eventually(t, "it is swept", func() bool {
			task, ok, err := w.ledger.Task(w.tenant, id, "sensor", "d2")
			return err == nil && ok && task.Status == ledger.TaskTimedOut
		})
	}
	// Nothing of it is left to be asked.
	d := w.connect("d1", false)
	d.manage()
	if h := d.ask("clear/diag/log", `{"reqId":"last"}`); h.ReqID != "last" {
		t.Errorf("%+v", h)
	}
}

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
	eventually(t, "it is accepted", func() bool { return w.status(id, "d1").Accepted })
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
	eventually(t, "nobody is there", func() bool { return w.broker.Stats().Connections["mqtt"] == 0 })
	id := w.initiated("device/reboot", "d1")
	eventually(t, "it waits", func() bool { return w.status(id, "d1").Kept })
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
	if h := d.ask("clear/diag/log", `{"reqId":"last"}`); h.ReqID != "last" {
		t.Errorf("it was asked again: %+v", h)
	}
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
	found, err := w.registry.Device(t.Context(), w.org, "sensor", "d1")
	must(t, err)
	device.Incarnation = found.Incarnation
	eventually(t, "all of it is there, once", func() bool {
		codes, err := w.ledger.Diagnostics(w.tenant, device, ledger.ErrorCodes)
		for i, c := range codes {
			if c.Code != int64(i) {
				t.Fatalf("%+v", codes)
			}
		}
		return err == nil && len(codes) == 10
	})
	w.initiated("device/reboot", "d1")
	eventually(t, "nothing waits", func() bool {
		left := 0
		err := w.store.Scan(store.In(w.org.String(), w.tenant.Incarnation).Prefix(store.KindArrival), store.Key{}, func(store.Key, []byte) bool {
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
	must(t, w.management.Start(w.broker, []broker.Tenant{broker.Tenant(w.tenant)}))
	if h := d.hear("response"); h.Code != 409 || h.ReqID != "late" {
		t.Errorf("%+v", h)
	}
	eventually(t, "there is room again", func() bool {
		d.say("clear/diag/log", `{"reqId":"again"}`)
		return d.hear("response").Code == 200
	})
}

// A namesake of a device that was deleted begins with nothing.
func TestDeletedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.connect("d1", false)
	d.manage()
	d.Disconnect(0)
	id := w.initiated("device/reboot", "d1")
	must(t, w.registry.DeleteDevice(t.Context(), w.org, "sensor", "d1"))
	w.device("d1")
	w.becomes(id, "d1", ledger.TaskUnmanaged)
	if m, err := w.registry.ManagedDevice(t.Context(), w.org, "sensor", "d1"); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the namesake is managed: %+v, %v", m, err)
	}
	d = w.connect("d1", false)
	d.manage()
	if h := d.ask("clear/diag/log", `{"reqId":"last"}`); h.ReqID != "last" {
		t.Errorf("%+v", h)
	}
}

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
	if all, err := w.management.Requests(t.Context(), w.tenant); err != nil || len(all) != 0 {
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

// The oldest that are complete make room, and what is open never does.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = fmt.Sprint("m", i)
		w.device(ids[i])
		_, err := w.registry.ManageDevice(t.Context(), w.org, "sensor", policy.ID(ids[i]), func(_ *registry.Device, m *registry.Managed) error {
			m.Since, m.Renewed, m.Activity, m.Supports = w.now(), w.now(), w.now(), []string{registry.SupportsDeviceActions}
			return nil
		})
		must(t, err)
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
			eventually(t, "they are swept", func() bool {
				all, err := w.ledger.Requests(w.tenant)
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
	all, err := w.management.Requests(t.Context(), w.tenant)
	if err != nil || len(all) != management.MaxRequests {
		t.Errorf("%d are kept, %v", len(all), err)
	}
	if _, err := w.management.Request(t.Context(), w.tenant, first); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the first is still there: %v", err)
	}
	if tasks, err := w.ledger.Tasks(w.tenant, first, "", "", 10); err != nil || len(tasks) != 0 {
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
	_, err := w.registry.AddDevices(t.Context(), w.org, devices)
	must(t, err)
	for _, name := range names {
		_, err := w.registry.ManageDevice(t.Context(), w.org, "sensor", policy.ID(name), func(_ *registry.Device, m *registry.Managed) error {
			m.Since, m.Renewed, m.Activity, m.Supports = w.now(), w.now(), w.now(), []string{registry.SupportsDeviceActions}
			return nil
		})
		must(t, err)
	}
	id := w.initiated("device/reboot", names...)
	w.crash(true)
	r, err := w.management.Request(t.Context(), w.tenant, id)
	if err != nil || r.Devices != len(names) || r.Open != len(names) {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, w.management.Delete(t.Context(), w.tenant, id))
	for _, kind := range []store.Kind{store.KindManagementRequest, store.KindManagementTask, store.KindManagementOpen} {
		must(t, w.store.Scan(store.In(w.org.String(), w.tenant.Incarnation).Prefix(kind), store.Key{}, func(key store.Key, _ []byte) bool {
			t.Errorf("%v is left", key)
			return false
		}))
	}
}
