package broker_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
)

// MQTT 5 is told that it publishes too fast: in the acknowledgement, or where
// there is none, with the reason why the connection ends.
func TestPublishRateInMQTT5(t *testing.T) {
	t.Parallel()
	for limits, fits := range map[string]int{
		`"publish_rate": 0.001, "publish_burst": 2`:  2,
		`"bytes_rate": 0.001, "payload_max": 10`:     1, // payloads of 6 bytes
		`"publish_rate": 1000, "bytes_rate": 100000`: 5,
	} {
		t.Run(limits, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: limited(limits)}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), wire.V5)
			c.listen(1, "a")
			for i := range 5 {
				ack := c.publish(message("a", "123456", 1))
				want := wire.Success
				if i >= fits {
					want = wire.QuotaExceeded
				}
				if ack.Code != want {
					t.Fatalf("message %d: %s, want %s", i, ack.Code, want)
				}
			}
			for range fits {
				c.hear("a", "123456")
			}
			c.quiet() // a refused one is not delivered
			if fits == 5 {
				return
			}
			again := w.connect(t, acme.device("d1"), wire.V5)
			for range 3 { // what was used up stays used up: the credential took over its own session
				again.send(message("a", "123456", 0))
			}
			if d := again.expectGone(); d.Code != wire.MessageRateTooHigh {
				t.Errorf("DISCONNECT %s", d.Code)
			}
		})
	}
}

// MQTT 3.x has no words for it: the client is not read from for a while, during
// which its keep-alive does not run.
func TestPublishRateInMQTT3(t *testing.T) {
	t.Parallel()
	bundle := rules{connect: limited(`"publish_rate": 0.5, "publish_burst": 1`)}.bundle(t)
	for _, qos := range []byte{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, bundle)
			acme := w.org("acme01")
			hears := w.connect(t, acme.app("x"), wire.V311)
			hears.listen(0, "a")
			c := w.connect(t, acme.device("d1"), wire.V311, keepAlive(1))
			started := time.Now()
			for range 4 {
				c.send(message("a", "x", qos))
			}
			for range 4 {
				hears.hear("a", "x")
			}
			if took := time.Since(started); took < 6*time.Second || took > 7*time.Second {
				t.Errorf("QoS %d: four messages at one in two seconds took %v", qos, took)
			}
			c.inbox = nil
			c.Send([]byte{0xc0, 0}) // and it is still there
			for range 1 + 4*min(int(qos), 1) {
				if _, err := c.Receive(); err != nil {
					t.Fatalf("QoS %d: %v", qos, err)
				}
			}
		})
	}
}

func TestConnectionsOfACredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{connect: limited(`"connections_max": 2`)}.bundle(t))
	acme := w.org("acme01")
	one := w.connect(t, acme.app("one"), wire.V5)
	two := w.connect(t, acme.app("two"), wire.V311)
	if c := w.answer(t, acme.app("three"), wire.V5); c.ack.Code != wire.QuotaExceeded {
		t.Errorf("a third connection of the key: %s", c.ack.Code)
	}
	if c := w.answer(t, acme.app("three"), wire.V311); c.ack.Code == wire.Success {
		t.Error("a third connection of the key was accepted")
	}
	w.connect(t, acme.device("d1"), wire.V5) // another credential
	again := w.connect(t, acme.app("one"), wire.V5)
	one.expectGone() // a take-over takes its place
	two.disconnect()
	eventually(t, func() bool { return w.answer(t, acme.app("three"), wire.V5).ack.Code == wire.Success })
	again.ping()
}

func TestPublishRateOfAnOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme, beta := w.org("acme01"), w.org("beta02")
	_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error {
		o.Quotas.PublishRate = 0.001
		return nil
	})
	must(t, err)
	ours, theirs := w.connect(t, acme.device("d1"), wire.V5), w.connect(t, beta.device("d1"), wire.V5)
	refused := 0
	for range 40 {
		if ours.publish(message("a", "x", 1)).Code == wire.QuotaExceeded {
			refused++
		}
		theirs.say("a", "x", 1)
	}
	if refused == 0 || refused == 40 {
		t.Errorf("%d of 40 messages were refused", refused)
	}
}

// A part of a packet does not keep a connection alive [MQTT-3.1.2-22].
func TestAByteNowAndThenIsNotAlive(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		acme := w.org("acme01")
		c := w.connect(t, acme.device("d1"), wire.V5, keepAlive(10))
		dribbled := make(chan struct{})
		go func() {
			defer close(dribbled)
			for _, b := range []byte{0x30, 0x7f, 0, 1, 'a', 1, 2, 3} {
				if _, err := c.Conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		}()
		time.Sleep(14 * time.Second)
		if len(w.log.find("msg", "disconnected")) != 0 {
			t.Error("cut off too early")
		}
		time.Sleep(2 * time.Second)
		if d := c.expectGone(); d.Code != wire.KeepAliveTimeout {
			t.Errorf("DISCONNECT %s", d.Code)
		}
		c.Close()
		<-dribbled
	})
}

// What waits in sessions counts against the organisation: past its quota QoS 1
// and 2 are refused and nothing that was acknowledged is lost.
func TestStoredBytesOfAnOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error {
		o.Quotas.StoredBytes = 1000
		return nil
	})
	must(t, err)
	c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	c.listen(1, "a")
	c.disconnect()
	from := w.connect(t, acme.app("x"), wire.V5)
	kept := 0
	for range 50 {
		if from.publish(message("a", "0123456789012345678901234567890123456789", 1)).Code == wire.Success {
			kept++
		}
	}
	if kept == 0 || kept == 50 {
		t.Fatalf("%d of 50 messages were accepted", kept)
	}
	from.say("a", "not stored", 0)
	c = w.connect(t, acme.device("d1"), wire.V5, func(c *wire.Connect) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, 3600 })
	for range kept {
		c.take()
	}
	c.quiet()
	from.say("a", "again", 1) // there is room again
	c.hear("a", "again")
}

// Decisions that nobody remembers are bounded for an organisation: what is over
// is denied for its own cause, and another organisation notices nothing.
func TestEvaluationsOfAnOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: `decision := {"allow": startswith(input.topic, "a/")}`}.bundle(t))
	acme, beta := w.org("acme01"), w.org("beta02")
	ours, theirs := w.connect(t, acme.device("d1"), wire.V5), w.connect(t, beta.device("d1"), wire.V5)
	_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error {
		o.Quotas.EvaluationsRate = 0.001
		return nil
	})
	must(t, err)
	refused := 0
	for i := range 40 {
		if ours.publish(message("a/"+strconv.Itoa(i), "x", 1)).Code.Failed() {
			refused++
		}
		theirs.say("a/"+strconv.Itoa(i), "x", 1)
	}
	if refused == 0 || refused == 40 {
		t.Errorf("%d of 40 topics were refused", refused)
	}
	if len(w.log.find("cause", "quota")) == 0 {
		t.Error("the log does not say why")
	}
}

// A client that stopped reading keeps nobody from its session: the take-over is
// accepted and answered while the old connection is stuck in a write, and that
// one is cut off.
func TestA22TakeOverOfAStuckReader(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, rules{}.bundle(t), memstore.NewDisk(), broker.Config{Linger: 50 * time.Millisecond})
			acme := w.org("acme01")
			stuck := w.connect(t, acme.device("d1"), v)
			stuck.listen(0, "a")
			from := w.connect(t, acme.app("x"), wire.V5)
			for range 100 {
				from.say("a", strings.Repeat("x", 10_000), 0)
			}
			again := w.connect(t, acme.device("d1"), v)
			again.listen(0, "a")
			from.say("a", "for the new one", 0)
			again.hear("a", "for the new one")
			eventually(t, func() bool { _, err := stuck.Conn.Write([]byte{0xC0, 0}); return err != nil })
		})
	}
}
