package monitor_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
)

// BenchmarkComeAndGo is what one connection of a device costs beside the way of
// its packets, on a disk: two messages, two lines, its state. CPU-µs/op has the
// store's own goroutines in it, and its work on tables. What that comes to beside a
// connection is in bench, as connects and connects-unmonitored.
func BenchmarkComeAndGo(b *testing.B) {
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	st, err := badgerstore.Open(b.TempDir(), badgerstore.Options{})
	check(err)
	reg, err := registry.Open(st, registry.Options{})
	check(err)
	org, err := policy.ParseOrgID("acme01")
	check(err)
	seed, err := reg.SeedOrganisation(b.Context(), org, "acme")
	check(err)
	_, err = reg.CreateType(b.Context(), org, registry.DeviceType{ID: "sensor"})
	check(err)
	tenant := broker.Tenant{Org: org, Incarnation: seed.Organisation.Incarnation}
	visits := make([]broker.Visit, 1000)
	for i := range visits {
		d, _, err := reg.CreateDevice(b.Context(), org, registry.Device{Type: "sensor", ID: policy.ID(fmt.Sprintf("d%d", i))}, plugins.Secret{})
		check(err)
		visits[i] = broker.Visit{
			Tenant: tenant, Began: time.Now(),
			Client:    policy.Client{ID: policy.ClientID("d:acme01:sensor:" + d.ID), Protocol: "5", Address: netip.MustParseAddr("127.0.0.1"), Listener: "mqtts"},
			Principal: &policy.Principal{Org: org, Kind: policy.KindDevice, Type: "sensor", ID: d.ID, DeviceIncarnation: d.Incarnation},
		}
	}
	m := monitor.New(monitor.Config{Queue: 2*b.N + 1}, ledger.On(st), reg)
	core := broker.New(broker.Config{Monitor: m}, broker.Deps{Decider: &policytest.Recorder{}, Registry: feed.Registry{Registry: reg}, Store: st})
	check(m.Start(b.Context(), core, []broker.Tenant{tenant}))
	b.ReportAllocs()
	b.ResetTimer()
	began := used(b)
	for i := range b.N {
		v := visits[i%len(visits)]
		v.Number = uint64(i + 1)
		m.Online(&v)
		m.Offline(&v, broker.Leaving{At: time.Now()})
	}
	m.Stop()
	b.StopTimer()
	b.ReportMetric(float64((used(b)-began).Microseconds())/float64(b.N), "CPU-µs/op")
	reg.Close()
	check(st.Close())
}

// used is the CPU time of the process so far.
func used(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
