package broker_test

import (
	"bufio"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
)

// publishAll sends n numbered messages one after the other and counts those that
// are acknowledged. It does not need the test's own goroutine.
func publishAll(t *testing.T, c *client, topic string, qos byte, n int, acknowledged *atomic.Int64) {
	r := bufio.NewReader(c.Conn)
	for i := range n {
		id := uint16(i%1000 + 1)
		p := &wire.Publish{Topic: []byte(topic), Payload: strconv.AppendInt(nil, int64(i), 10), QoS: qos, PacketID: id}
		packets := [][]byte{wiretest.Publish(c.Version, p)}
		if qos == 2 {
			packets = append(packets, wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: id}))
		}
		for _, b := range packets {
			if _, err := c.Conn.Write(b); err != nil {
				t.Errorf("publish %d: %v", i, err)
				return
			}
			answer, err := wiretest.Read(r, c.Version)
			if ack, ok := answer.(*wire.Ack); err != nil || !ok || ack.Code.Failed() {
				t.Errorf("publish %d: %+v, %v", i, answer, err)
				return
			}
		}
		acknowledged.Add(1)
	}
}

// A kept session loses nothing that was acknowledged to its publisher, and the
// order stays, while its client comes and goes and subscribes again each time,
// and policies are activated that allow it all the while.
func TestAcknowledgedMeansKept(t *testing.T) {
	t.Parallel()
	const messages = 400
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()
			bundles := []*opa.Bundle{
				rules{connect: limited(`"inflight_max": 4`), subscribe: `decision := {"allow": true, "ttl": 60}`}.bundle(t),
				rules{connect: limited(`"inflight_max": 3`), receive: `decision := {"allow": true}`}.bundle(t),
			}
			w := sweeping(newWorld(t, bundles[0]))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
			c.listen(qos, "a")
			from := w.connect(t, acme.app("x"), wire.V5)
			var acknowledged atomic.Int64
			published := make(chan struct{})
			go func() {
				defer close(published)
				publishAll(t, from, "a", qos, messages, &acknowledged)
			}()
			next := 0 // the number that is due; smaller ones may come again
			for round := 0; next < messages; round++ {
				for range 7 {
					p := c.take()
					n, err := strconv.Atoi(string(p.Payload))
					if err != nil || n > next || n < next && !p.Dup {
						t.Fatalf("got %s (DUP %v), and %d is due; refusals: %v", p.Payload, p.Dup, next, w.log.find("msg", "refused"))
					}
					next = max(next, n+1)
					if next == messages {
						break
					}
				}
				w.engine.Activate(bundles[round%2])
				if round%2 == 0 {
					c.Close()
				} // else the next connection takes over
				c = w.connect(t, acme.device("d1"), wire.V5, kept)
				c.completes = true
				c.listen(qos, "a")
			}
			<-published
			if acknowledged.Load() != messages {
				t.Errorf("%d of %d acknowledged", acknowledged.Load(), messages)
			}
		})
	}
}

// Everything at once, for the race detector and for whoever forgets to give
// something back: clients come and go while the registry and the policy change.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	bundles := []*opa.Bundle{
		rules{}.bundle(t),
		rules{subscribe: `decision := {"allow": input.filter != "some/#", "ttl": 1}`}.bundle(t),
		rules{connect: `decision := {"allow": input.principal.id != "d2", "ttl": 1, "mounts": [{"client": "", "org": ""}]}`, receive: `decision := {"allow": true}`}.bundle(t),
	}
	w := sweeping(newWorld(t, bundles[0]))
	acme := w.org("acme01")
	device := []login{acme.device("d1"), acme.device("d2")}
	key := acme.appWith(acme.addKey(), "x")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	var visits atomic.Int64
	visit := func(who login, v wire.Version, options ...option) {
		defer visits.Add(1)
		conn := w.net.Dial()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(wiretest.Patience))
		_, _ = conn.Write(wiretest.Connect(connectPacket(who, v, options...)))
		_, _ = conn.Write(wiretest.Subscribe(v, &wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "some/#", QoS: 2}, {Filter: "some/+", QoS: 1}}}))
		for i := range 5 {
			_, _ = conn.Write(wiretest.Publish(v, &wire.Publish{Topic: []byte("some/topic"), Payload: []byte("x"), QoS: byte(i % 3), PacketID: uint16(i%3) * uint16(i+1), Retain: i == 4}))
		}
		_, _ = conn.Write(wiretest.Pingreq())
		r := bufio.NewReader(conn)
		for range 12 {
			if p, err := wiretest.Read(r, v); err != nil || p.Type() == wire.TypePingresp {
				return
			}
		}
	}
	for i, v := range versions {
		loop(func(int) { visit(device[i%2], v, kept, withWill(wire.Will{Topic: "some/will", QoS: 1})) })
		loop(func(int) { visit(key, v) })
	}
	loop(func(i int) { w.engine.Activate(bundles[i%3]); <-time.After(time.Millisecond) })
	for i := 0; visits.Load() < 120; i++ {
		_, err := w.registry.UpdateDevice(ctx, acme.id, "sensor", "d1", func(d *registry.Device) error { d.Disabled = i%3 == 2; return nil })
		must(t, err)
		_, err = w.registry.UpdateAPIKey(ctx, acme.id, key.username, func(k *registry.APIKey) error { k.Roles = []string{fmt.Sprint("role", i)}; return nil })
		must(t, err)
	}
	close(stop)
	wg.Wait()
	w.engine.Activate(bundles[0])
	c := w.connect(t, acme.app("after"), wire.V5)
	c.listen(1, "fence")
	c.silence(c, "fence", "fence")
	if lines := w.log.find("cause", string(policy.CausePanic)); len(lines) != 0 {
		t.Errorf("%v", lines[0])
	}
	if lines := w.log.find("msg", "connection handler panicked"); len(lines) != 0 {
		t.Errorf("%v", lines[0])
	}
}
