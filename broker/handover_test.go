package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

func (g *gatedRegistry) Handover(p *policy.Principal) (broker.Handover, bool) {
	return feed.Registry{Registry: g.Registry}.Handover(p)
}

// claim makes a claim of sensors and returns who shows it as a device of that name.
func (o *organisation) claim(count int) (registry.Claim, func(id string) login) {
	o.w.t.Helper()
	c, token, err := o.w.registry.CreateClaim(ctx, o.id, registry.Claim{Type: "sensor", Count: count, Expires: time.Now().Add(time.Hour)})
	must(o.w.t, err)
	o.secrets = append(o.secrets, token)
	return c, func(id string) login { return login{"d:" + o.id.String() + ":sensor:" + id, "use-claim-token", token} }
}

// own is who a device is by what it was handed.
func (o *organisation) own(payload []byte) login {
	o.w.t.Helper()
	var got struct{ ClientID, Username, AuthToken string }
	must(o.w.t, json.Unmarshal(payload, &got))
	o.secrets = append(o.secrets, got.AuthToken)
	return login{got.ClientID, got.Username, got.AuthToken}
}

// everywhere lets whoever is registered write and read everything, for a week, and
// registers whoever shows a claim.
func everywhere() rules {
	return rules{
		verifiers: `verifiers := [{"verifier": "claim"}, {"verifier": "token"}]`,
		connect: `decision := {"allow": false, "register": true} if {
	input.principal.verifier == "claim"
	not input.principal.registered
} else := {"allow": true, "mounts": [{"client": "", "org": ""}], "limits": {"session_expiry_max": 604800}}`,
	}
}

// A token of one's own is for one session: nobody else who subscribes to its topic
// has it, and nothing keeps it, whatever a policy permits and a client asks for.
func TestA28HandoverIsForOneSession(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, everywhere().bundle(t))
			acme := w.org("acme01")
			_, shows := acme.claim(2)
			app := w.connect(t, acme.app("spy"), v, kept)
			app.listen(1, "#")
			late := w.connect(t, acme.app("late"), v, keptClean)
			late.listen(1, "iotdm-1/#")
			late.disconnect()
			other := w.connect(t, shows("d8"), v)
			other.listen(1, "iot-2/type/sensor/id/d8/#")

			device := w.connect(t, shows("d9"), v, kept)
			if v == wire.V5 && (!device.ack.HasSessionExpiry || device.ack.SessionExpiry != 0) {
				t.Errorf("CONNACK %+v promises a session", device.ack)
			}
			device.listen(1, "iot-2/#") // another topic
			device.listen(1, "iotdm-1/type/sensor/id/d9/#")
			got := device.next()
			if string(got.Topic) != "iotdm-1/type/sensor/id/d9/provisioning/credentials" || got.QoS != 1 || got.Retain {
				t.Fatalf("%+v", got)
			}
			own := acme.own(got.Payload)
			device.listen(1, "iotdm-1/type/sensor/id/d9/provisioning/+")
			device.quiet() // it is made once
			app.quiet()
			other.quiet()
			device.drop(w)
			late = w.connect(t, acme.app("late"), v, kept)
			late.quiet()

			o, err := w.registry.Organisation(ctx, acme.id)
			must(t, err)
			must(t, w.store.Scan(store.In(acme.id.String(), o.Incarnation).All(), store.Key{}, func(key store.Key, value []byte) bool {
				if bytes.Contains(value, []byte(own.password)) {
					t.Errorf("%v has the token", key)
				}
				return true
			}))
			// What was not acknowledged is not sent again: there is another one.
			back := w.connect(t, shows("d9"), v, kept)
			if back.ack.SessionPresent {
				t.Error("there is a session")
			}
			back.quiet()
			back.listen(0, "iotdm-1/type/sensor/id/d9/provisioning/credentials")
			second := acme.own(back.next().Payload)
			if second.password == own.password {
				t.Error("the same token again")
			}
			if a := w.answer(t, own, v); a.ack.Code == wire.Success {
				t.Error("the first token is good")
			}
			w.connect(t, second, v).ping()
			back.expectGone()
		})
	}
}

// With the policy that is built in, all that a claim opens is the token's topic.
func TestA28ClaimOpensNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	c, shows := acme.claim(1)
	if a := w.answer(t, shows("d1"), wire.V5); a.ack.Code == wire.Success {
		t.Fatal("a claim took over a device")
	}
	if a := w.answer(t, shows("d9"), wire.V5, withWill(wire.Will{Topic: "iot-2/evt/gone/fmt/json"})); a.ack.Code == wire.Success {
		t.Fatal("a claim left a will")
	}
	device := w.connect(t, shows("d9"), wire.V5)
	for i, code := range device.subscribe(1, "#", "+/#", "iotdm-1/#", "iot-2/cmd/+/fmt/+", "iotdevice-1/#", "iotdm-1/response") {
		if code != wire.NotAuthorized {
			t.Errorf("filter %d: %s", i, code)
		}
	}
	for _, topic := range []string{"iot-2/evt/status/fmt/json", "iotdevice-1/mgmt/manage", "iotdm-1/provisioning/credentials"} {
		if ack := device.publish(message(topic, "{}", 1)); ack.Code != wire.NotAuthorized {
			t.Errorf("%s: %s", topic, ack.Code)
		}
	}
	device.listen(1, "iotdm-1/provisioning/#")
	own := acme.own(device.next().Payload)
	must(t, w.registry.DeleteClaim(ctx, acme.id, c.ID))
	device.expectGone()
	w.connect(t, own, wire.V5).say("iot-2/evt/status/fmt/json", "{}", 1)
}

// Over HTTP the answer has it, and nothing else is to be had.
func TestA28HandoverOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	_, shows := acme.claim(1)
	caller := w.enter(t, shows("d9"))
	defer caller.Leave()
	first, err := caller.HandOver(ctx)
	must(t, err)
	second, err := caller.HandOver(ctx)
	must(t, err)
	if a := w.answer(t, acme.own(first), wire.V311); a.ack.Code == wire.Success {
		t.Error("the first token is good")
	}
	if err := caller.Publish(ctx, "iot-2/evt/status/fmt/json", []byte("{}")); policy.KindOf(err) != policy.KindForbidden {
		t.Errorf("published: %v", err)
	}
	own := acme.own(second)
	w.connect(t, own, wire.V311).ping()
	if _, err := caller.HandOver(ctx); policy.KindOf(err) != policy.KindUnauthenticated {
		t.Errorf("once its token is used: %v", err)
	}
	device := w.enter(t, own)
	defer device.Leave()
	if _, err := device.HandOver(ctx); policy.KindOf(err) != policy.KindForbidden {
		t.Errorf("handed a token to one that has its own: %v", err)
	}
}

// A flood of devices with one claim registers as many as it says.
func TestA28ClaimFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	const count, devices = 5, 40
	c, shows := acme.claim(count)
	var wg sync.WaitGroup
	for n := range devices {
		wg.Go(func() {
			caller, err := w.broker.Enter(context.Background(), shown(shows(fmt.Sprint("f", n%10))))
			if err == nil {
				_, _ = caller.HandOver(ctx)
				caller.Leave()
			}
		})
	}
	wg.Wait()
	found, _, err := w.registry.Devices(ctx, acme.id, "sensor", registry.Page{Limit: 1000})
	must(t, err)
	left, err := w.registry.Claim(ctx, acme.id, c.ID)
	must(t, err)
	if made := len(found) - 2; made > count || made != count-left.Left {
		t.Errorf("%d devices by a claim with %d of %d left", made, left.Left, count)
	}
}

// Guessing a claim is guessing a credential, whatever organisation it is of.
func TestA28ClaimsCannotBeGuessed(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, builtIn(), memstore.NewDisk(), broker.Config{Failures: listen.NewFailures(listen.FailuresConfig{Rate: 0.001, Burst: 3})})
	acme := w.org("acme01")
	_, shows := acme.claim(1)
	good := shows("d9")
	told := map[string]bool{}
	for _, who := range []login{
		{good.clientID, good.username, good.password[:len(good.password)-1] + "?"},
		{good.clientID, good.username, "aaaaaaaaaa-" + good.password[11:]},
		{"d:nobody:sensor:d9", good.username, good.password},
	} {
		a := w.answer(t, who, wire.V5) // from no address, so that none is counted
		_, err := w.broker.Enter(ctx, shown(who))
		told[fmt.Sprint(a.ack.Code, a.ack.ReasonString, policy.KindOf(err))] = true
	}
	if len(told) != 1 {
		t.Errorf("told apart: %v", told)
	}
	if _, err := w.broker.Enter(ctx, shown(good)); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("after three guesses: %v", err)
	}
}

func (g *gatedRegistry) Enrol(ctx context.Context, p *policy.Principal) error {
	return feed.Registry{Registry: g.Registry}.Enrol(ctx, p)
}
