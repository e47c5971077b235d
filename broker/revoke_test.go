package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// revocations are the calls that end what a subject has, and how it is let in again.
var revocations = map[string]struct {
	who    func(*organisation) login
	revoke func(*organisation)
	allow  func(*organisation) // nil: there is no way back
}{
	"device deleted": {
		func(o *organisation) login { return o.device("d1") },
		func(o *organisation) { must(o.w.t, o.w.registry.DeleteDevice(ctx, o.id, "sensor", "d1")) },
		func(o *organisation) { o.addDevice("d1") },
	},
	"device disabled": {
		func(o *organisation) login { return o.device("d1") },
		func(o *organisation) { o.disableDevice("d1", true) },
		func(o *organisation) { o.disableDevice("d1", false) },
	},
	"key deleted": {
		func(o *organisation) login { return o.app("victim") },
		func(o *organisation) { must(o.w.t, o.w.registry.DeleteAPIKey(ctx, o.id, o.key)) },
		nil,
	},
	"key disabled": {
		func(o *organisation) login { return o.app("victim") },
		func(o *organisation) { o.disableKey(true) },
		func(o *organisation) { o.disableKey(false) },
	},
}

func (o *organisation) disableDevice(id policy.ID, off bool) {
	o.w.t.Helper()
	_, err := o.w.registry.UpdateDevice(ctx, o.id, "sensor", id, func(d *registry.Device) error { d.Disabled = off; return nil })
	must(o.w.t, err)
}

func (o *organisation) disableKey(off bool) {
	o.w.t.Helper()
	_, err := o.w.registry.UpdateAPIKey(ctx, o.id, o.key, func(k *registry.APIKey) error { k.Disabled = off; return nil })
	must(o.w.t, err)
}

func TestA18RevokedWhileConnected(t *testing.T) {
	t.Parallel()
	for name, tt := range revocations {
		for _, v := range versions {
			t.Run(fmt.Sprintf("%s, MQTT %s", name, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				bystander := w.connect(t, acme.device("d2"), v)
				bystander.listen(1, "#")
				c := w.connect(t, tt.who(acme), v, withWill(wire.Will{Topic: "will", QoS: 1}))
				c.listen(1, "a")
				began := time.Now()
				tt.revoke(acme)
				if d := c.expectGone(); v == wire.V5 && d.Code != wire.NotAuthorized {
					t.Errorf("told %s", d.Code)
				}
				if took := time.Since(began); took > 5*time.Second { // 50 ms, on a machine that is not busy
					t.Errorf("closed after %v", took)
				}
				if again := w.answer(t, tt.who(acme), v); again.ack.Code == 0 {
					t.Error("connected again")
				}
				bystander.silence(bystander, "fence", "fence") // the will never fires
			})
		}
	}
}

func TestA18RevokedWhileConnecting(t *testing.T) {
	t.Parallel()
	gates := map[string]func(*world, func()){
		"when its record was read": func(w *world, gate func()) { w.registry.afterNextRefresh(gate) },
		"when it was judged":       func(w *world, gate func()) { w.decider.afterNextConnect(gate) },
	}
	for name, tt := range revocations {
		for at, set := range gates {
			for _, v := range versions {
				t.Run(fmt.Sprintf("%s, %s, MQTT %s", name, at, v), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, rules{}.bundle(t))
					acme := w.org("acme01")
					reached, revoked := make(chan struct{}), make(chan struct{})
					set(w, func() { close(reached); <-revoked })
					c := w.start(t, tt.who(acme), v, kept)
					<-reached // it was found good, and nothing has been done with that yet
					tt.revoke(acme)
					close(revoked)
					for _, p := range c.ExpectClosed() {
						if ack, ok := p.(*wire.Connack); !ok || ack.Code == wire.Success {
							t.Errorf("answered %+v", p)
						}
					}
					if lines := w.log.find("msg", "connected"); len(lines) != 0 {
						t.Errorf("connected: %v", lines)
					}
				})
			}
		}
	}
}

func TestA18RevokedWhileOffline(t *testing.T) {
	t.Parallel()
	for name, tt := range revocations {
		for _, v := range versions {
			t.Run(fmt.Sprintf("%s, MQTT %s", name, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				other := w.connect(t, acme.device("d2"), v)
				c := w.connect(t, tt.who(acme), v, kept)
				c.listen(1, "a")
				c.disconnect()
				other.say("a", "queued for the one that was", 1)
				tt.revoke(acme)
				other.say("a", "while it is revoked", 1)
				if again := w.answer(t, tt.who(acme), v, kept); again.ack.Code == 0 {
					t.Fatal("connected while revoked")
				}
				if tt.allow == nil {
					return
				}
				tt.allow(acme)
				c = w.connect(t, tt.who(acme), v, kept)
				if c.ack.SessionPresent {
					t.Error("session present")
				}
				c.quiet()
				other.say("a", "now", 1)
				c.quiet() // the subscription is gone too
			})
		}
	}
}

// A client that does not read cannot put off its end.
func TestA18RevokedWhileStuckInAWrite(t *testing.T) {
	t.Parallel()
	for name, tt := range revocations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			other := w.connect(t, acme.device("d2"), wire.V5)
			stuck := w.connect(t, tt.who(acme), wire.V5)
			stuck.listen(0, "a")
			for range 8 { // far more than the network takes
				other.say("a", string(make([]byte, 100_000)), 0)
			}
			tt.revoke(acme)
			eventually(t, func() bool { _, err := stuck.Conn.Write([]byte{0xC0, 0}); return err != nil })
			if again := w.answer(t, tt.who(acme), wire.V5); again.ack.Code == wire.Success {
				t.Error("connected again")
			}
		})
	}
}

// A replaced token closes what it opened, and the session waits for the new one.
func TestA18TokenReplaced(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v, kept)
			c.listen(1, "a")
			other := w.connect(t, acme.device("d2"), v)
			old := acme.device("d1")
			acme.replaceToken("d1")
			if d := c.expectGone(); v == wire.V5 && d.Code != wire.NotAuthorized {
				t.Errorf("told %s", d.Code)
			}
			if again := w.answer(t, old, v, kept); again.ack.Code == 0 {
				t.Error("the old token connects")
			}
			other.say("a", "kept", 1)
			c = w.connect(t, acme.device("d1"), v, kept)
			c.hear("a", "kept")
		})
	}
}

func TestA18OrganisationSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme, beta := w.org("acme01"), w.org("beta02")
	bystander := w.connect(t, beta.device("d1"), wire.V5)
	bystander.listen(1, "a")
	c := w.connect(t, acme.device("d1"), wire.V5, kept)
	c.listen(1, "a")
	suspend := func(off bool) {
		_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error { o.Suspended = off; return nil })
		must(t, err)
	}
	suspend(true)
	if d := c.expectGone(); d.Code != wire.NotAuthorized {
		t.Errorf("told %s", d.Code)
	}
	if again := w.answer(t, acme.app("x"), wire.V5); again.ack.Code != wire.NotAuthorized {
		t.Errorf("connected to a suspended organisation: %s", again.ack.Code)
	}
	bystander.silence(bystander, "a", "a")
	suspend(false)
	if c = w.connect(t, acme.device("d1"), wire.V5, kept); !c.ack.SessionPresent {
		t.Error("a suspended organisation lost its sessions")
	}
}

func TestA24RegistryEditIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	setRoles := func(o *organisation, key string, roles ...string) {
		_, err := o.w.registry.UpdateAPIKey(ctx, o.id, key, func(k *registry.APIKey) error { k.Roles = roles; return nil })
		must(o.w.t, err)
	}
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	key := acme.addKey(registry.RoleAdminApp)
	edited := w.connect(t, acme.appWith(key, "x"), wire.V5)
	edited.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	edited.listen(1, "iot-2/type/+/id/+/cmd/+")
	other := w.connect(t, acme.app("x"), wire.V5)
	other.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	event := "iot-2/type/sensor/id/d1/evt/e/fmt/json"
	edited.say(event, "1", 1)
	edited.hear(event, "1")
	other.hear(event, "1")

	setRoles(acme, key, "PD_OPERATOR_APP") // publishes commands and hears events
	if ack := edited.publish(message(event, "2", 1)); ack.Code != wire.NotAuthorized {
		t.Errorf("published with a role that was taken away: %s", ack.Code)
	}
	other.say("iot-2/type/sensor/id/d1/cmd/c", "x", 1)
	other.say(event, "3", 1)
	edited.hear(event, "3")
	other.hear(event, "3")
	setRoles(acme, key, "Unheard_Of")
	other.silence(other, event, event)
	edited.quiet()
}

// An edit that falls between reading the record and the session's first moment
// is not missed.
func TestA24EditWhileConnecting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: `decision := {"allow": "PD_ADMIN_APP" in input.principal.roles}`}.bundle(t))
	acme := w.org("acme01")
	read, edited := make(chan struct{}), make(chan struct{})
	w.registry.afterNextRefresh(func() { close(read); <-edited })
	c := w.start(t, acme.app("x"), wire.V5)
	<-read
	_, err := w.registry.UpdateAPIKey(ctx, acme.id, acme.key, func(k *registry.APIKey) error { k.Roles = []string{"less"}; return nil })
	must(t, err)
	close(edited)
	c.Expect(wire.TypeConnack)
	if ack := c.publish(message("a", "x", 1)); ack.Code != wire.NotAuthorized {
		t.Errorf("published with a role that was taken away while it connected: %s", ack.Code)
	}
}

// What a policy may know of the device that a topic names is looked up again.
func TestA24FactsOfTheNamedDevice(t *testing.T) {
	t.Parallel()
	const mounts = `decision := {"allow": true, "mounts": [{"client": "", "org": "", "device": {"type": 0, "id": 1}}]}`
	const enabled = `decision := {"allow": input.device.status == "enabled"}`
	w := newWorld(t, rules{connect: mounts, publish: enabled, receive: enabled}.bundle(t))
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, "#")
	app.say("sensor/d1/x", "1", 1)
	app.hear("sensor/d1/x", "1")
	acme.disableDevice("d1", true)
	if ack := app.publish(message("sensor/d1/x", "2", 1)); ack.Code != wire.NotAuthorized {
		t.Errorf("published for a disabled device: %s", ack.Code)
	}
	acme.disableDevice("d1", false)
	app.say("sensor/d1/x", "3", 1)
	app.hear("sensor/d1/x", "3")
}

func TestA25NamesakesStartEmpty(t *testing.T) {
	t.Parallel()
	renew := map[string]struct {
		who   func(*organisation) login
		renew func(*world)
	}{
		"organisation": {
			func(o *organisation) login { return o.device("d1") },
			func(w *world) {
				must(w.t, w.registry.DeleteOrganisation(ctx, w.org("acme01").id))
				delete(w.orgs, "acme01")
			},
		},
		"device": {
			func(o *organisation) login { return o.device("d1") },
			func(w *world) {
				acme := w.org("acme01")
				must(w.t, w.registry.DeleteDevice(ctx, acme.id, "sensor", "d1"))
				acme.addDevice("d1")
			},
		},
		"key": { // a new one never has an old one's name
			func(o *organisation) login { return o.app("x") },
			func(w *world) {
				acme := w.org("acme01")
				must(w.t, w.registry.DeleteAPIKey(ctx, acme.id, acme.key))
				acme.key = acme.addKey(registry.RoleAdminApp)
			},
		},
	}
	const mounts = `decision := {"allow": true, "mounts": [{"client": "", "org": "", "device": {"type": 0, "id": 1}}]}`
	for name, tt := range renew {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: mounts}.bundle(t))
			acme := w.org("acme01")
			from := w.connect(t, acme.device("d2"), wire.V5)
			old := w.connect(t, tt.who(acme), wire.V5, keptClean,
				withWill(wire.Will{Topic: "sensor/d1/will", Payload: []byte("x"), QoS: 1, DelayInterval: 600}))
			old.listen(1, "sensor/d1/#")
			old.Close()
			eventually(t, func() bool { return len(w.log.find("msg", "disconnected")) == 1 })
			from.retain("sensor/d1/state", "of the old one", 1)
			tt.renew(w)
			namesake := w.connect(t, tt.who(w.org("acme01")), wire.V5, kept)
			if namesake.ack.SessionPresent {
				t.Error("session present")
			}
			namesake.quiet() // no queue, no subscription
			from = w.connect(t, w.org("acme01").device("d2"), wire.V5)
			from.say("sensor/d1/x", "to nobody", 1)
			namesake.quiet()
			if name != "key" { // what is retained for a device is not a key's
				namesake.listen(1, "sensor/d1/#")
				namesake.quiet()
			}
		})
	}
}
