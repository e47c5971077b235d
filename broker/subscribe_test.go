package broker_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

const filterRules = `
decision := {"allow": false, "reason": "not yours", "on_deny": input.levels[1]} if input.levels[0] == "deny"

else := {"allow": true, "qos": 1} if input.levels[0] == "low"

else := {"allow": false, "reason": json.marshal(asked)} if input.levels[0] == "tell"

else := {"allow": true}

asked := {name: value |
	some name in ["filter", "levels", "qos", "share"]
	value := input[name]
}
`

func TestA8EachFilterIsJudgedByItself(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			mounts := `decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "limits": {"subscriptions_max": 4}}`
			w := newWorld(t, rules{connect: mounts, subscribe: filterRules}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v)
			codes := c.subscribe(2, "a/+", "deny/refuse", "low", "$share/g/a", "$SHARE/g/a", "$Share/g/a", "$share//a", "b", "c")
			want := []wire.Code{
				2, wire.NotAuthorized, 1, 2,
				wire.TopicFilterInvalid, wire.TopicFilterInvalid, wire.TopicFilterInvalid, 2, wire.QuotaExceeded,
			}
			if v != wire.V5 {
				for i := range want {
					if want[i].Failed() {
						want[i] = wire.UnspecifiedError // the one failure that MQTT 3.1.1 knows [MQTT-3.9.3-2]
					}
				}
			}
			if !reflect.DeepEqual(codes, want) {
				t.Errorf("codes %v, want %v", codes, want)
			}
			app := w.connect(t, acme.app("x"), wire.V5)
			for _, topic := range []string{"deny/refuse", "c", "a/1/2", "g/a"} {
				app.say(topic, "not for it", 1)
			}
			app.say("a/1", "for it", 2)
			app.say("low", "for it too", 2)
			if p := c.hear("a/1", "for it"); p.QoS != 2 {
				t.Errorf("QoS %d", p.QoS)
			}
			if p := c.hear("low", "for it too"); p.QoS != 1 {
				t.Errorf("granted QoS 1, delivered at %d", p.QoS)
			}
		})
	}
}

func TestA8FilterAndShareAreSeenApart(t *testing.T) {
	t.Parallel()
	mounts := `decision := {"allow": true, "mounts": [{"client": "in/", "org": "tell/me/"}]}`
	w := newWorld(t, rules{connect: mounts, subscribe: filterRules}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	for filter, want := range map[string]string{
		"in/+/#":            `{"filter":"in/+/#","levels":["tell","me","+","#"],"qos":1}`,
		"$share/grp/in/+/#": `{"filter":"in/+/#","levels":["tell","me","+","#"],"qos":1,"share":"grp"}`,
	} {
		ack := c.subscribeWith(&wire.Subscribe{Filters: []wire.Subscription{{Filter: filter, QoS: 1}}})
		id := w.log.find("msg", "refused", "action", "subscribe")
		if want := want + " (decision " + id[len(id)-1]["decision"] + ")"; ack.Codes[0] != wire.NotAuthorized || ack.ReasonString != want {
			t.Errorf("%s: %s %q, want %q", filter, ack.Codes[0], ack.ReasonString, want)
		}
	}
	// A filter stands for a set of topics: all of it has to lie under one mount.
	for _, filter := range []string{"#", "+/a", "in", "$share/g/#"} {
		if codes := c.subscribe(0, filter); codes[0] != wire.NotAuthorized {
			t.Errorf("%s: %s", filter, codes[0])
		}
	}
}

func TestA8SubscribeThatCloses(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]wire.Code{
		"deny/close": wire.NotAuthorized,
		"a/#/b":      wire.MalformedPacket,
		"a+":         wire.MalformedPacket,
	} {
		for _, v := range versions {
			t.Run(fmt.Sprintf("%s, MQTT %s", filter, v), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{subscribe: filterRules}.bundle(t))
				c := w.connect(t, w.org("acme01").device("d1"), v)
				c.sendSubscribe(filter)
				if d := c.expectGone(); v == wire.V5 && d.Code != want {
					t.Errorf("DISCONNECT %s, want %s", d.Code, want)
				}
			})
		}
	}
}

func TestA15StoredSubscriptionsAreJudgedOnResume(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v, keptClean)
			c.listen(1, "a", "b")
			c.disconnect()
			app := w.connect(t, acme.app("x"), wire.V5)
			app.say("a", "queued", 1)
			app.say("b", "queued", 1)
			w.activate(rules{subscribe: `decision := {"allow": input.filter == "b"}`})
			app.say("a", "later", 1)
			c = w.connect(t, acme.device("d1"), v, kept)
			if v != wire.V31 && !c.ack.SessionPresent {
				t.Error("session not present")
			}
			c.hear("b", "queued") // the first delivery, and nothing of a before it
			app.say("a", "now", 1)
			c.silence(app, "b", "b")
			if len(w.log.find("msg", "refused", "action", "subscribe", "topic", "a", "detail", "subscription removed")) != 1 {
				t.Errorf("the removal is not logged:\n%s", w.log.text())
			}
		})
	}
}

func TestA21Unsubscribe(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v)
			app := w.connect(t, acme.app("x"), wire.V5)
			c.listen(1, "a", "b/+", "c", "fence")
			w.activate(rules{
				publish:   `decision := {"allow": input.topic != "denied"}`,
				subscribe: `decision := {"allow": input.filter == "fence"}`,
			})
			ack := c.unsubscribe("a", "b/+", "never", "$share/g/c", "$SHARE/g/c")
			if v == wire.V5 {
				want := []wire.Code{0, 0, wire.NoSubscriptionExisted, wire.NoSubscriptionExisted, wire.TopicFilterInvalid}
				if !reflect.DeepEqual(ack.Codes, want) {
					t.Errorf("codes %v, want %v", ack.Codes, want)
				}
			}
			app.say("a", "x", 1)
			app.say("b/1", "x", 1)
			c.silence(app, "fence", "fence")
			if codes := c.subscribe(1, "a"); !codes[0].Failed() {
				t.Errorf("subscribed again although it is denied: %v", codes)
			}
		})
	}
}

// To unsubscribe a share does not end the ordinary subscription of the same filter.
func TestUnsubscribeShareLeavesThePlainFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	c.listen(1, "a")
	c.unsubscribe("$share/g/a")
	c.silence(c, "a", "a")
}

// Overlapping filters under one mount are one delivery, at the highest QoS and
// with the identifier of each [MQTT-3.3.4-4].
func TestOverlappingFiltersDeliverOnce(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			c := w.connect(t, w.org("acme01").device("d1"), v)
			for i, f := range []wire.Subscription{{Filter: "a/+", QoS: 1}, {Filter: "#", QoS: 0}, {Filter: "a/b", QoS: 2}} {
				pk := &wire.Subscribe{Filters: []wire.Subscription{f}}
				if v == wire.V5 {
					pk.SubscriptionID = uint32(i + 1)
				}
				c.subscribeWith(pk)
			}
			app := w.connect(t, w.org("acme01").app("x"), wire.V5)
			app.say("a/b", "once", 2)
			p := c.hear("a/b", "once")
			if p.QoS != 2 {
				t.Errorf("QoS %d", p.QoS)
			}
			ids := map[uint32]bool{}
			for _, id := range p.SubscriptionIDs {
				ids[id] = true
			}
			if want := (map[uint32]bool{1: true, 2: true, 3: true}); v == wire.V5 && !reflect.DeepEqual(ids, want) {
				t.Errorf("subscription identifiers %v", p.SubscriptionIDs)
			}
			c.silence(app, "a/c", "a/c")
		})
	}
}

// The platform's pages write a device's topics with a slash in front, its
// libraries without. Both meet, and each is answered as it asked.
func TestBothSpellings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	plain := w.connect(t, acme.device("d1"), wire.V311)
	plain.listen(1, "iot-2/cmd/+/fmt/+")
	slash := w.connect(t, acme.device("d2"), wire.V311)
	slash.listen(1, "/iot-2/cmd/+/fmt/+")
	plain.say("iot-2/evt/e/fmt/json", "p", 1)
	app.hear("iot-2/type/sensor/id/d1/evt/e/fmt/json", "p")
	slash.say("/iot-2/evt/e/fmt/json", "s", 1)
	app.hear("iot-2/type/sensor/id/d2/evt/e/fmt/json", "s")
	app.say("iot-2/type/sensor/id/d1/cmd/go/fmt/json", "1", 1)
	plain.hear("iot-2/cmd/go/fmt/json", "1")
	app.say("iot-2/type/sensor/id/d2/cmd/go/fmt/json", "2", 1)
	slash.hear("/iot-2/cmd/go/fmt/json", "2")

	plain.listen(1, "/iot-2/cmd/+/fmt/+") // in both: one of each
	app.say("iot-2/type/sensor/id/d1/cmd/go/fmt/json", "both", 1)
	got := map[string]int{}
	for range 2 {
		p := plain.take()
		got[string(p.Topic)+" "+string(p.Payload)]++
	}
	if want := (map[string]int{"iot-2/cmd/go/fmt/json both": 1, "/iot-2/cmd/go/fmt/json both": 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	plain.quiet()
}

// No filter that begins with a wildcard matches what its subscriber would write
// with a $ [MQTT-4.7.2-1].
func TestDollarTopicsAndWildcards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	c.listen(1, "#", "+/x")
	other := w.connect(t, w.org("acme01").device("d2"), wire.V5)
	other.listen(1, "$own/#")
	app := w.connect(t, w.org("acme01").app("x"), wire.V5)
	app.say("$own/x", "for one", 1)
	other.hear("$own/x", "for one")
	c.silence(app, "y", "y")
}
