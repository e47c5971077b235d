package broker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// What gateways speak and listen for. gateway_reach_test.go is about devices that there
// are, gateway_register_test.go about those that a gateway registers, and
// gateway_attach_test.go about what happens meanwhile.
const (
	allEvents   = "iot-2/type/+/id/+/evt/+/fmt/+"
	allCommands = "iot-2/type/+/id/+/cmd/+/fmt/+"
	eventOfG1   = "iot-2/type/router/id/g1/evt/status/fmt/json"
	commandOfG1 = "iot-2/type/router/id/g1/cmd/reboot/fmt/json"
	notifyOfG1  = "iot-2/type/router/id/g1/notify"
)

func eventOf(sensor string) string { return "iot-2/type/sensor/id/" + sensor + "/evt/status/fmt/json" }

func commandOf(sensor string) string {
	return "iot-2/type/sensor/id/" + sensor + "/cmd/reboot/fmt/json"
}

// fleet is a world that the built-in policy rules, and whose clients belong to acme01
// and speak one version at one QoS.
type fleet struct {
	*world
	acme *organisation
	v    wire.Version
	qos  byte
}

// newFleet speaks at QoS 1.
func newFleet(t *testing.T, v wire.Version) *fleet {
	t.Helper()
	w := newWorld(t, builtIn())
	return &fleet{w, w.org("acme01"), v, 1}
}

// eachVersion runs test with a fleet for each version.
func eachVersion(t *testing.T, test func(t *testing.T, f *fleet)) {
	t.Helper()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, newFleet(t, v))
		})
	}
}

// eachQoS runs test with a fleet for each version and QoS.
func eachQoS(t *testing.T, test func(t *testing.T, f *fleet)) {
	t.Helper()
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %s QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, v)
				f.qos = qos
				test(t, f)
			})
		}
	}
}

// gateway connects the gateway of this name.
func (f *fleet) gateway(id string, options ...option) *client {
	f.t.Helper()
	return f.connect(f.t, f.acme.gateway(id), f.v, options...)
}

// notified connects gateway g1, which listens for its notices.
func (f *fleet) notified() *client {
	f.t.Helper()
	g := f.gateway("g1")
	g.listen(0, notifyOfG1)
	return g
}

// app connects an application, which listens for the filters, if there are any.
func (f *fleet) app(filters ...string) *client {
	f.t.Helper()
	app := f.connect(f.t, f.acme.app("x"), f.v)
	if len(filters) > 0 {
		app.listen(f.qos, filters...)
	}
	return app
}

// attempted holds that so many registrations were tried.
func (f *fleet) attempted(want int64) {
	f.t.Helper()
	if n := f.registry.attached.Load(); n != want {
		f.t.Errorf("%d registrations, want %d", n, want)
	}
}

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

func (o *organisation) edit(typ, id string, change func(d *registry.Device)) {
	o.w.t.Helper()
	_, err := o.w.registry.UpdateDevice(ctx, o.id, policy.ID(typ), policy.ID(id), func(d *registry.Device) error {
		change(d)
		return nil
	})
	must(o.w.t, err)
}

// standard registers a gateway that has no right to register.
func (o *organisation) standard(id string) {
	o.w.t.Helper()
	o.gateway(id)
	o.edit("router", id, func(d *registry.Device) { d.Roles = []string{"PD_STANDARD_GW_DEVICE"} })
}

func (o *organisation) disable(sensor string, yes bool) {
	o.w.t.Helper()
	o.edit("sensor", sensor, func(d *registry.Device) { d.Disabled = yes })
}

func (o *organisation) defaultGroup(gateway string) string {
	return "gw_def_res_grp:" + o.id.String() + ":router:" + gateway
}

// reach puts a sensor into the default group of a gateway, which is registered if there
// is none.
func (o *organisation) reach(gateway, sensor string) {
	o.w.t.Helper()
	o.gateway(gateway)
	o.grouped(o.w.registry.AddToGroup(ctx, o.id, o.defaultGroup(gateway), sensorNamed(sensor)))
}

// lose takes a sensor out of the default group of a gateway.
func (o *organisation) lose(gateway, sensor string) {
	o.w.t.Helper()
	o.grouped(o.w.registry.RemoveFromGroup(ctx, o.id, o.defaultGroup(gateway), sensorNamed(sensor)))
}

func sensorNamed(id string) []registry.DeviceName {
	return []registry.DeviceName{{Type: "sensor", ID: policy.ID(id)}}
}

func (o *organisation) grouped(results []registry.Result, err error) {
	o.w.t.Helper()
	must(o.w.t, err)
	for _, r := range results {
		must(o.w.t, r.Err)
	}
}

// sensor is what policies are told of a sensor, whether there is one or not.
func (o *organisation) sensor(id string) *policy.Device {
	o.w.t.Helper()
	d, err := o.w.registry.DeviceFacts(ctx, o.id, "sensor", policy.ID(id))
	must(o.w.t, err)
	return d
}

// inGroupOf says whether a sensor is in the default group of a gateway, and in no other.
func (o *organisation) inGroupOf(gateway, sensor string) bool {
	o.w.t.Helper()
	groups := o.sensor(sensor).Groups
	return len(groups) == 1 && groups[0] == o.defaultGroup(gateway)
}

// notice is what a gateway reads of a refusal.
type notice struct {
	Request, Time, Topic, Type, ID, Client, Message string
	RC                                              int
}

// refusal is a notice to g1. Of any message it may be, unless because says which.
func refusal(request, topic, typ, id string, rc int) notice {
	return notice{Request: request, Topic: topic, Type: typ, ID: id, Client: "g:acme01:router:g1", RC: rc}
}

func refusedPublish(sensor string, rc int) notice {
	return refusal("publish", eventOf(sensor), "sensor", sensor, rc)
}

func refusedSubscribe(sensor string, rc int) notice {
	return refusal("subscribe", commandOf(sensor), "sensor", sensor, rc)
}

func (n notice) because(message string) notice { n.Message = message; return n }

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
