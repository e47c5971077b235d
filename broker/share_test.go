package broker_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

// A member is chosen among those that are online and may receive the message.
func TestA13ASharedMessageGoesToWhoMayHaveIt(t *testing.T) {
	t.Parallel()
	receive := `decision := {"allow": false, "reason": "not for d1"} if {
	input.principal.id == "d1"
	input.levels[1] == "secret"
}

else := {"allow": true}`
	w := newWorld(t, rules{receive: receive}.bundle(t))
	acme := w.org("acme01")
	d1, d2 := w.connect(t, acme.device("d1"), wire.V5), w.connect(t, acme.device("d2"), wire.V5)
	d1.listen(1, "$share/g/a/+")
	d2.listen(1, "$share/g/a/+")
	from := w.connect(t, acme.app("x"), wire.V5)
	for i := range 6 {
		from.say("a/secret", fmt.Sprint(i), 1)
	}
	for i := range 6 {
		d2.hear("a/secret", fmt.Sprint(i))
	}
	d1.quiet()

	// With nobody left who may, it is not handed to the one who may not.
	d2.disconnect()
	from.say("a/secret", "for nobody", 1)
	d1.quiet()
	from.say("a/open", "for d1", 1)
	d1.hear("a/open", "for d1")
}

func TestSharedMessagesTakeTurns(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			away := w.connect(t, acme.app("away"), v, keptClean)
			away.listen(1, "$share/g/a")
			away.disconnect()
			one, two := w.connect(t, acme.device("d1"), v), w.connect(t, acme.device("d2"), v)
			one.listen(1, "$share/g/a")
			two.listen(1, "$share/g/a")
			all := w.connect(t, acme.app("all"), v)
			all.listen(1, "a", "$share/other/a") // once for itself, once for the other group
			from := w.connect(t, acme.app("x"), v)
			const messages = 10
			for i := range messages {
				from.say("a", fmt.Sprint(i), 1)
			}
			for range messages * 2 {
				all.take()
			}
			counts := map[string]int{}
			for name, c := range map[string]*client{"one": one, "two": two} {
				for {
					c.ping()
					if len(c.inbox) == 0 {
						break
					}
					c.take()
					counts[name]++
				}
			}
			if counts["one"] != messages/2 || counts["two"] != messages/2 {
				t.Errorf("%v of %d messages; each wants half", counts, messages)
			}
			back := w.connect(t, acme.app("away"), v, kept)
			back.quiet() // others were online for every one
			from.say("a", "after", 0)
			all.take()
			all.take()
		})
	}
}

// What a member was sent and never acknowledged, and what waits for it, goes to
// another one when it leaves.
func TestAMemberThatLeavesGivesItsMessagesToAnother(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]option{"ends": func(*wire.Connect) {}, "keeps its session": keptClean} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			leaver := w.connect(t, acme.device("d1"), wire.V5, keep, receiveMaximum(2))
			leaver.listen(1, "$share/g/a")
			from := w.connect(t, acme.app("x"), wire.V5)
			for i := range 5 {
				from.say("a", fmt.Sprint(i), 1)
			}
			leaver.next()
			leaver.next() // two in flight, three wait
			stays := w.connect(t, acme.device("d2"), wire.V5)
			stays.listen(1, "$share/g/a")
			leaver.drop(w)
			for i := range 5 {
				stays.hear("a", fmt.Sprint(i))
			}
			back := w.connect(t, acme.device("d1"), wire.V5, kept)
			back.quiet()
			stays.quiet()
		})
	}
}

// A QoS 2 message that was sent belongs to whom it was sent to [MQTT-4.8.2-4].
func TestAQoS2MessageStaysWithItsMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	leaver := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	leaver.listen(2, "$share/g/a")
	from := w.connect(t, acme.app("x"), wire.V5)
	from.say("a", "once", 2)
	leaver.next()
	other := w.connect(t, acme.device("d2"), wire.V5)
	other.listen(2, "$share/g/a")
	leaver.drop(w)
	other.quiet()
	back := w.connect(t, acme.device("d1"), wire.V5, kept)
	if p := back.take(); string(p.Payload) != "once" || !p.Dup {
		t.Errorf("got %+v", p)
	}
}

// With nobody online a message waits with one that will be back.
func TestASharedMessageWaitsForAMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	c.listen(1, "$share/g/a")
	c.disconnect()
	from := w.connect(t, acme.app("x"), wire.V5)
	from.say("a", "waits", 1)
	from.say("a", "does not", 0)
	c = w.connect(t, acme.device("d1"), wire.V5, kept)
	c.hear("a", "waits")
	c.quiet()

	if ack := c.unsubscribe("a", "$share/other/a", "$share/g/a"); ack.Codes[0] != wire.NoSubscriptionExisted || ack.Codes[1] != wire.NoSubscriptionExisted || ack.Codes[2] != wire.Success {
		t.Errorf("codes %v", ack.Codes)
	}
	if ack := from.publish(message("a", "nobody", 1)); ack.Code != wire.NoMatchingSubscribers {
		t.Errorf("after the last member left: %s", ack.Code)
	}
}

func TestASharedSubscriptionGetsNothingRetained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	from := w.connect(t, acme.app("x"), wire.V5)
	from.retain("a", "kept", 1)
	c := w.connect(t, acme.device("d1"), wire.V5)
	c.listen(1, "$share/g/a")
	c.silence(from, "a", "a")
}

// A group is inside its organisation, whatever it is called.
func TestGroupsDoNotCrossOrganisations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme, beta := w.org("acme01"), w.org("beta02")
	ours, theirs := w.connect(t, acme.device("d1"), wire.V5), w.connect(t, beta.device("d1"), wire.V5)
	ours.listen(1, "$share/g/a")
	theirs.listen(1, "$share/g/a")
	from := w.connect(t, acme.app("x"), wire.V5)
	for i := range 4 {
		from.say("a", fmt.Sprint(i), 1)
	}
	for i := range 4 {
		ours.hear("a", fmt.Sprint(i))
	}
	theirs.silence(w.connect(t, beta.app("x"), wire.V5), "a", "a")
}

// A share of the connect answer makes every filter a shared one, in a group that
// no client can name.
func TestTheConnectAnswerShares(t *testing.T) {
	t.Parallel()
	connect := `decision := object.union({"allow": true, "mounts": [{"client": "", "org": ""}]}, _share)

_share := {"share": "pool"} if startswith(input.principal.app, "pool")

else := {}`
	w := newWorld(t, rules{connect: connect}.bundle(t))
	acme := w.org("acme01")
	one, two := w.connect(t, acme.app("pool1"), wire.V5), w.connect(t, acme.app("pool2"), wire.V5)
	one.listen(1, "a")
	two.listen(1, "a")
	outside := w.connect(t, acme.app("x"), wire.V5)
	outside.listen(1, "$share/pool/a")
	from := w.connect(t, acme.device("d1"), wire.V5)
	for i := range 4 {
		from.say("a", fmt.Sprint(i), 1)
	}
	for range 2 {
		one.take()
		two.take()
	}
	one.quiet()
	two.quiet()
	for i := range 4 {
		outside.hear("a", fmt.Sprint(i)) // alone in the group that it named
	}
	if ack := one.unsubscribe("a"); ack.Codes[0] != wire.Success {
		t.Errorf("unsubscribe: %s", ack.Codes[0])
	}
	from.say("a", "last", 1)
	two.hear("a", "last")
}

// The alias towards a client is that of the name as the client spells it.
func TestOutboundAliases(t *testing.T) {
	t.Parallel()
	connect := `decision := {"allow": true, "mounts": [{"client": "mine/", "org": "dev/"}]} if input.principal.kind == "device"

else := {"allow": true, "mounts": [{"client": "", "org": ""}]}`
	w := newWorld(t, rules{connect: connect}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5, func(c *wire.Connect) { c.TopicAliasMaximum = 2 })
	c.listen(1, "mine/+")
	from := w.connect(t, acme.app("x"), wire.V5)
	names := map[uint16]string{}
	for _, topic := range []string{"a", "b", "a", "c", "b", "a", "c"} {
		from.say("dev/"+topic, topic, 1)
		p := c.take()
		switch {
		case p.TopicAlias > 2:
			t.Fatalf("alias %d is over the client's maximum", p.TopicAlias)
		case p.TopicAlias != 0 && len(p.Topic) > 0:
			names[p.TopicAlias] = string(p.Topic)
		case p.TopicAlias != 0:
			p.Topic = []byte(names[p.TopicAlias])
		}
		if string(p.Topic) != "mine/"+topic || string(p.Payload) != topic {
			t.Errorf("got %q (alias %d), want mine/%s", p.Topic, p.TopicAlias, topic)
		}
	}
	if len(names) != 2 {
		t.Errorf("aliases %v, want two", names)
	}
}

// Applications that name no instance use one client ID, each with a session of
// its own that ends with it, and share what they subscribe to.
func TestApplicationsWithoutAnInstanceShare(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			who := acme.app("pool")
			who.clientID = "A:acme01:pool"
			if c := w.answer(t, who, v, func(c *wire.Connect) { c.CleanStart = false }); c.ack.Code == wire.Success {
				t.Error("a kept session that has no name")
			}
			one, two := w.connect(t, who, v), w.connect(t, who, v)
			const events = "iot-2/type/sensor/id/+/evt/+/fmt/+"
			one.listen(1, events)
			two.listen(1, events)
			device := w.connect(t, acme.device("d1"), wire.V5)
			for i := range 4 {
				device.say("iot-2/evt/e/fmt/json", fmt.Sprint(i), 1)
			}
			for range 2 {
				one.take()
				two.take()
			}
			one.quiet()
			two.quiet()
			named := who
			named.clientID = "A:acme01:pool:i1"
			instance := w.connect(t, named, v)
			instance.listen(1, events)
			device.say("iot-2/evt/e/fmt/json", "for one of each pool", 1)
			instance.hear("iot-2/type/sensor/id/d1/evt/e/fmt/json", "for one of each pool")
		})
	}
}
