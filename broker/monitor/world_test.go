package monitor_test

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
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/topic"
	"github.com/cordon-mq/cordon/rego"
)

// world is a broker with its monitor, on a disk that outlives it.
type world struct {
	*brokertest.Node
	t       *testing.T
	monitor *monitor.Monitor
	stop    func()
	heard   chan heard
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

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Node: brokertest.NewNode(t), t: t, heard: make(chan heard, 1000)}
	w.start(monitor.Config{})
	t.Cleanup(func() { w.stop() })
	return w
}

// start begins a run on the disk.
func (w *world) start(cfg monitor.Config) {
	w.t.Helper()
	w.Open()
	engine := opa.New(opa.Options{Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second})
	engine.Activate(bundle())
	w.monitor = monitor.New(cfg, w.Ledger, w.Registry)
	tenants := w.Restore(broker.Config{Monitor: w.monitor}, engine)
	forget := w.Registry.WatchCommits(w.monitor.Changed)
	must(w.t, w.monitor.Start(w.t.Context(), w.Broker, tenants))
	w.Listen()
	w.stop = sync.OnceFunc(func() {
		w.StopListening()
		w.Shutdown()
		forget()
		w.monitor.Stop()
		w.Close()
		engine.Close()
	})
}

// crash ends the run as kill -9 does: nothing that happens from now on is kept.
func (w *world) crash() {
	w.t.Helper()
	must(w.t, w.Store.Close())
	w.stop()
	w.start(monitor.Config{})
}

func (w *world) deviceOnline(o *brokertest.Organisation, id string) mqtt.Client {
	w.t.Helper()
	c, err := brokertest.Connect(w.DeviceOptions(o, id))
	must(w.t, err)
	return c
}

// watch has an application of o hear who comes and goes.
func (w *world) watch(o *brokertest.Organisation, app string) mqtt.Client {
	w.t.Helper()
	c, err := brokertest.Connect(w.Options("a:"+o.ID.String()+":"+app, o.APIKey, o.APIToken))
	must(w.t, err)
	filters := map[string]byte{"iot-2/type/+/id/+/mon": 0, "iot-2/app/+/mon": 0}
	must(w.t, brokertest.Acknowledged(c.SubscribeMultiple(filters, func(_ mqtt.Client, m mqtt.Message) {
		h := heard{topic: m.Topic(), retained: m.Retained()}
		if json.Unmarshal(m.Payload(), &h.fields) == nil {
			w.heard <- h
		}
	})))
	return c
}

const d1Topic = "iot-2/type/sensor/id/d1/mon"

// next is the next message about a topic.
func (w *world) next(topic string) heard {
	w.t.Helper()
	deadline := time.After(brokertest.Patience)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustMounts(t *testing.T) topic.Mounts {
	t.Helper()
	m, err := topic.NewMounts([]topic.Mount{{Device: &topic.DeviceLevels{Type: 2, ID: 4}}})
	must(t, err)
	return m
}

func mustName(t *testing.T, name string) topic.Name {
	t.Helper()
	n, err := topic.ParseName(name)
	must(t, err)
	return n
}
