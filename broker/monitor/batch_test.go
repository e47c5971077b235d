package monitor_test

import (
	"encoding/json"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
	"github.com/cordon-mq/cordon/policy/topic"
)

// counting is a store that counts what is written, by kind.
type counting struct {
	store.Store
	guarded struct {
		sync.Mutex
		puts map[store.Kind]int
	}
}

func (c *counting) Commit(ops []store.Op, done func(error)) {
	c.guarded.Lock()
	for _, op := range ops {
		c.guarded.puts[op.Key().Kind()]++
	}
	c.guarded.Unlock()
	c.Store.Commit(ops, done)
}

func (c *counting) puts(kind store.Kind) int {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	return c.guarded.puts[kind]
}

// told is a monitor that is told things without connections. What it is told
// before it is started comes in one batch.
type told struct {
	t        *testing.T
	store    *counting
	registry *registry.Registry
	ledger   *ledger.Ledger
	monitor  *monitor.Monitor
	broker   *broker.Broker
	voice    *broker.Voice
	tenant   broker.Tenant
	device   registry.Device
}

func newTold(t *testing.T) *told {
	t.Helper()
	b := &told{t: t, store: &counting{Store: memstore.New()}}
	b.store.guarded.puts = map[store.Kind]int{}
	var err error
	b.registry, err = registry.Open(b.store, registry.Options{})
	must(t, err)
	org, err := policy.ParseOrgID("acme01")
	must(t, err)
	seed, err := b.registry.SeedOrganisation(t.Context(), org, "acme")
	must(t, err)
	b.tenant = broker.Tenant{Org: org, Incarnation: seed.Organisation.Incarnation}
	_, err = b.registry.CreateType(t.Context(), org, registry.DeviceType{ID: "sensor"})
	must(t, err)
	b.register()
	b.ledger = ledger.On(b.store)
	b.monitor = monitor.New(monitor.Config{}, b.ledger, b.registry)
	b.broker = broker.New(broker.Config{Monitor: b.monitor}, broker.Deps{
		Decider: &policytest.Recorder{}, Registry: feed.Registry{Registry: b.registry}, Store: b.store,
	})
	b.voice = b.broker.Voice(mustMounts(t))
	t.Cleanup(func() {
		b.monitor.Stop()
		b.registry.Close()
		_ = b.store.Close()
	})
	return b
}

// register makes device d1.
func (b *told) register() {
	b.t.Helper()
	d, _, err := b.registry.CreateDevice(b.t.Context(), b.tenant.Org, registry.Device{Type: "sensor", ID: "d1"}, plugins.Secret{})
	must(b.t, err)
	b.device = d
}

func (b *told) start() {
	b.t.Helper()
	must(b.t, b.monitor.Start(b.t.Context(), b.broker, []broker.Tenant{b.tenant}))
}

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// visit is connection n of d1, which begins n minutes after noon.
func (b *told) visit(n uint64) *broker.Visit {
	return &broker.Visit{
		Number: n, Tenant: b.tenant, Began: noon.Add(time.Duration(n) * time.Minute),
		Client:    policy.Client{ID: "d:acme01:sensor:d1", Protocol: "5", Address: netip.MustParseAddr("127.0.0.1"), Listener: "mqtts"},
		Principal: &policy.Principal{Org: b.tenant.Org, Kind: policy.KindDevice, Type: "sensor", ID: "d1", DeviceIncarnation: b.device.Incarnation},
	}
}

// application is connection n of application watch.
func (b *told) application(n uint64) *broker.Visit {
	v := b.visit(n)
	v.Client.ID = "a:acme01:watch"
	v.Principal = &policy.Principal{Org: b.tenant.Org, Kind: policy.KindApplication, App: "watch", APIKey: "a-acme01-0123456789"}
	return v
}

// leaving ends connection n half a minute after it began.
func leaving(n uint64, code broker.CloseCode) broker.Leaving {
	return broker.Leaving{At: noon.Add(time.Duration(n)*time.Minute + 30*time.Second), Code: code, Reason: code.String(), ReadBytes: n}
}

// retained is the Action that is retained under a topic and its Time, empty where
// nothing is.
func (b *told) retained(name string) string {
	b.t.Helper()
	parsed, err := topic.ParseName(name)
	must(b.t, err)
	payload, had := b.voice.Retained(b.tenant, parsed)
	if !had {
		return ""
	}
	var said struct{ Action, Time string }
	must(b.t, json.Unmarshal(payload, &said))
	return said.Action + " " + said.Time[len("2026-01-31T"):len("2026-01-31T12:00:00")]
}

func (b *told) state(id string) ledger.State {
	b.t.Helper()
	s, _, err := b.ledger.State(ledger.Tenant(b.tenant), id)
	must(b.t, err)
	return s
}

func (b *told) lines() []ledger.Line {
	b.t.Helper()
	lines, err := b.ledger.Lines(ledger.Tenant(b.tenant), ledger.Device{Type: "sensor", ID: "d1", Incarnation: b.device.Incarnation}, time.Time{})
	must(b.t, err)
	return lines
}

// What was told together leaves the same records as if each had been told alone:
// the state and what is retained are of the last, the log has all.
func TestToldTogether(t *testing.T) {
	t.Parallel()
	const appTopic = "iot-2/app/watch/mon"
	for _, c := range []struct {
		name     string
		told     func(b *told)
		client   string
		topic    string
		retained string
		want     ledger.State // ConnectTime, DisconnectTime, CloseCode, Connected, ReadBytes
		lines    int
	}{
		{
			"comes and goes", func(b *told) {
				b.monitor.Online(b.visit(1))
				b.monitor.Offline(b.visit(1), leaving(1, broker.ClosedByClient))
			}, "d:acme01:sensor:d1", d1Topic, "Disconnect 12:01:30",
			ledger.State{ConnectTime: noon.Add(time.Minute), DisconnectTime: noon.Add(90 * time.Second), CloseCode: 91, ReadBytes: 1},
			2,
		},
		{
			"comes, goes and comes", func(b *told) {
				b.monitor.Online(b.visit(1))
				b.monitor.Offline(b.visit(1), leaving(1, broker.ClosedTimeout))
				b.monitor.Online(b.visit(2))
			}, "d:acme01:sensor:d1", d1Topic, "Connect 12:02:00",
			ledger.State{
				Connected: true, ConnectTime: noon.Add(2 * time.Minute), DisconnectTime: noon.Add(90 * time.Second), CloseCode: 160, ReadBytes: 1,
			},
			3,
		},
		{
			"is taken over", func(b *told) {
				b.monitor.Online(b.visit(1))
				b.monitor.Offline(b.visit(1), leaving(1, broker.ClosedTakenOver))
				b.monitor.Online(b.visit(2))
			}, "d:acme01:sensor:d1", d1Topic, "Connect 12:02:00",
			ledger.State{
				Connected: true, ConnectTime: noon.Add(2 * time.Minute), DisconnectTime: noon.Add(90 * time.Second), CloseCode: 288, ReadBytes: 1,
			},
			3,
		},
		{
			"is taken over, and the older one ends after that", func(b *told) {
				b.monitor.Online(b.visit(1))
				b.monitor.Online(b.visit(2))
				b.monitor.Offline(b.visit(1), leaving(3, broker.ClosedTakenOver))
			}, "d:acme01:sensor:d1", d1Topic, "Connect 12:02:00",
			ledger.State{
				Connected: true, ConnectTime: noon.Add(2 * time.Minute), DisconnectTime: noon.Add(210 * time.Second), CloseCode: 288, ReadBytes: 3,
			},
			3,
		},
		{
			"an application comes", func(b *told) { b.monitor.Online(b.application(1)) }, "a:acme01:watch", appTopic, "Connect 12:01:00",
			ledger.State{Connected: true, ConnectTime: noon.Add(time.Minute)},
			0,
		},
		{
			"an application comes and goes", func(b *told) {
				b.monitor.Online(b.application(1))
				b.monitor.Offline(b.application(1), leaving(1, broker.ClosedNormally))
			}, "a:acme01:watch", appTopic, "",
			ledger.State{ConnectTime: noon.Add(time.Minute), DisconnectTime: noon.Add(90 * time.Second), ReadBytes: 1},
			0,
		},
		{
			"a refused one changes nothing", func(b *told) {
				b.monitor.Online(b.visit(1))
				b.monitor.Refused(b.visit(0), leaving(5, broker.ClosedNotAuthorised))
			}, "d:acme01:sensor:d1", d1Topic, "Connect 12:01:00",
			ledger.State{Connected: true, ConnectTime: noon.Add(time.Minute)},
			2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newTold(t)
			c.told(b)
			b.start()
			b.monitor.Stop()
			s := b.state(c.client)
			got := ledger.State{
				Connected: s.Connected, ConnectTime: s.ConnectTime, DisconnectTime: s.DisconnectTime, CloseCode: s.CloseCode, ReadBytes: s.ReadBytes,
			}
			if got != c.want {
				t.Errorf("the state is\n%+v, want\n%+v", got, c.want)
			}
			if got := b.retained(c.topic); got != c.retained {
				t.Errorf("%q is retained, want %q", got, c.retained)
			}
			if got := b.lines(); len(got) != c.lines {
				t.Errorf("the log is %v", got)
			}
			b.monitor = monitor.New(monitor.Config{}, b.ledger, b.registry) // Stop is the cleanup's, too
		})
	}
}

// A connect alone keeps what was stored of the disconnect before it.
func TestLaterBatchKeepsTheLastDisconnect(t *testing.T) {
	t.Parallel()
	b := newTold(t)
	b.monitor.Online(b.visit(1))
	b.monitor.Offline(b.visit(1), leaving(1, broker.ClosedTimeout))
	b.start()
	brokertest.Eventually(t, "d1 has left", func() bool { return b.state("d:acme01:sensor:d1").CloseCode == 160 })
	b.monitor.Online(b.visit(2))
	brokertest.Eventually(t, "d1 is back", func() bool { return b.state("d:acme01:sensor:d1").Connected })
	s := b.state("d:acme01:sensor:d1")
	if s.CloseCode != 160 || s.ReadBytes != 1 || !s.DisconnectTime.Equal(noon.Add(90*time.Second)) || s.ActivityEvent != "Connect" {
		t.Errorf("the state is %+v", s)
	}
	b.monitor.Offline(b.visit(1), leaving(3, broker.ClosedTakenOver)) // it was told of already, and comes late
	brokertest.Eventually(t, "the take-over is noted", func() bool { return b.state("d:acme01:sensor:d1").CloseCode == 288 })
	if s := b.state("d:acme01:sensor:d1"); !s.Connected || !s.ConnectTime.Equal(noon.Add(2*time.Minute)) {
		t.Errorf("the state is %+v", s)
	}
	brokertest.Eventually(t, "what is retained is of the connection", func() bool { return b.retained(d1Topic) == "Connect 12:02:00" })
}

// However often a device comes and goes within a batch, it is written once, and
// what is retained is not stored at all.
func TestWrittenOnce(t *testing.T) {
	t.Parallel()
	b := newTold(t)
	for n := range uint64(100) {
		b.monitor.Online(b.visit(n + 1))
		b.monitor.Offline(b.visit(n+1), leaving(n+1, broker.ClosedByClient))
	}
	b.start()
	brokertest.Eventually(t, "the last one is noted", func() bool { return b.retained(d1Topic) == "Disconnect 13:40:30" })
	if n := b.store.puts(store.KindClientState); n != 1 {
		t.Errorf("the state was written %d times", n)
	}
	if n := b.store.puts(store.KindConnectionLog); n > ledger.LogLines/8+1 {
		t.Errorf("the log took %d writes", n)
	}
	if n := b.store.puts(store.KindRetained); n != 0 {
		t.Errorf("%d retained messages were stored", n)
	}
	lines := b.lines()
	if len(lines) != ledger.LogLines || lines[0].Time != leaving(100, 0).At {
		t.Errorf("the log has %d lines, the newest %v", len(lines), lines[0])
	}
	for i := range lines[1:] {
		if lines[i+1].Time.After(lines[i].Time) {
			t.Fatalf("line %d is newer than the one before it", i+1)
		}
	}
}

// What is said of a device while it is deleted does not stay, unless it is of a
// namesake.
func TestRetainedOfTheDeleted(t *testing.T) {
	t.Parallel()
	b := newTold(t)
	forget := b.registry.WatchCommits(b.monitor.Changed) // the broker itself is told nothing here
	t.Cleanup(forget)
	b.monitor.Online(b.visit(1))
	b.start()
	brokertest.Eventually(t, "d1 is said to be here", func() bool { return b.retained(d1Topic) != "" })
	must(t, b.registry.DeleteDevice(t.Context(), b.tenant.Org, "sensor", "d1"))
	brokertest.Eventually(t, "nothing is retained of it", func() bool { return b.retained(d1Topic) == "" })
	b.monitor.Offline(b.visit(1), leaving(1, broker.ClosedByAdmin))

	b.register()
	b.monitor.Online(b.visit(2))
	b.monitor.Offline(b.visit(2), leaving(2, broker.ClosedByClient))
	brokertest.Eventually(t, "the namesake is noted", func() bool { return b.retained(d1Topic) == "Disconnect 12:02:30" })
	late := registry.Change{
		Kind: registry.SubjectDeleted, Org: b.tenant.Org, Incarnation: b.tenant.Incarnation,
		Type: "sensor", ID: "d1", DeviceIncarnation: b.device.Incarnation - 1,
	}
	b.monitor.Changed([]registry.Change{late})
	b.monitor.Online(b.visit(3))
	brokertest.Eventually(t, "the namesake comes again", func() bool { return b.retained(d1Topic) == "Connect 12:03:00" })
	if s := b.state("d:acme01:sensor:d1"); s.CloseCode != 91 {
		t.Errorf("the state of the namesake is %+v", s)
	}
}
