package broker_test

import (
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

// discreet lets nobody but an application receive what lies below secret.
const discreet = `
decision := {"allow": false, "reason": "not for devices"} if {
	input.principal.kind == "device"
	input.levels[0] == "secret"
}

else := {"allow": true}
`

func retained(topic, payload string, qos byte) *wire.Publish {
	p := message(topic, payload, qos)
	p.Retain = true
	return p
}

// retain publishes a message to be retained, and the broker must take it.
func (c *client) retain(topic, payload string, qos byte) {
	c.t.Helper()
	if ack := c.publish(retained(topic, payload, qos)); ack.Code.Failed() {
		c.t.Fatalf("retain %s: %s", topic, ack.Code)
	}
}

func TestA9LiveDelivery(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run("MQTT "+v.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{receive: discreet}.bundle(t))
				acme := w.org("acme01")
				d := w.connect(t, acme.device("d1"), v)
				d.listen(qos, "#")
				app := w.connect(t, acme.app("x"), v)
				app.listen(qos, "#")
				from := w.connect(t, acme.app("from"), v)
				from.say("secret/plan", "x", qos)
				from.say("open", "y", qos)
				if p := d.hear("open", "y"); p.QoS != qos || p.Retain {
					t.Errorf("%+v", p)
				}
				app.hear("secret/plan", "x")
				app.hear("open", "y")
				if lines := w.log.find("msg", "refused", "action", "receive", "topic", "secret/plan", "reason", "not for devices"); len(lines) != 1 {
					t.Errorf("%d refusals logged:\n%s", len(lines), w.log.text())
				}
			})
		}
	}
}

// Without cordon.receive a subscription alone decides; the policy that defines it
// and gives no value denies.
func TestA9ReceiveIsOptional(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	d := w.connect(t, acme.device("d1"), wire.V5)
	d.listen(1, "#")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.say("a", "1", 1)
	d.hear("a", "1")
	w.activate(rules{receive: `decision := {"allow": true} if input.topic == "b"`})
	app.say("a", "2", 1)
	app.say("b", "3", 1)
	d.hear("b", "3")
	if len(w.log.find("msg", "refused", "action", "receive", "cause", "policy_undefined")) != 1 {
		t.Errorf("not logged:\n%s", w.log.text())
	}
}

func TestA10RetainedPassesTheDoor(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{receive: discreet}.bundle(t))
			acme := w.org("acme01")
			app := w.connect(t, acme.app("x"), v)
			app.retain("secret/plan", "x", 1)
			app.retain("open/plan", "y", 2)
			d := w.connect(t, acme.device("d1"), v)
			d.listen(1, "+/plan")
			if p := d.hear("open/plan", "y"); !p.Retain || p.QoS != 1 {
				t.Errorf("%+v", p)
			}
			d.quiet()
			if len(w.log.find("msg", "refused", "action", "receive", "topic", "secret/plan")) != 1 {
				t.Errorf("not logged:\n%s", w.log.text())
			}
			w.activate(rules{receive: `decision := {"allow": false}`})
			d.listen(1, "+/plan")
			d.quiet()
		})
	}
}

func TestA10RetainedIsMountedOut(t *testing.T) {
	t.Parallel()
	const mounts = `decision := {"allow": true, "mounts": [{"client": prefix, "org": "all/"}]}
prefix := "mine/" if input.principal.kind == "device"
else := "its/"`
	w := newWorld(t, rules{connect: mounts}.bundle(t))
	acme := w.org("acme01")
	w.connect(t, acme.device("d1"), wire.V311).retain("mine/a", "x", 1)
	app := w.connect(t, acme.app("x"), wire.V311)
	app.listen(1, "its/#")
	app.hear("its/a", "x")
}

func TestA11QueuedIsJudgedWhenItIsDelivered(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			d := w.connect(t, acme.device("d1"), v, kept)
			d.listen(2, "#")
			d.disconnect()
			app := w.connect(t, acme.app("x"), wire.V5)
			for _, qos := range []byte{1, 2} {
				app.say("secret/plan", "x", qos)
				app.say("open/plan", "y", qos)
			}
			w.activate(rules{receive: discreet}) // after it was queued
			d = w.connect(t, acme.device("d1"), v, kept)
			for _, qos := range []byte{1, 2} {
				if p := d.hear("open/plan", "y"); p.QoS != qos || p.Dup {
					t.Errorf("%+v", p)
				}
			}
			d.quiet()
		})
	}
}

// A mount that goes takes the spelling with it: what is queued for it is not delivered.
func TestA11QueuedLosesItsSpelling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	d := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	d.listen(1, "a/#")
	d.disconnect()
	app := w.connect(t, acme.app("x"), wire.V5)
	app.say("a/b/c", "no spelling", 1)
	app.say("b/c", "not subscribed", 1)
	w.activate(rules{connect: `decision := {"allow": true, "mounts": [{"client": "", "org": prefix}]}
prefix := "" if input.principal.kind == "application"
else := "b/"`})
	d = w.connect(t, acme.device("d1"), wire.V5, kept)
	app.say("b/a/x", "live", 1) // the filter means another topic now
	d.hear("a/x", "live")
	d.quiet()
}

func TestA12ResendPassesTheDoor(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for _, qos := range []byte{1, 2} {
			t.Run("MQTT "+v.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				acme := w.org("acme01")
				d := w.connect(t, acme.device("d1"), v, kept)
				d.listen(qos, "#")
				app := w.connect(t, acme.app("x"), wire.V5)
				app.say("secret/plan", "x", qos)
				app.say("open/plan", "y", qos)
				secret, first := d.next(), d.next()
				d.drop(w) // nothing is acknowledged
				w.activate(rules{receive: discreet})
				d = w.connect(t, acme.device("d1"), v, kept)
				if qos == 2 { // the exchange ends, or the identifier would stay open at the client
					d.expectAck(wire.TypePubrel, secret.PacketID)
					d.answerAs(wire.TypePubcomp, secret.PacketID)
				}
				again := d.hear("open/plan", "y")
				if !again.Dup || again.PacketID != first.PacketID || again.QoS != qos {
					t.Errorf("sent again as %+v, first %+v", again, first)
				}
				d.quiet()
			})
		}
	}
}

func TestRetained(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			from := w.connect(t, acme.app("from"), v)
			from.retain("a", "0", 0)
			from.retain("a", "1", 1)
			from.retain("a/b", "2", 2)
			from.retain("a/b/c", "3", 1)
			from.retain("z", "4", 1)
			from.retain("$own/a", "5", 1)
			live := w.connect(t, acme.app("live"), v)
			live.listen(1, "fence", "gone")
			for filter, want := range map[string]map[string]string{
				"a":      {"a": "1"},
				"a/#":    {"a": "1", "a/b": "2", "a/b/c": "3"},
				"+":      {"a": "1", "z": "4"},
				"+/b":    {"a/b": "2"},
				"#":      {"a": "1", "a/b": "2", "a/b/c": "3", "z": "4"},
				"$own/#": {"$own/a": "5"},
				"no":     {},
			} {
				c := w.connect(t, acme.app("late"), v)
				c.listen(2, filter)
				c.ping()
				got := map[string]string{}
				for range want {
					p := c.take()
					got[string(p.Topic)] = string(p.Payload)
					if !p.Retain {
						t.Errorf("%s: %s without the retain flag", filter, p.Topic)
					}
				}
				for topic, payload := range want {
					if got[topic] != payload {
						t.Errorf("%s: got %v, want %v", filter, got, want)
					}
				}
				c.quiet()
				c.listen(0, filter) // a repeated subscribe gets them again
				for range want {
					c.take()
				}
				c.quiet()
			}
			from.retain("gone", "x", 1)
			from.retain("gone", "", 1) // cleared, and delivered as an ordinary message
			live.hear("gone", "x")
			if p := live.hear("gone", ""); p.Retain {
				t.Error("live message with the retain flag")
			}
			c := w.connect(t, acme.app("late"), v)
			c.listen(1, "gone")
			c.quiet()
		})
	}
}

func TestRetainHandlingAndRetainAsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	from := w.connect(t, acme.app("from"), wire.V5)
	from.retain("a", "kept", 1)
	c := w.connect(t, acme.app("c"), wire.V5)
	sub := func(handling byte, published bool) {
		t.Helper()
		c.subscribeWith(&wire.Subscribe{Filters: []wire.Subscription{{Filter: "a", QoS: 1, RetainHandling: handling, RetainAsPublished: published}}})
	}
	sub(2, true) // never
	c.quiet()
	sub(1, true) // only a new one
	c.quiet()
	c.unsubscribe("a")
	sub(1, true)
	c.hear("a", "kept")
	sub(0, true)
	c.hear("a", "kept")
	from.retain("a", "live", 1)
	if p := c.hear("a", "live"); !p.Retain {
		t.Error("retain as published: the flag is gone")
	}
	from.say("a", "plain", 1)
	if p := c.hear("a", "plain"); p.Retain {
		t.Error("retain flag on a message that has none")
	}
}

// What the policy strips nobody sees: no flag, nothing kept, nothing cleared.
func TestRetainIsThePolicysToKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: `decision := {"allow": true, "retain": input.levels[0]}`}.bundle(t))
	acme := w.org("acme01")
	from := w.connect(t, acme.app("from"), wire.V5)
	c := w.connect(t, acme.app("c"), wire.V5)
	c.subscribeWith(&wire.Subscribe{Filters: []wire.Subscription{{Filter: "#", QoS: 1, RetainAsPublished: true}}})
	from.retain("strip/a", "x", 1)
	if p := c.hear("strip/a", "x"); p.Retain {
		t.Error("stripped, and the flag is seen as published")
	}
	if ack := from.publish(retained("refuse/a", "x", 1)); ack.Code != wire.RetainNotSupported {
		t.Errorf("refused with %s", ack.Code)
	}
	from.say("refuse/a", "without the flag", 1)
	c.hear("refuse/a", "without the flag")
	from.retain("keep/a", "y", 1)
	if p := c.hear("keep/a", "y"); !p.Retain {
		t.Error("kept, and the flag is not seen")
	}
	late := w.connect(t, acme.app("late"), wire.V5)
	late.listen(1, "#")
	late.hear("keep/a", "y")
	late.quiet()
}
