package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

func TestA5GatewaySpeaksForDevicesItReaches(t *testing.T) {
	t.Parallel()
	eachQoS(t, func(_ *testing.T, f *fleet) {
		g := f.gateway("g1")
		f.acme.reach("g1", "d1")
		app := f.app(allEvents)
		for i, topic := range []string{eventOf("d1"), eventOfG1} {
			g.say(topic, fmt.Sprint(i), f.qos)
			app.hear(topic, fmt.Sprint(i))
		}
		app.quiet()
	})
}

// What a gateway may not publish is acknowledged and dropped, and it reads why.
func TestA6GatewayIsToldOfWhatIsDropped(t *testing.T) {
	t.Parallel()
	eachQoS(t, func(_ *testing.T, f *fleet) {
		g := f.notified()
		app := f.app(allEvents, allCommands)
		f.acme.disable("d2", true)
		f.acme.reach("g1", "d2")
		for _, want := range []notice{
			refusedPublish("d1", 180), // not reached
			refusal("publish", commandOf("d1"), "sensor", "d1", 276),
			refusal("publish", "some/topic", "", "", 276),
			refusedPublish("d2", 180), // disabled
		} {
			g.say(want.Topic, "dropped", f.qos)
			g.told(want)
		}
		f.acme.disable("d2", false)
		g.say(eventOf("d2"), "passed", f.qos)
		app.hear(eventOf("d2"), "passed")
		app.quiet()
		g.quiet()
	})
}

// A call is answered, and needs no notice.
func TestA7GatewayOverHTTP(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	app := f.app(allEvents, "iot-2/type/+/id/+/mon")
	caller := f.enter(t, f.acme.gateway("g1"))
	defer caller.Leave()
	must(t, caller.Publish(ctx, eventOf("new"), []byte("1")))
	app.hear(eventOf("new"), "1")
	var denial *policy.Error
	if err := caller.Publish(ctx, eventOf("d1"), []byte("2")); !errors.As(err, &denial) || denial.Kind != policy.KindForbidden {
		t.Errorf("a device out of reach: %v", err)
	}
	app.quiet()
}

func TestA8GatewayIsToldOfRefusedFilters(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, f *fleet) {
		f.acme.reach("g1", "d1")
		g := f.notified()
		codes := g.subscribe(1, commandOf("d1"), commandOf("d2"), allEvents)
		if codes[0] != 1 || !codes[1].Failed() || !codes[2].Failed() {
			t.Fatalf("codes %v", codes)
		}
		if f.v == wire.V5 && codes[1] != wire.NotAuthorized || f.v == wire.V311 && codes[1] != wire.UnspecifiedError {
			t.Errorf("refused with %#x", byte(codes[1]))
		}
		g.told(refusedSubscribe("d2", 180))
		g.told(refusal("subscribe", allEvents, "", "", 276))
		app := f.app()
		app.say(commandOf("d2"), "1", 1)
		app.say(commandOf("d1"), "2", 1)
		g.hear(commandOf("d1"), "2")
		g.quiet()
		if codes := f.gateway("g2").subscribe(0, notifyOfG1); !codes[0].Failed() {
			t.Error("another gateway reads what this one was refused")
		}
	})
}

// A filter for all devices brings those that are reached at the time: live, and what
// waited.
func TestA9GatewayReceivesWhatItReaches(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(_ *testing.T, f *fleet) {
		f.acme.reach("g1", "d1")
		g := f.gateway("g1", keptClean)
		g.listen(1, allCommands)
		app := f.app()
		say := func(payload string) {
			for _, topic := range []string{commandOf("d1"), commandOf("d2"), commandOfG1} {
				app.say(topic, payload, 1)
			}
		}
		hear := func(payload string, topics ...string) {
			for _, topic := range topics {
				g.hear(topic, payload)
			}
		}
		say("1")
		hear("1", commandOf("d1"), commandOfG1)
		f.acme.reach("g1", "d2")
		say("2")
		hear("2", commandOf("d1"), commandOf("d2"), commandOfG1)
		g.drop(f.world)
		say("3")
		f.acme.lose("g1", "d1")
		g = f.gateway("g1", kept)
		hear("3", commandOf("d2"), commandOfG1)
		g.quiet()
	})
}

// Nobody but who is restricted pays for cordon.receive.
func TestA9NobodyElseIsAskedAboutDeliveries(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	d := f.connect(t, f.acme.device("d1"), f.v)
	d.listen(1, "iot-2/cmd/+/fmt/+")
	other := f.connect(t, f.acme.app("y"), f.v)
	other.listen(1, allCommands)
	app := f.app()
	app.say(commandOf("d1"), "0", 1)
	d.hear("iot-2/cmd/reboot/fmt/json", "0")
	other.hear(commandOf("d1"), "0")
	before := f.engine.Stats()
	for range 20 {
		app.say(commandOf("d1"), "x", 1)
		d.take()
		other.take()
	}
	after := f.engine.Stats()
	if asked := after.Remembered - before.Remembered + after.Evaluations - before.Evaluations; asked != 20 {
		t.Errorf("%d questions for 20 messages to two, want one each", asked)
	}
}

// A flood of refusals is told of a few times, and each is acknowledged.
func TestNoticesAreFew(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V311)
	f.acme.standard("g1")
	g := f.notified()
	for i := range 200 {
		g.say(eventOf(fmt.Sprint("x", i)), "1", 1)
	}
	g.ping()
	if n := len(g.inbox); n < 10 || n > 60 {
		t.Errorf("%d notices of 200 refusals", n)
	}
}
