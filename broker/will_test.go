package broker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// mortal denies the wills below denied and says what it was asked.
const mortal = `
decision := {"allow": false, "reason": sprintf("will %v %v", [input.will, input.topic]), "on_deny": on_deny} if input.levels[0] == "denied"

else := {"allow": true, "retain": "keep"}

on_deny := "drop" if input.levels[1] == "dropped"

else := "refuse"
`

func TestA3WillIsJudgedAtConnect(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{publish: mortal}.bundle(t))
			acme := w.org("acme01")
			live := w.connect(t, acme.device("d1"), v, kept)
			live.listen(1, "fence")
			c := w.answer(t, acme.device("d1"), v, withWill(wire.Will{Topic: "denied/x", QoS: 1}))
			if want := refusedConnack(v, wire.NotAuthorized); c.ack.Code != want {
				t.Errorf("CONNACK %#02x, want %#02x", byte(c.ack.Code), byte(want))
			}
			if v == wire.V5 && !strings.HasPrefix(c.ack.ReasonString, "will true denied/x (decision ") {
				t.Errorf("reason string %q", c.ack.ReasonString)
			}
			c.ExpectClosed()
			live.silence(live, "fence", "fence") // it took nothing over

			listener := w.connect(t, acme.app("x"), v)
			listener.listen(1, "#")
			dropped := w.connect(t, acme.device("d2"), v, withWill(wire.Will{Topic: "denied/dropped", QoS: 1}))
			dropped.drop(w)
			listener.silence(live, "fence", "fence")
		})
	}
}

// The connect answer may say too that a denied will is only left out.
func TestA3WillDroppedByTheConnectAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{
		connect: `decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "on_deny": "drop"}`, publish: mortal,
	}.bundle(t))
	w.connect(t, w.org("acme01").device("d1"), wire.V5, withWill(wire.Will{Topic: "denied/x"})).ping()
}

func TestA3WillThatTheDeviceMayNotPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	for _, topic := range []string{"elsewhere", "iot-2/type/sensor/id/d2/evt/e/fmt/json", "iot-2/cmd/c/fmt/json"} {
		if c := w.answer(t, acme.device("d1"), wire.V5, withWill(wire.Will{Topic: topic})); c.ack.Code != wire.NotAuthorized {
			t.Errorf("will %s: %s", topic, c.ack.Code)
		}
	}
}

func TestWillFiresUnlessTheClientSaysGoodbye(t *testing.T) {
	t.Parallel()
	will := withWill(wire.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, Retain: true})
	protocolError := func(c *client) { c.Send(wiretest.Hello(c.Version, "again")); c.ExpectClosed() }
	tests := map[string]struct {
		end   func(*client)
		only  wire.Version // 0: all
		fires bool
	}{
		"the connection breaks": {func(c *client) { c.Close() }, 0, true},
		"a second CONNECT":      {protocolError, 0, true},
		"clean DISCONNECT":      {(*client).disconnect, 0, false},
		"DISCONNECT 0x04, with will": {func(c *client) {
			c.Send(wiretest.Disconnect(wire.V5, &wire.Disconnect{Code: wire.DisconnectWithWill}))
			c.ExpectClosed()
		}, wire.V5, true},
		"another connection takes over": {func(c *client) {}, 0, true},
	}
	for name, tt := range tests {
		for _, v := range versions {
			if tt.only != 0 && tt.only != v {
				continue
			}
			t.Run(name+", MQTT "+v.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				listener := w.connect(t, acme.app("x"), v)
				listener.listen(1, "#")
				listener.ping() // what was retained before it subscribed has been looked up
				c := w.connect(t, acme.device("d1"), v, will)
				tt.end(c)
				if strings.HasPrefix(name, "another") {
					w.connect(t, acme.device("d1"), v)
				} else {
					eventually(t, func() bool { return len(w.log.find("msg", "disconnected")) == 1 })
				}
				if tt.fires {
					listener.hear("will", "gone")
				}
				listener.silence(listener, "fence", "fence")
				late := w.connect(t, acme.app("late"), v)
				late.listen(1, "will")
				if tt.fires {
					late.hear("will", "gone")
				}
				late.quiet()
			})
		}
	}
}

func TestA4WillIsJudgedWhenItFires(t *testing.T) {
	t.Parallel()
	revoke := func(w *world) {
		acme := w.org("acme01")
		must(w.t, w.registry.DeleteDevice(ctx, acme.id, "sensor", "d1"))
	}
	tests := map[string]struct {
		between func(*world)
		fires   bool
	}{
		"nothing happens":          {func(*world) {}, true},
		"the policy denies it now": {func(w *world) { w.activate(rules{publish: `decision := {"allow": input.topic != "will"}`}) }, false},
		"the policy denies connect": {func(w *world) {
			w.activate(rules{connect: `decision := {"allow": input.principal.kind != "device", "mounts": [{"client": "", "org": ""}]}`})
		}, false},
		"the mounts change":     {func(w *world) { w.activate(rules{connect: moved}) }, false},
		"the device is deleted": {revoke, false},
		"the token is replaced": {func(w *world) { w.org("acme01").replaceToken("d1") }, false},
	}
	for name, tt := range tests {
		for _, delay := range []uint32{0, 30} {
			kind := map[uint32]string{0: "at once", 30: "delayed"}[delay]
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				bundle := rules{}.bundle(t)
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, bundle)
					acme := w.org("acme01")
					listener := w.connect(t, acme.app("x"), wire.V5)
					listener.listen(1, "#")
					c := w.connect(t, acme.device("d1"), wire.V5, keptClean,
						withWill(wire.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, DelayInterval: delay}))
					if delay > 0 { // it happens while the will waits
						c.Close()
						synctest.Wait()
						listener.silence(listener, "fence", "fence")
						tt.between(w)
					} else {
						tt.between(w)
						c.Close()
					}
					time.Sleep(31 * time.Second)
					synctest.Wait()
					if tt.fires {
						listener.hear("will", "gone")
					}
					listener.silence(listener, "fence", "fence")
				})
			})
		}
	}
}

// moved gives devices a mount below theirs, under which nobody listens.
const moved = `
decision := {"allow": true, "mounts": [{"client": "", "org": prefix}]}

prefix := "$dollar/" if input.principal.kind == "device"

else := ""
`

func TestDelayedWill(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	tests := map[string]struct {
		delay, expiry uint32
		back          time.Duration // 0: never
		clean         bool
		fires         time.Duration // -1: never
	}{
		"after its delay":                 {10, 60, 0, false, 10 * time.Second},
		"when the session ends before":    {60, 10, 0, false, 10 * time.Second},
		"not when the client is back":     {10, 60, 5 * time.Second, false, -1},
		"when it is back and begins anew": {10, 60, 5 * time.Second, true, 5 * time.Second},
		"at once without a kept session":  {10, 0, 0, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bundle)
				acme := w.org("acme01")
				listener := w.connect(t, acme.app("x"), wire.V5)
				listener.listen(1, "#")
				kept := func(c *wire.Connect) { c.HasSessionExpiry, c.SessionExpiry, c.CleanStart = true, tt.expiry, false }
				c := w.connect(t, acme.device("d1"), wire.V5, kept,
					withWill(wire.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, DelayInterval: tt.delay}))
				began := time.Now()
				c.Close()
				if tt.back > 0 {
					time.Sleep(tt.back)
					listener.silence(listener, "fence", "fence")
					w.connect(t, acme.device("d1"), wire.V5, kept, func(c *wire.Connect) { c.CleanStart = tt.clean })
				}
				if tt.fires >= 0 {
					if wait := tt.fires - time.Since(began) - time.Millisecond; wait > 0 {
						time.Sleep(wait)
						listener.silence(listener, "fence", "fence")
					}
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					listener.hear("will", "gone")
				}
				time.Sleep(2 * time.Minute)
				listener.silence(listener, "fence", "fence")
			})
		})
	}
}
