package broker_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

// Two organisations that have everything alike: names, topics, client IDs and a
// policy that allows all of it. Neither ever hears of the other.
func TestOrganisationsShareNothing(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme, beta := w.org("acme01"), w.org("beta02")
			will := withWill(wire.Will{Topic: "will", Payload: []byte("of acme"), QoS: 2, Retain: true})

			// The same free client ID and subject name: two sessions, both live.
			listener := w.connect(t, acme.free("x", "same"), v, kept)
			listener.listen(2, "#", "+/+")
			other := w.connect(t, beta.free("x", "same"), v, kept)
			other.listen(2, "#", "+/+")
			from := w.connect(t, acme.free("y", "from"), v, will)
			otherFrom := w.connect(t, beta.free("y", "from"), v)

			for qos := range byte(3) { // events
				from.say("a", "of acme", qos)
				listener.hear("a", "of acme")
			}
			from.retain("kept", "of acme", 1)
			listener.hear("kept", "of acme")
			from.drop(w) // will
			listener.hear("will", "of acme")
			other.silence(otherFrom, "fence", "fence")
			late := w.connect(t, beta.app("late"), v) // retained, also by the will
			late.listen(2, "#")
			late.quiet()

			// Clearing is one's own too.
			otherFrom.retain("kept", "", 1)
			own := w.connect(t, acme.app("late"), v)
			own.listen(1, "kept")
			own.hear("kept", "of acme")

			other.hear("kept", "") // the empty message itself

			// Sessions and queues.
			listener.disconnect()
			other.disconnect()
			from = w.connect(t, acme.free("y", "from"), v)
			from.say("a", "queued", 1)
			other = w.connect(t, beta.free("x", "same"), v, kept)
			other.quiet()
			listener = w.connect(t, acme.free("x", "same"), v, kept)
			listener.hear("a", "queued")
			listener.disconnect()
			if other = w.connect(t, beta.free("x", "same"), v); other.ack.SessionPresent { // begins anew
				t.Error("session present")
			}
			from.say("a", "queued again", 1)
			listener = w.connect(t, acme.free("x", "same"), v, kept)
			listener.hear("a", "queued again") // beta's clean start emptied beta's session alone
		})
	}
}

// What an organisation writes into a topic, a client ID or a will names no other.
func TestNothingAClientWritesReachesAnotherOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme, beta := w.org("acme01"), w.org("beta02")
	listener := w.connect(t, beta.free("x", "listener"), wire.V5)
	listener.listen(1, "#", "/#", "$beta/#", "+/+/#")
	for _, topic := range []string{"beta02/a", "/beta02/a", "$beta/a", "../beta02/a", "beta02", "//", "iot-2/beta02/type/sensor/id/d1/evt/e/fmt/json"} {
		from := w.connect(t, acme.free("beta02", "d:beta02:sensor:d1"), wire.V5,
			withWill(wire.Will{Topic: topic, Payload: []byte("will"), QoS: 1}))
		from.retain(topic, "x", 1)
		from.drop(w)
	}
	listener.silence(listener, "fence", "fence")
	late := w.connect(t, beta.free("x", "late"), wire.V5)
	late.listen(1, "#", "/#", "$beta/#")
	late.quiet()
}

// With the built-in policies devices are apart inside their organisation too.
func TestDevicesSeeOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			d1, d2 := w.connect(t, acme.device("d1"), v), w.connect(t, acme.device("d2"), v)
			d1.listen(1, "iot-2/cmd/+/fmt/+")
			d2.listen(1, "iot-2/cmd/+/fmt/+")
			for _, filter := range []string{"#", "+/cmd/+/fmt/+", "iot-2/#", "iot-2/type/sensor/id/d2/cmd/+/fmt/+", "iot-2/evt/+/fmt/+", "$SYS/#", "/iot-2/#"} {
				if codes := d1.subscribe(0, filter); !codes[0].Failed() {
					t.Errorf("subscribed to %s", filter)
				}
			}
			app := w.connect(t, acme.app("x"), v)
			app.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
			app.say("iot-2/type/sensor/id/d2/cmd/go/fmt/json", "for d2", 1)
			app.say("iot-2/type/sensor/id/d1/cmd/go/fmt/json", "for d1", 1)
			d1.hear("iot-2/cmd/go/fmt/json", "for d1")
			d2.hear("iot-2/cmd/go/fmt/json", "for d2")
			for i, d := range []*client{d1, d2} {
				d.say("iot-2/evt/e/fmt/json", "x", 1)
				app.hear(fmt.Sprintf("iot-2/type/sensor/id/d%d/evt/e/fmt/json", i+1), "x")
			}
			d1.quiet()
		})
	}
}
