package broker_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

func TestA27GatewayRegistersWhatItSpeaksFor(t *testing.T) {
	t.Parallel()
	eachQoS(t, func(t *testing.T, f *fleet) {
		g := f.notified()
		app := f.app(allEvents)
		topic := func(i int) string { return eventOf(fmt.Sprint("new", i%3)) }
		for i := range 5 { // in their order
			g.send(message(topic(i), fmt.Sprint(i), f.qos))
		}
		for i := range 5 {
			app.hear(topic(i), fmt.Sprint(i))
		}
		if !f.acme.sensor("new1").Registered || !f.acme.inGroupOf("g1", "new1") {
			t.Errorf("%+v", f.acme.sensor("new1"))
		}
		f.attempted(3)
		if f.qos == 0 {
			g.quiet()
		}
	})
}

func TestA27GatewayRegistersWhatItListensFor(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, f *fleet) {
		g := f.gateway("g1")
		g.listen(1, commandOf("new"))
		f.app().say(commandOf("new"), "1", 1)
		g.hear(commandOf("new"), "1")
		if d := f.acme.sensor("new"); !d.Registered {
			t.Errorf("%+v", d)
		}
		// Of several filters, and of any but commands, nothing is registered.
		for _, filters := range [][]string{
			{commandOf("a"), commandOf("b")},
			{"iot-2/type/sensor/id/a/mon"},
			{"$share/s/iot-2/type/sensor/id/a/mon"},
		} {
			for i, code := range g.subscribe(1, filters...) {
				if !code.Failed() {
					t.Errorf("%s: %v", filters[i], code)
				}
			}
		}
		g.listen(1, allCommands)
		f.attempted(1)
	})
}

// What is registered is what a gateway with that right speaks for, in a message
// that it may send.
func TestA27NothingElseIsRegistered(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	unknown := wire.Will{Topic: eventOf("new"), Payload: []byte("x"), QoS: 1}
	if c := f.answer(t, f.acme.gateway("g1"), f.v, withWill(unknown)); c.ack.Code != wire.NotAuthorized {
		t.Errorf("a will for a device that there is not: %s", c.ack.Code)
	}

	f.acme.standard("g2")
	standard := f.gateway("g2")
	standard.say(eventOf("new"), "1", 1)
	if code := standard.subscribe(1, commandOf("new"))[0]; !code.Failed() {
		t.Error(code)
	}

	f.connect(t, f.acme.device("d1"), f.v).publish(message(eventOf("new"), "2", 1))
	f.app().publish(message(eventOf("new"), "3", 1)) // an application needs no registration

	g := f.gateway("g1")
	for _, topic := range []string{
		commandOf("new"),
		"iot-2/type/sensor/id/new/mon",
		"iot-2/type/sensor/id/new/evt/status",
		"iot-2/type/sensor/id/n ew/evt/status/fmt/json",
		"iot-2/type/sensor/id/new/evt//fmt/json",
		"other/type/sensor/id/new/evt/status/fmt/json",
	} {
		g.say(topic, "4", 1)
	}
	f.attempted(0)
}

// Names of another organisation are names like any other.
func TestA27GatewayStaysInItsOrganisation(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	other := f.org("other1")
	other.addDevice("theirs")
	spy := f.connect(t, other.app("spy"), f.v)
	spy.listen(1, allEvents)
	g := f.gateway("g1")
	g.listen(1, commandOf("theirs"))
	g.say(eventOf("theirs"), "1", 1)
	if !f.acme.sensor("theirs").Registered || len(other.sensor("theirs").Groups) != 0 {
		t.Error("it is another device of this organisation")
	}
	f.connect(t, other.app("y"), f.v).say(commandOf("theirs"), "2", 1)
	f.connect(t, other.gateway("g1"), f.v).say(eventOf("d1"), "3", 1)
	g.quiet()
	spy.quiet()
}
