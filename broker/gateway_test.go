package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// gateway registers a privileged gateway of type router, unless there is one of this
// name: it reaches the devices of its default group.
func (o *organisation) gateway(id string) login {
	o.w.t.Helper()
	if o.tokens[id] == "" {
		_, err := o.w.registry.CreateType(ctx, o.id, registry.DeviceType{ID: "router", ClassID: registry.ClassGateway})
		if policy.KindOf(err) != policy.KindExists {
			must(o.w.t, err)
		}
		_, token, err := o.w.registry.CreateDevice(ctx, o.id, registry.Device{Type: "router", ID: policy.ID(id)}, plugins.Secret{})
		must(o.w.t, err)
		o.keep(id, token)
	}
	return login{"g:" + o.id.String() + ":router:" + id, "use-token-auth", o.tokens[id]}
}

// standard takes the gateway's right to register.
func (o *organisation) standard(id string) {
	o.w.t.Helper()
	_, err := o.w.registry.UpdateDevice(ctx, o.id, "router", policy.ID(id), func(d *registry.Device) error {
		d.Roles = []string{"PD_STANDARD_GW_DEVICE"}
		return nil
	})
	must(o.w.t, err)
}

func (o *organisation) defaultGroup(gateway string) string {
	return "gw_def_res_grp:" + o.id.String() + ":router:" + gateway
}

// reach puts a sensor into the default group of a gateway.
func (o *organisation) reach(gateway, sensor string) {
	o.w.t.Helper()
	results, err := o.w.registry.AddToGroup(ctx, o.id, o.defaultGroup(gateway), []registry.DeviceName{{Type: "sensor", ID: policy.ID(sensor)}})
	must(o.w.t, err)
	for _, r := range results {
		must(o.w.t, r.Err)
	}
}

func (o *organisation) facts(typ, id string) *policy.Device {
	o.w.t.Helper()
	d, err := o.w.registry.DeviceFacts(ctx, o.id, policy.ID(typ), policy.ID(id))
	must(o.w.t, err)
	return d
}

func eventOf(sensor string) string { return "iot-2/type/sensor/id/" + sensor + "/evt/status/fmt/json" }

func commandOf(sensor string) string {
	return "iot-2/type/sensor/id/" + sensor + "/cmd/reboot/fmt/json"
}

const (
	allEvents   = "iot-2/type/+/id/+/evt/+/fmt/+"
	allCommands = "iot-2/type/+/id/+/cmd/+/fmt/+"
	notifyOfG1  = "iot-2/type/router/id/g1/notify"
)

// notice is what a gateway reads of a refusal.
type notice struct {
	Request, Time, Topic, Type, ID, Client, Message string
	RC                                              int
}

// told takes the next message, which must be a notice of this.
func (c *client) told(want notice) {
	c.t.Helper()
	p := c.take()
	var got struct {
		notice
		ID string `json:"Id"`
	}
	if err := json.Unmarshal(p.Payload, &got); err != nil {
		c.t.Fatalf("%s %q: %v", p.Topic, p.Payload, err)
	}
	at, err := time.Parse(time.RFC3339, got.Time)
	if err != nil || time.Since(at).Abs() > time.Minute {
		c.t.Errorf("time %q", got.Time)
	}
	got.notice.ID, got.notice.Time = got.ID, ""
	if want.Message == "" {
		want.Message = got.Message
	}
	if string(p.Topic) != notifyOfG1 || p.QoS != 0 || p.Retain || got.notice != want {
		c.t.Fatalf("%s\n%+v, want\n%+v", p.Topic, got.notice, want)
	}
}

func refusedPublish(sensor string, rc int) notice {
	return notice{Request: "publish", Topic: eventOf(sensor), Type: "sensor", ID: sensor, Client: "g:acme01:router:g1", RC: rc}
}

func refusedSubscribe(sensor string, rc int) notice {
	n := refusedPublish(sensor, rc)
	n.Request, n.Topic = "subscribe", commandOf(sensor)
	return n
}

func TestA5GatewaySpeaksForDevicesItReaches(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %s QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, builtIn())
				acme := w.org("acme01")
				g := w.connect(t, acme.gateway("g1"), v)
				acme.reach("g1", "d1")
				app := w.connect(t, acme.app("x"), v)
				app.listen(qos, allEvents)
				g.say(eventOf("d1"), "1", qos)
				app.hear(eventOf("d1"), "1")
				g.say("iot-2/type/router/id/g1/evt/status/fmt/json", "2", qos)
				app.hear("iot-2/type/router/id/g1/evt/status/fmt/json", "2")
				app.quiet()
			})
		}
	}
}

// What a gateway may not publish is acknowledged and dropped, and it reads why.
func TestA6GatewayIsToldOfWhatIsDropped(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %s QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, builtIn())
				acme := w.org("acme01")
				g := w.connect(t, acme.gateway("g1"), v)
				app := w.connect(t, acme.app("x"), v)
				app.listen(qos, allEvents, allCommands)
				g.listen(0, notifyOfG1)
				g.say(eventOf("d1"), "1", qos)
				g.told(refusedPublish("d1", 180))
				n := refusedPublish("d1", 276)
				n.Topic = commandOf("d1")
				g.say(n.Topic, "2", qos)
				g.told(n)
				g.say("some/topic", "3", qos)
				g.told(notice{Request: "publish", Topic: "some/topic", Client: n.Client, RC: 276})
				must(t, disable(acme, "d2", true))
				acme.reach("g1", "d2")
				g.say(eventOf("d2"), "4", qos)
				g.told(refusedPublish("d2", 180))
				must(t, disable(acme, "d2", false))
				g.say(eventOf("d2"), "5", qos)
				app.hear(eventOf("d2"), "5")
				app.quiet()
				g.quiet()
			})
		}
	}
}

func disable(o *organisation, sensor string, yes bool) error {
	_, err := o.w.registry.UpdateDevice(ctx, o.id, "sensor", policy.ID(sensor), func(d *registry.Device) error {
		d.Disabled = yes
		return nil
	})
	return err
}

func TestA8GatewayIsToldOfRefusedFilters(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			acme.gateway("g1")
			acme.reach("g1", "d1")
			g := w.connect(t, acme.gateway("g1"), v)
			g.listen(0, notifyOfG1)
			codes := g.subscribe(1, commandOf("d1"), commandOf("d2"), allEvents)
			if codes[0] != 1 || !codes[1].Failed() || !codes[2].Failed() {
				t.Fatalf("codes %v", codes)
			}
			if v == wire.V5 && codes[1] != wire.NotAuthorized || v == wire.V311 && codes[1] != wire.UnspecifiedError {
				t.Errorf("refused with %#x", byte(codes[1]))
			}
			g.told(refusedSubscribe("d2", 180))
			g.told(notice{Request: "subscribe", Topic: allEvents, Client: "g:acme01:router:g1", RC: 276})
			app := w.connect(t, acme.app("x"), v)
			app.say(commandOf("d2"), "1", 1)
			app.say(commandOf("d1"), "2", 1)
			g.hear(commandOf("d1"), "2")
			g.quiet()
			if codes := w.connect(t, acme.gateway("g2"), v).subscribe(0, notifyOfG1); !codes[0].Failed() {
				t.Error("another gateway reads what this one was refused")
			}
		})
	}
}

// A filter for all devices brings those that are reached at the time: live,
// retained, and what waited.
func TestA9GatewayReceivesWhatItReaches(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			acme.gateway("g1")
			acme.reach("g1", "d1")
			g := w.connect(t, acme.gateway("g1"), v, keptClean)
			g.listen(1, allCommands)
			app := w.connect(t, acme.app("x"), v)
			own := "iot-2/type/router/id/g1/cmd/reboot/fmt/json"
			say := func(payload string) {
				app.say(commandOf("d1"), payload, 1)
				app.say(commandOf("d2"), payload, 1)
				app.say(own, payload, 1)
			}
			say("1")
			g.hear(commandOf("d1"), "1")
			g.hear(own, "1")
			acme.reach("g1", "d2")
			say("2")
			g.hear(commandOf("d1"), "2")
			g.hear(commandOf("d2"), "2")
			g.hear(own, "2")
			g.drop(w)
			say("3")
			_, err := w.registry.RemoveFromGroup(ctx, acme.id, acme.defaultGroup("g1"), []registry.DeviceName{{Type: "sensor", ID: "d1"}})
			must(t, err)
			g = w.connect(t, acme.gateway("g1"), v, kept)
			g.hear(commandOf("d2"), "3")
			g.hear(own, "3")
			g.quiet()
		})
	}
}

// Nobody but who is restricted pays for cordon.receive.
func TestA9NobodyElseIsAskedAboutDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	d := w.connect(t, acme.device("d1"), wire.V5)
	d.listen(1, "iot-2/cmd/+/fmt/+")
	other := w.connect(t, acme.app("y"), wire.V5)
	other.listen(1, allCommands)
	app := w.connect(t, acme.app("x"), wire.V5)
	app.say(commandOf("d1"), "0", 1)
	d.hear("iot-2/cmd/reboot/fmt/json", "0")
	other.hear(commandOf("d1"), "0")
	before := w.engine.Stats()
	for range 20 {
		app.say(commandOf("d1"), "x", 1)
		d.take()
		other.take()
	}
	after := w.engine.Stats()
	if asked := after.Remembered - before.Remembered + after.Evaluations - before.Evaluations; asked != 20 {
		t.Errorf("%d questions for 20 messages to two, want one each", asked)
	}
}

func TestA27GatewayRegistersWhatItSpeaksFor(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %s QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, builtIn())
				acme := w.org("acme01")
				g := w.connect(t, acme.gateway("g1"), v)
				g.listen(0, notifyOfG1)
				app := w.connect(t, acme.app("x"), v)
				app.listen(qos, allEvents)
				for i := range 5 { // in their order
					p := message(eventOf(fmt.Sprint("new", i%3)), fmt.Sprint(i), qos)
					g.send(p)
				}
				for i := range 5 {
					app.hear(eventOf(fmt.Sprint("new", i%3)), fmt.Sprint(i))
				}
				if d := acme.facts("sensor", "new1"); !d.Registered || len(d.Groups) != 1 || d.Groups[0] != acme.defaultGroup("g1") {
					t.Errorf("%+v", d)
				}
				if n := w.registry.attached.Load(); n != 3 {
					t.Errorf("%d registrations of 3 devices", n)
				}
				if qos == 0 {
					g.quiet()
				}
			})
		}
	}
}

func TestA27GatewayRegistersWhatItListensFor(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			g := w.connect(t, acme.gateway("g1"), v)
			g.listen(1, commandOf("new"))
			app := w.connect(t, acme.app("x"), v)
			app.say(commandOf("new"), "1", 1)
			g.hear(commandOf("new"), "1")
			if d := acme.facts("sensor", "new"); !d.Registered {
				t.Errorf("%+v", d)
			}
			// Of several filters, and of any but commands, nothing is registered.
			for _, filters := range [][]string{{commandOf("a"), commandOf("b")}, {"iot-2/type/sensor/id/a/mon"}, {"$share/s/iot-2/type/sensor/id/a/mon"}} {
				for i, code := range g.subscribe(1, filters...) {
					if !code.Failed() {
						t.Errorf("%s: %v", filters[i], code)
					}
				}
			}
			g.listen(1, allCommands)
			if w.registry.attached.Load() != 1 {
				t.Errorf("%d registrations", w.registry.attached.Load())
			}
		})
	}
}

// What is registered is what a gateway with that right speaks for, in a message
// that it may send.
func TestA27NothingElseIsRegistered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	acme.gateway("g2")
	acme.standard("g2")
	unknown := wire.Will{Topic: eventOf("new"), Payload: []byte("x"), QoS: 1}
	if c := w.answer(t, acme.gateway("g1"), wire.V5, withWill(unknown)); c.ack.Code != wire.NotAuthorized {
		t.Errorf("a will for a device that there is not: %s", c.ack.Code)
	}
	g := w.connect(t, acme.gateway("g1"), wire.V5)
	standard := w.connect(t, acme.gateway("g2"), wire.V5)
	standard.say(eventOf("new"), "1", 1)
	if code := standard.subscribe(1, commandOf("new"))[0]; !code.Failed() {
		t.Error(code)
	}
	d := w.connect(t, acme.device("d1"), wire.V5)
	d.publish(message("iot-2/type/sensor/id/new/evt/status/fmt/json", "2", 1))
	app := w.connect(t, acme.app("x"), wire.V5)
	app.publish(message(eventOf("new"), "3", 1)) // an application needs no registration
	for _, topic := range []string{
		commandOf("new"), "iot-2/type/sensor/id/new/mon", "iot-2/type/sensor/id/new/evt/status",
		"iot-2/type/sensor/id/n ew/evt/status/fmt/json", "iot-2/type/sensor/id/new/evt//fmt/json",
		"other/type/sensor/id/new/evt/status/fmt/json",
	} {
		g.say(topic, "4", 1)
	}
	if n := w.registry.attached.Load(); n != 0 {
		t.Errorf("%d registrations", n)
	}
}

// A registration that fails drops the message; the gateway reads why, and it is not
// tried again for a while. Where another try may succeed, nothing is acknowledged.
func TestA27RegistrationFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err     error
		message string
		rc      int
	}{
		"limit":   {&policy.Error{Kind: policy.KindLimit, Public: "at most 500 devices"}, "the device could not be registered: at most 500 devices", 104},
		"invalid": {&policy.Error{Kind: policy.KindInvalid, Public: "no name"}, "the device could not be registered: no name", 105},
		"refused": {&policy.Error{Kind: policy.KindForbidden, Public: "no such gateway"}, "the device could not be registered: no such gateway", 180},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			g := w.connect(t, acme.gateway("g1"), wire.V311)
			g.listen(0, notifyOfG1)
			w.registry.attach(func(func() error) error { return tt.err })
			for range 3 {
				g.say(eventOf("new"), "1", 1)
				n := refusedPublish("new", tt.rc)
				n.Message = tt.message
				g.told(n)
			}
			if code := g.subscribe(1, commandOf("new"))[0]; !code.Failed() {
				t.Error(code)
			}
			n := refusedSubscribe("new", tt.rc)
			n.Message = tt.message
			g.told(n)
			if n := w.registry.attached.Load(); n != 1 {
				t.Errorf("tried %d times", n)
			}
		})
	}
	t.Run("unavailable", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, builtIn())
		acme := w.org("acme01")
		g := w.connect(t, acme.gateway("g1"), wire.V5)
		w.registry.attach(func(func() error) error { return errors.New("disk") })
		for range 2 {
			if ack := g.publish(message(eventOf("new"), "1", 1)); ack.Code != wire.ServerUnavailable && !ack.Code.Failed() {
				t.Errorf("%s", ack.Code)
			}
		}
		w.registry.attach(nil)
		g.say(eventOf("new"), "1", 1)
		if n := w.registry.attached.Load(); n != 3 || !acme.facts("sensor", "new").Registered {
			t.Errorf("tried %d times", n)
		}
	})
	t.Run("unknown type", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, builtIn())
		acme := w.org("acme01")
		g := w.connect(t, acme.gateway("g1"), wire.V311)
		g.listen(0, notifyOfG1)
		topic := "iot-2/type/../id/../evt/status/fmt/json" // names like any other, but in a path
		g.say(topic, "1", 1)
		g.told(notice{Request: "publish", Topic: topic, Type: "..", ID: "..", Client: "g:acme01:router:g1", RC: 105})
	})
}

// Two gateways, one device: one of them has it, the other does not reach it.
func TestA27TwoGatewaysRegisterOneDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, allEvents)
	gateways := []*client{w.connect(t, acme.gateway("g1"), wire.V5), w.connect(t, acme.gateway("g2"), wire.V5)}
	var both sync.WaitGroup
	both.Add(2)
	w.registry.attach(func(attach func() error) error {
		both.Done()
		both.Wait() // neither began after the other's end
		return attach()
	})
	for i, g := range gateways {
		g.send(message(eventOf("new"), fmt.Sprint("g", i+1), 1))
	}
	won := string(app.take().Payload)
	if group := acme.facts("sensor", "new").Groups; len(group) != 1 || group[0] != acme.defaultGroup(won) {
		t.Errorf("%s was heard, and %v has it", won, group)
	}
	for _, g := range gateways {
		g.Expect(wire.TypePuback)
	}
	app.quiet()
	if lines := w.log.find("msg", "refused", "action", "publish", "topic", eventOf("new")); len(lines) != 1 {
		t.Errorf("%d refusals:\n%s", len(lines), w.log.text())
	}
}

// While a gateway waits, nobody else does; and a gateway that goes away meanwhile
// leaves a whole device.
func TestA27RegistrationHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, allEvents)
	g := w.connect(t, acme.gateway("g1"), wire.V5)
	g.listen(1, allCommands)
	begun, goOn := make(chan struct{}), make(chan struct{})
	w.registry.attach(func(attach func() error) error {
		close(begun)
		<-goOn
		return attach()
	})
	g.send(message(eventOf("new"), "1", 1))
	<-begun
	other := w.connect(t, acme.gateway("g2"), wire.V5)
	acme.reach("g2", "d2")
	other.say(eventOf("d2"), "2", 1)
	app.hear(eventOf("d2"), "2")
	app.say("iot-2/type/router/id/g1/cmd/reboot/fmt/json", "3", 1) // to the one that waits
	g.Close()
	app.say("iot-2/type/router/id/g1/cmd/reboot/fmt/json", "4", 1)
	close(goOn)
	eventually(t, func() bool { return acme.facts("sensor", "new").Registered })
	w.stop()
}

// A device that is gone again when its message is judged is not registered twice.
func TestA27DeviceIsDeletedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, allEvents)
	g := w.connect(t, acme.gateway("g1"), wire.V5)
	g.listen(0, notifyOfG1)
	w.registry.attach(func(attach func() error) error {
		if err := attach(); err != nil {
			return err
		}
		return w.registry.DeleteDevice(ctx, acme.id, "sensor", "new")
	})
	g.say(eventOf("new"), "1", 1)
	g.told(refusedPublish("new", 180))
	app.quiet()
	if n := w.registry.attached.Load(); n != 1 {
		t.Errorf("registered %d times", n)
	}
	w.registry.attach(nil)
	g.say(eventOf("new"), "2", 1)
	app.hear(eventOf("new"), "2")
}

// A gateway whose right ends while it waits has said nothing.
func TestA27GatewayIsRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, allEvents)
	g := w.connect(t, acme.gateway("g1"), wire.V5)
	w.registry.attach(func(attach func() error) error {
		err := attach()
		w.activate(rules{connect: `decision := {"allow": false, "reason": "closed"}`})
		return err
	})
	g.send(message(eventOf("new"), "1", 1))
	g.expectGone()
	if lines := w.log.find("msg", "refused", "action", "connect"); len(lines) == 0 {
		t.Errorf("not logged:\n%s", w.log.text())
	}
	for range app.inbox {
		t.Error("something was heard")
	}
}

// Names of another organisation are names like any other.
func TestA27GatewayStaysInItsOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme, other := w.org("acme01"), w.org("other1")
	other.addDevice("theirs")
	spy := w.connect(t, other.app("spy"), wire.V5)
	spy.listen(1, allEvents)
	g := w.connect(t, acme.gateway("g1"), wire.V5)
	g.listen(1, commandOf("theirs"))
	g.say(eventOf("theirs"), "1", 1)
	if !acme.facts("sensor", "theirs").Registered || len(other.facts("sensor", "theirs").Groups) != 0 {
		t.Error("it is another device of this organisation")
	}
	w.connect(t, other.app("y"), wire.V5).say(commandOf("theirs"), "2", 1)
	w.connect(t, other.gateway("g1"), wire.V5).say(eventOf("d1"), "3", 1)
	g.quiet()
	spy.quiet()
}

// A flood of refusals is told of a few times, and each is acknowledged.
func TestNoticesAreFew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	acme.gateway("g1")
	acme.standard("g1")
	g := w.connect(t, acme.gateway("g1"), wire.V311)
	g.listen(0, notifyOfG1)
	for i := range 200 {
		g.say(eventOf(fmt.Sprint("x", i)), "1", 1)
	}
	g.ping()
	if n := len(g.inbox); n < 10 || n > 60 {
		t.Errorf("%d notices of 200 refusals", n)
	}
}

// A call is answered, and needs no notice.
func TestA7GatewayOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("x"), wire.V5)
	app.listen(1, allEvents, "iot-2/type/+/id/+/mon")
	who := acme.gateway("g1")
	caller := w.enter(t, who)
	defer caller.Leave()
	must(t, caller.Publish(ctx, eventOf("new"), []byte("1")))
	app.hear(eventOf("new"), "1")
	var denial *policy.Error
	if err := caller.Publish(ctx, eventOf("d1"), []byte("2")); !errors.As(err, &denial) || denial.Kind != policy.KindForbidden {
		t.Errorf("a device out of reach: %v", err)
	}
	app.quiet()
}
