package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// sweeping is a world whose activations are followed by a sweep, as in the program.
func sweeping(w *world) *world {
	w.engine.OnActivate(func(policy.Generation) { w.broker.Sweep() })
	return w
}

func TestA17ActivationTakesAwayAFilter(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := sweeping(newWorld(t, rules{}.bundle(t)))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v)
			c.listen(1, "a", "b", "c")
			bystander := w.connect(t, acme.device("d2"), v)
			bystander.listen(1, "a", "b")
			app := w.connect(t, acme.app("x"), wire.V5)
			w.activate(rules{subscribe: `
decision := {"allow": false} if {
	input.principal.id == "d1"
	input.filter == "a"
}

else := {"allow": true, "qos": 0} if input.filter == "b"

else := {"allow": true}`})
			app.say("a", "1", 1)
			app.say("b", "2", 1)
			app.say("c", "3", 1)
			if p := c.hear("b", "2"); p.QoS != 0 {
				t.Errorf("the QoS that is granted now is 0, delivered at %d", p.QoS)
			}
			c.hear("c", "3")
			bystander.hear("a", "1")
			bystander.hear("b", "2")
			if lines := w.log.find("msg", "refused"); len(lines) != 1 || lines[0]["topic"] != "a" || lines[0]["client"] != "d:acme01:sensor:d1" {
				t.Errorf("refusals: %v", lines)
			}
		})
	}
}

func TestA17ActivationTakesAwayTheConnect(t *testing.T) {
	t.Parallel()
	const noDevices = `
decision := {"allow": false, "reason": "devices are off"} if input.principal.id == "d1"

else := {"allow": true, "mounts": [{"client": "", "org": ""}]}`
	tests := map[string]func(w *world, c *client){
		"by the sweep":         func(w *world, c *client) {},
		"by its next publish":  func(w *world, c *client) { c.send(message("a", "stale", 1)) },
		"by its next filter":   func(w *world, c *client) { c.sendSubscribe("b") },
		"by its next delivery": func(w *world, c *client) { w.connect(w.t, w.org("acme01").app("y"), wire.V5).say("own", "stale", 1) },
	}
	for name, next := range tests {
		for _, v := range versions {
			t.Run(fmt.Sprintf("%s, MQTT %s", name, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				if name == "by the sweep" {
					sweeping(w)
				}
				acme := w.org("acme01")
				c := w.connect(t, acme.device("d1"), v, kept)
				c.listen(1, "own")
				bystander := w.connect(t, acme.device("d2"), v)
				bystander.listen(1, "a", "own")
				w.activate(rules{connect: noDevices})
				next(w, c)
				last := c.ExpectClosed()
				if v == wire.V5 {
					d, ok := last[len(last)-1].(*wire.Disconnect)
					lines := w.log.find("msg", "refused", "action", "connect", "reason", "devices are off")
					if !ok || len(lines) != 1 || d.Code != wire.NotAuthorized || d.ReasonString != "devices are off (decision "+lines[0]["decision"]+")" {
						t.Errorf("told %+v", last)
					}
					last = last[:len(last)-1]
				}
				if len(last) != 0 {
					t.Errorf("also got %+v", last[0])
				}
				app := w.connect(t, acme.app("x"), wire.V5)
				if name == "by its next delivery" {
					bystander.hear("own", "stale")
				}
				bystander.silence(app, "a", "a")
				w.activate(rules{})
				if again := w.connect(t, acme.device("d1"), v, kept); v == wire.V5 && !again.ack.SessionPresent {
					t.Error("the session itself is gone")
				}
			})
		}
	}
}

func TestA17ActivationTakesAwayTheWill(t *testing.T) {
	t.Parallel()
	w := sweeping(newWorld(t, rules{}.bundle(t)))
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, "#")
	c := w.connect(t, acme.device("d1"), wire.V5, withWill(wire.Will{Topic: "will", QoS: 1}))
	other := w.connect(t, acme.device("d2"), wire.V5, withWill(wire.Will{Topic: "other", Payload: []byte("x"), QoS: 1}))
	w.activate(rules{publish: `decision := {"allow": input.topic != "will"}`})
	eventually(t, func() bool { return len(w.log.find("msg", "refused", "topic", "will")) == 1 })
	c.ping()            // it stays
	w.activate(rules{}) // and the will, once taken away, does not come back
	c.drop(w)
	other.drop(w)
	app.hear("other", "x")
	app.silence(app, "fence", "fence")
}

// A connection that is being judged while a policy is activated has no session
// that the sweep could find. It is judged again although it does nothing.
func TestA17ActivationWhileConnecting(t *testing.T) {
	t.Parallel()
	w := sweeping(newWorld(t, rules{}.bundle(t)))
	acme := w.org("acme01")
	judged, activated := make(chan struct{}), make(chan struct{})
	w.decider.afterNextConnect(func() { close(judged); <-activated })
	c := w.start(t, acme.device("d1"), wire.V5)
	<-judged
	w.activate(rules{connect: `decision := {"allow": false, "reason": "closed"}`})
	close(activated)
	last := c.ExpectClosed()
	if d, ok := last[len(last)-1].(*wire.Disconnect); !ok || d.Code != wire.NotAuthorized {
		t.Errorf("told %+v", last)
	}
}

// A policy that is live judges the very next message, on its way in and on its way
// out. No sweep has come by: there is none in this test.
func TestA17NothingStaleAfterActivate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5)
	c.listen(1, "a", "b")
	app := w.connect(t, acme.app("x"), wire.V5)
	for round := range 20 {
		w.activate(rules{publish: `decision := {"allow": input.topic == "a"}`, subscribe: `decision := {"allow": true}`})
		if ack := app.publish(message("b", "no", 1)); ack.Code != wire.NotAuthorized {
			t.Fatalf("round %d: published by a policy that is gone: %s", round, ack.Code)
		}
		app.say("a", "yes", 1)
		c.hear("a", "yes")
		w.activate(rules{receive: `decision := {"allow": input.topic == "b"}`})
		app.say("a", "no", 1)
		app.say("b", "yes", 1)
		c.hear("b", "yes")
	}
}

// An activation that changes nothing for a subscription loses none of its
// messages, whatever it does to the decision's time.
func TestActivationLosesNoMessage(t *testing.T) {
	t.Parallel()
	bundles := []rules{
		{subscribe: `decision := {"allow": true, "ttl": 60}`},
		{subscribe: `decision := {"allow": true, "ttl": 61, "qos": 1}`},
		{subscribe: `decision := {"allow": true, "ttl": 62}`, connect: `decision := {"allow": true, "ttl": 70, "mounts": [{"client": "", "org": ""}, {"client": "other/", "org": "another/"}]}`},
	}
	w := newWorld(t, bundles[0].bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5)
	c.listen(2, "a/+", "a/b")
	app := w.connect(t, acme.app("x"), wire.V5)
	for round := range 9 {
		w.activate(bundles[round%3])
		payload := fmt.Sprint(round)
		app.say("a/b", payload, 2)
		c.hear("a/b", payload)
	}
	c.quiet()
}

func TestA19TheConnectDecisionEnds(t *testing.T) {
	t.Parallel()
	bundle := rules{connect: `
decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "expires_at": 946688400000} if input.principal.kind == "device"

else := {"allow": true, "mounts": [{"client": "", "org": ""}]}`}.bundle(t) // an hour after the year 2000 began, when the clock of a bubble starts
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bundle)
				acme := w.org("acme01")
				app := w.connect(t, acme.app("x"), wire.V5)
				app.listen(1, "#")
				c := w.connect(t, acme.device("d2"), v, withWill(wire.Will{Topic: "will", Payload: []byte("x"), QoS: 1}))
				time.Sleep(time.Hour - time.Second)
				synctest.Wait()
				c.ping()
				app.quiet()
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if d := c.expectGone(); v == wire.V5 && d.Code != wire.NotAuthorized {
					t.Errorf("told %s", d.Code)
				}
				app.hear("will", "x") // judged, and allowed
				if again := w.answer(t, acme.device("d2"), v); again.ack.Code == 0 {
					t.Error("connected after its time")
				}
			})
		})
	}
}

func TestA19TheKeyExpires(t *testing.T) {
	t.Parallel()
	bundle := builtIn()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		acme := w.org("acme01")
		key := acme.addKey()
		acme.expireKey(key, time.Now().Add(time.Hour))
		c := w.connect(t, acme.appWith(key, "x"), wire.V5, keptClean)
		c.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		c.ping()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if d := c.expectGone(); d.Code != wire.NotAuthorized {
			t.Errorf("told %s", d.Code)
		}
		if again := w.answer(t, acme.appWith(key, "x"), wire.V5); again.ack.Code != wire.NotAuthorized {
			t.Errorf("connected with an expired key: %s", again.ack.Code)
		}
	})
}

// A token that is replaced with a grace is good until its end and no longer.
func TestA19TheGraceOfATokenEnds(t *testing.T) {
	t.Parallel()
	bundle := builtIn()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		acme := w.org("acme01")
		old := acme.device("d1")
		c := w.connect(t, old, wire.V5)
		acme.replaceTokenIn("d1", time.Minute)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		c.ping()
		fresh := w.connect(t, login{"d:acme01:sensor:d2", "use-token-auth", acme.tokens["d2"]}, wire.V5)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if d := c.expectGone(); d.Code != wire.NotAuthorized {
			t.Errorf("told %s", d.Code)
		}
		fresh.ping()
		if again := w.answer(t, old, wire.V5); again.ack.Code != wire.NotAuthorized {
			t.Errorf("the old token: %s", again.ack.Code)
		}
		w.connect(t, acme.device("d1"), wire.V5)
	})
}

// An answer with a ttl is asked again when it ends, with nobody doing anything.
func TestA19TheSubscribeDecisionEnds(t *testing.T) {
	t.Parallel()
	bundle := rules{subscribe: `
decision := {"allow": time.now_ns() < 946684800000000000 + (90 * 1000000000), "ttl": 60} if input.filter == "a"

else := {"allow": true}`}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		acme := w.org("acme01")
		c := w.connect(t, acme.device("d1"), wire.V5)
		c.listen(1, "a", "b")
		app := w.connect(t, acme.app("x"), wire.V5)
		time.Sleep(70 * time.Second) // judged again once, and still allowed
		synctest.Wait()
		c.silence(app, "a", "a")
		time.Sleep(60 * time.Second)
		synctest.Wait()
		app.say("a", "x", 1)
		c.silence(app, "b", "b")
		if len(w.log.find("msg", "refused", "action", "subscribe", "topic", "a")) != 1 {
			t.Errorf("not logged:\n%s", w.log.text())
		}
	})
}
