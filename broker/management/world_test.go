package management_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/management"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// world is a broker with device management, on a disk that outlives it.
// Organisation acme01 has type sensor with devices d1 and d2.
type world struct {
	*brokertest.Node
	t          *testing.T
	management *management.Management
	acme       *brokertest.Organisation
	stop       func()

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

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Node: brokertest.NewNode(t), t: t}
	w.start(true)
	t.Cleanup(func() { w.stop() })
	w.acme = w.Seed("acme01")
	return w
}

// start begins a run on the disk; one that is not working leaves what comes where it
// is.
func (w *world) start(working bool) {
	w.t.Helper()
	w.Open()
	engine := opa.New(opa.Options{Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second})
	engine.Activate(bundle())
	w.management = management.New(management.Config{Now: w.now}, w.Ledger, w.Registry)
	tenants := w.Restore(broker.Config{Intake: w.management, IntakePrefix: management.Prefix}, engine)
	changed := w.Registry.WatchCommits(w.management.Changed)
	if working {
		must(w.t, w.management.Start(w.Broker, tenants))
	}
	w.Listen()
	w.stop = sync.OnceFunc(func() {
		w.StopListening()
		w.management.Stop()
		w.Shutdown()
		changed()
		w.Close()
		engine.Close()
	})
}

// crash ends the run as kill -9 does: nothing that happens from now on is kept.
func (w *world) crash(working bool) {
	w.t.Helper()
	must(w.t, w.Store.Close())
	w.stop()
	w.start(working)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
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
	d := &device{w: w, heard: make(chan heard, 4096)}
	take := func(_ mqtt.Client, m mqtt.Message) {
		h := heard{topic: m.Topic()}
		if err := json.Unmarshal(m.Payload(), &h.fields); err != nil {
			w.t.Errorf("%s: %q: %v", m.Topic(), m.Payload(), err)
		}
		d.heard <- h
	}
	var err error
	d.Client, err = brokertest.Connect(w.DeviceOptions(w.acme, id).SetCleanSession(!kept).SetDefaultPublishHandler(take))
	must(w.t, err)
	must(w.t, brokertest.Acknowledged(d.Subscribe("iotdm-1/#", 1, take)))
	w.t.Cleanup(func() { d.Client.Disconnect(0) })
	return d
}

// say publishes at QoS 1 and waits for the acknowledgement.
func (d *device) say(what, payload string) {
	d.w.t.Helper()
	if err := brokertest.Acknowledged(d.Publish("iotdevice-1/"+what, 1, false, payload)); err != nil {
		d.w.t.Fatalf("%s: %v", what, err)
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
	case <-time.After(brokertest.Patience):
		d.w.t.Fatalf("nothing is heard on %s", topic)
	}
	return heard{}
}

// ask says something and returns the answer.
func (d *device) ask(what, payload string) heard {
	d.w.t.Helper()
	d.say(what, payload)
	return d.hear("response")
}

// hearsNoMore checks that nothing waits for the device: the answer to what it says now
// is the next that it hears.
func (d *device) hearsNoMore() {
	d.w.t.Helper()
	if h := d.ask("clear/diag/log", `{"reqId":"last"}`); h.ReqID != "last" {
		d.w.t.Errorf("there was more: %+v", h)
	}
}

const able = `{"d":{"supports":{"deviceActions":true,"firmwareActions":true}},"reqId":"m"}`

func (d *device) manage() {
	d.w.t.Helper()
	if h := d.ask("mgmt/manage", able); h.Code != 200 {
		d.w.t.Fatalf("%+v", h)
	}
}

// managed makes a device one that can be asked to reboot, though it never said so.
func (w *world) managed(id string) {
	w.t.Helper()
	_, err := w.Registry.ManageDevice(w.t.Context(), w.acme.ID, "sensor", policy.ID(id), func(_ *registry.Device, m *registry.Managed) error {
		m.Since, m.Renewed, m.Activity, m.Supports = w.now(), w.now(), w.now(), []string{registry.SupportsDeviceActions}
		return nil
	})
	must(w.t, err)
}

// initiate asks devices to do something.
func (w *world) initiate(action string, ids ...string) (string, error) {
	n := ledger.NewRequest{Action: action}
	for _, id := range ids {
		n.Devices = append(n.Devices, ledger.Device{Type: "sensor", ID: policy.ID(id)})
	}
	return w.management.Initiate(w.t.Context(), w.acme.Tenant, n)
}

func (w *world) initiated(action string, ids ...string) string {
	w.t.Helper()
	id, err := w.initiate(action, ids...)
	must(w.t, err)
	return id
}

func (w *world) status(request, device string) ledger.Task {
	w.t.Helper()
	task, err := w.management.Task(w.t.Context(), w.acme.Tenant, request, "sensor", policy.ID(device))
	must(w.t, err)
	return task
}

// becomes waits until a task has a status.
func (w *world) becomes(request, device string, want ledger.TaskStatus) {
	w.t.Helper()
	brokertest.Eventually(w.t, fmt.Sprintf("%s is %d", device, want), func() bool { return w.status(request, device).Status == want })
}
