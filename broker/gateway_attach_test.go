package broker_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// A registration that fails drops the message; the gateway reads why, and it is not
// tried again for a while.
func TestA27RegistrationFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind policy.Kind
		why  string
		rc   int
	}{
		"limit":   {policy.KindLimit, "at most 500 devices", 104},
		"invalid": {policy.KindInvalid, "no name", 105},
		"refused": {policy.KindForbidden, "no such gateway", 180},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, wire.V311)
			g := f.notified()
			f.registry.attach(func(func() error) error { return &policy.Error{Kind: tt.kind, Public: tt.why} })
			message := "the device could not be registered: " + tt.why
			for range 3 {
				g.say(eventOf("new"), "1", 1)
				g.told(refusedPublish("new", tt.rc).because(message))
			}
			if code := g.subscribe(1, commandOf("new"))[0]; !code.Failed() {
				t.Error(code)
			}
			g.told(refusedSubscribe("new", tt.rc).because(message))
			f.attempted(1)
		})
	}
	t.Run("unknown type", func(t *testing.T) {
		t.Parallel()
		g := newFleet(t, wire.V311).notified()
		topic := "iot-2/type/../id/../evt/status/fmt/json" // names like any other, but in a path
		g.say(topic, "1", 1)
		g.told(refusal("publish", topic, "..", "..", 105))
	})
	// Where another try may succeed, nothing is acknowledged.
	t.Run("unavailable", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, wire.V5)
		g := f.gateway("g1")
		f.registry.attach(func(func() error) error { return errors.New("disk") })
		for range 2 {
			if ack := g.publish(message(eventOf("new"), "1", 1)); ack.Code != wire.ServerUnavailable && !ack.Code.Failed() {
				t.Errorf("%s", ack.Code)
			}
		}
		f.registry.attach(nil)
		g.say(eventOf("new"), "1", 1)
		f.attempted(3)
		if !f.acme.sensor("new").Registered {
			t.Error("it is not registered")
		}
	})
}

// Two gateways, one device: one of them has it, the other does not reach it.
func TestA27TwoGatewaysRegisterOneDevice(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	app := f.app(allEvents)
	gateways := []*client{f.gateway("g1"), f.gateway("g2")}
	var both sync.WaitGroup
	both.Add(2)
	f.registry.attach(func(attach func() error) error {
		both.Done()
		both.Wait() // neither began after the other's end
		return attach()
	})
	for i, g := range gateways {
		g.send(message(eventOf("new"), fmt.Sprint("g", i+1), 1))
	}
	if won := string(app.take().Payload); !f.acme.inGroupOf(won, "new") {
		t.Errorf("%s was heard, and %v has it", won, f.acme.sensor("new").Groups)
	}
	for _, g := range gateways {
		g.Expect(wire.TypePuback)
	}
	app.quiet()
	if lines := f.log.find("msg", "refused", "action", "publish", "topic", eventOf("new")); len(lines) != 1 {
		t.Errorf("%d refusals:\n%s", len(lines), f.log.text())
	}
}

// While a gateway waits, nobody else does; and a gateway that goes away meanwhile
// leaves a whole device.
func TestA27RegistrationHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	app := f.app(allEvents)
	g := f.gateway("g1")
	g.listen(1, allCommands)
	begun, goOn := make(chan struct{}), make(chan struct{})
	f.registry.attach(func(attach func() error) error {
		close(begun)
		<-goOn
		return attach()
	})
	g.send(message(eventOf("new"), "1", 1))
	<-begun
	f.acme.reach("g2", "d2")
	f.gateway("g2").say(eventOf("d2"), "2", 1)
	app.hear(eventOf("d2"), "2")
	app.say(commandOfG1, "3", 1) // to the one that waits
	g.Close()
	app.say(commandOfG1, "4", 1)
	close(goOn)
	eventually(t, func() bool { return f.acme.sensor("new").Registered })
	f.stop()
}

// A device that is gone again when its message is judged is not registered twice.
func TestA27DeviceIsDeletedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	app := f.app(allEvents)
	g := f.notified()
	f.registry.attach(func(attach func() error) error {
		if err := attach(); err != nil {
			return err
		}
		return f.registry.DeleteDevice(ctx, f.acme.id, "sensor", "new")
	})
	g.say(eventOf("new"), "1", 1)
	g.told(refusedPublish("new", 180))
	app.quiet()
	f.attempted(1)
	f.registry.attach(nil)
	g.say(eventOf("new"), "2", 1)
	app.hear(eventOf("new"), "2")
}

// A gateway whose right ends while it waits has said nothing.
func TestA27GatewayIsRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, wire.V5)
	app := f.app(allEvents)
	g := f.gateway("g1")
	f.registry.attach(func(attach func() error) error {
		err := attach()
		f.activate(rules{connect: `decision := {"allow": false, "reason": "closed"}`})
		return err
	})
	g.send(message(eventOf("new"), "1", 1))
	g.expectGone()
	if lines := f.log.find("msg", "refused", "action", "connect"); len(lines) == 0 {
		t.Errorf("not logged:\n%s", f.log.text())
	}
	for range app.inbox {
		t.Error("something was heard")
	}
}
