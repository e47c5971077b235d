package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// shown is what a request with who's credential carries.
func shown(who login) *plugins.Credential {
	return &plugins.Credential{
		Client: policy.Client{
			ID: policy.ClientID(who.clientID), Username: who.username, Listener: "https",
			Address: netip.MustParseAddr("192.0.2.7"), TLS: &policy.TLS{Version: "1.3"},
		},
		Password: plugins.NewSecret([]byte(who.password)), HasPassword: who.password != "",
	}
}

// enter lets who in; the test leaves for it.
func (w *world) enter(t *testing.T, who login, names ...string) *broker.Caller {
	t.Helper()
	c, err := w.broker.Enter(t.Context(), shown(who), names...)
	if err != nil {
		t.Fatalf("enter %s: %v", who.clientID, err)
	}
	return c
}

// post is one request that publishes.
func (w *world) post(t *testing.T, who login, topic, payload string) error {
	t.Helper()
	c, err := w.broker.Enter(t.Context(), shown(who))
	if err != nil {
		return err
	}
	defer c.Leave()
	return c.Publish(t.Context(), topic, []byte(payload))
}

// ask is one request that receives: "TOPIC PAYLOAD", or nothing.
func (w *world) ask(t *testing.T, who login, filter string, wait time.Duration) (got string, err error) {
	t.Helper()
	return w.askWithin(t, t.Context(), who, filter, wait, nil)
}

func (w *world) askWithin(t *testing.T, ctx context.Context, who login, filter string, wait time.Duration, lost error) (got string, err error) {
	t.Helper()
	c, err := w.broker.Enter(ctx, shown(who))
	if err != nil {
		return "", err
	}
	defer c.Leave()
	found, err := c.Receive(ctx, []string{filter}, wait, func(m *broker.Message) error {
		got = m.Topic + " " + string(m.Payload)
		return lost
	})
	if found != (got != "" && lost == nil) && err == nil {
		t.Errorf("found %v, with %q", found, got)
	}
	return got, err
}

// kindOf is the class of a denial, and what it says.
func wantDenied(t *testing.T, err error, kind policy.Kind, public string) {
	t.Helper()
	var denial *broker.Denial
	var e *policy.Error
	if !errors.As(err, &denial) || !errors.As(err, &e) || e.Kind != kind || !strings.HasPrefix(e.Public, public) {
		t.Fatalf("error %v, want %s %q", err, kind, public)
	}
	if (kind == policy.KindLimit || kind == policy.KindUnavailable) != (denial.RetryAfter() > 0) {
		t.Errorf("%v: retry after %s", err, denial.RetryAfter())
	}
}

const (
	event   = "iot-2/evt/status/fmt/json"
	command = "iot-2/type/sensor/id/d1/cmd/reboot/fmt/json"
	ownCmds = "iot-2/cmd/+/fmt/+"
)

// What comes without a connection passes the door of A5, in and out.
func TestA7RequestsPassTheDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("watch"), wire.V5)
	app.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	must(t, w.post(t, acme.device("d1"), event, "21"))
	app.hear("iot-2/type/sensor/id/d1/evt/status/fmt/json", "21")

	d1 := w.connect(t, acme.device("d1"), wire.V5)
	d1.listen(1, ownCmds)
	must(t, w.post(t, acme.app("boss"), command, "now"))
	d1.hear("iot-2/cmd/reboot/fmt/json", "now")

	for name, test := range map[string]struct {
		who           login
		topic, public string
	}{
		"a device as another":       {acme.device("d1"), "iot-2/type/sensor/id/d2/evt/status/fmt/json", "a device publishes "},
		"a device's command":        {acme.device("d1"), "iot-2/cmd/reboot/fmt/json", "a device publishes "},
		"a reserved topic":          {acme.app("boss"), "$SYS/broker", ""},
		"a topic under no mount":    {acme.device("d1"), "elsewhere", "topic not valid"},
		"an application's own path": {acme.app("boss"), "iot-2/type/sensor/id/d1/mon", "an application publishes "},
	} {
		t.Run(name, func(t *testing.T) {
			wantDenied(t, w.post(t, test.who, test.topic, "x"), policy.KindForbidden, test.public)
		})
	}
	app.quiet()
	d1.quiet()
}

func TestA7WrongCredentialsEnterNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme, rival := w.org("acme01"), w.org("rival1")
	with := func(who login, change func(*login)) login { change(&who); return who }
	for name, who := range map[string]login{
		"no password":     with(acme.device("d1"), func(l *login) { l.password = "" }),
		"another's":       with(acme.device("d1"), func(l *login) { l.password = acme.tokens["d2"] }),
		"another org's":   with(acme.device("d1"), func(l *login) { l.password = rival.tokens["d1"] }),
		"in another org":  with(acme.device("d1"), func(l *login) { l.clientID = "d:rival1:sensor:d1" }),
		"of no org":       with(acme.device("d1"), func(l *login) { l.clientID = "d:nobody:sensor:d1" }),
		"of no device":    with(acme.device("d1"), func(l *login) { l.clientID = "d:acme01:sensor:d9" }),
		"as a gateway":    with(acme.device("d1"), func(l *login) { l.clientID = "g:acme01:sensor:d1" }),
		"nothing at all":  {},
		"a foreign key":   with(acme.app("x"), func(l *login) { l.clientID = "a:rival1:x" }),
		"a bad client ID": with(acme.device("d1"), func(l *login) { l.clientID += "\x00" }),
	} {
		_, err := w.broker.Enter(t.Context(), shown(who))
		t.Run(name, func(t *testing.T) { wantDenied(t, err, policy.KindUnauthenticated, "") })
	}
	// After the right one is remembered, a wrong one is still wrong.
	must(t, w.post(t, acme.device("d1"), event, "1"))
	_, err := w.broker.Enter(t.Context(), shown(with(acme.device("d1"), func(l *login) { l.password += "x" })))
	wantDenied(t, err, policy.KindUnauthenticated, "")
}

// Two organisations with the same names inside never meet, whoever sends what.
func TestA7TenantsNeverMeet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t)) // everything is allowed
	acme, rival := w.org("acme01"), w.org("rival1")
	spy := w.connect(t, rival.app("spy"), wire.V5)
	spy.listen(1, "#")
	for _, topic := range []string{
		event, command, "iot-2/rival1/type/sensor/id/d1/evt/status/fmt/json", "rival1/" + event, "/rival1/" + event, "../rival1/" + event,
		"$share/rival1/x", "org/rival1",
	} {
		for _, who := range []login{acme.device("d1"), acme.app("boss"), acme.free("x", "d:rival1:sensor:d1"), acme.free("x", "rival1/spy")} {
			must(t, w.post(t, who, topic, "secret"))
		}
	}
	for _, who := range []login{rival.device("d1"), rival.app("boss"), rival.free("x", "d:acme01:sensor:d1")} {
		for _, filter := range []string{"#", "iot-2/#", "$share/acme01/#"} {
			if got, err := w.ask(t, who, filter, 0); err != nil || got != "" {
				t.Errorf("%s asked for %s: %q, %v", who.clientID, filter, got, err)
			}
			must(t, w.post(t, acme.app("boss"), command, "secret"))
			if got, err := w.ask(t, who, filter, 0); err != nil || got != "" {
				t.Errorf("%s asked for %s again: %q, %v", who.clientID, filter, got, err)
			}
		}
	}
	spy.quiet()
}

func TestHostsMayOnlyAgree(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, builtIn(), memstore.NewDisk(), broker.Config{Domain: "example.org"})
	acme := w.org("acme01")
	w.org("rival1")
	for name, agrees := range map[string]bool{
		"": true, "acme01.example.org": true, "acme01.messaging.example.org": true, "ACME01.Messaging.Example.ORG.": true,
		"mqtt.example.org": true, "example.org": true, "nobody.example.org": true, "192.0.2.1": true, "[2001:db8::1]": true,
		"rival1.example.com": true, "rival1example.org": true, "xn--rival1.example.org": true, "rival1.messaging.messaging.example.org": true,
		"rival1.example.org": false, "rival1.messaging.example.org": false, "RIVAL1.example.org.": false,
	} {
		for _, who := range []login{acme.device("d1"), acme.app("boss")} {
			c, err := w.broker.Enter(t.Context(), shown(who), name)
			if err == nil {
				c.Leave()
			}
			if agrees != (err == nil) {
				t.Errorf("%s at %q: %v", who.clientID, name, err)
			}
			if !agrees {
				wantDenied(t, err, policy.KindForbidden, "not authorised")
			}
		}
		credential := shown(acme.device("d1"))
		credential.Client.TLS.SNI = name
		c, err := w.broker.Enter(t.Context(), credential)
		if err == nil {
			c.Leave()
		}
		if agrees != (err == nil) {
			t.Errorf("server name %q: %v", name, err)
		}
	}
}

// A credential that is remembered is dead the moment it is replaced, disabled or
// deleted, and so is a request that is under way.
func TestA18CallersAreRevokedAtOnce(t *testing.T) {
	t.Parallel()
	builtIn() // outside of the bubble
	for name, revoke := range map[string]func(*organisation){
		"replaced": func(o *organisation) {
			_, err := o.w.registry.ReplaceDeviceToken(ctx, o.id, "sensor", "d1", plugins.Secret{}, 0)
			must(o.w.t, err)
		},
		"disabled": func(o *organisation) {
			_, err := o.w.registry.UpdateDevice(ctx, o.id, "sensor", "d1", func(d *registry.Device) error { d.Disabled = true; return nil })
			must(o.w.t, err)
		},
		"deleted": func(o *organisation) { must(o.w.t, o.w.registry.DeleteDevice(ctx, o.id, "sensor", "d1")) },
		"organisation suspended": func(o *organisation) {
			_, err := o.w.registry.UpdateOrganisation(ctx, o.id, func(r *registry.Organisation) error { r.Suspended = true; return nil })
			must(o.w.t, err)
		},
		"organisation deleted": func(o *organisation) { must(o.w.t, o.w.registry.DeleteOrganisation(ctx, o.id)) },
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, builtIn())
			acme := w.org("acme01")
			d1 := acme.device("d1")
			under := w.enter(t, d1)
			must(t, under.Publish(t.Context(), event, []byte("1")))
			waiting := make(chan error, 1)
			asks := w.enter(t, d1)
			go func() {
				defer asks.Leave()
				_, err := asks.Receive(context.Background(), []string{ownCmds}, time.Hour, func(*broker.Message) error { return nil })
				waiting <- err
			}()
			synctest.Wait()
			revoke(acme)
			wantDenied(t, <-waiting, policy.KindUnauthenticated, "")
			wantDenied(t, under.Publish(t.Context(), event, []byte("2")), policy.KindUnauthenticated, "")
			_, err := w.broker.Enter(t.Context(), shown(d1))
			wantDenied(t, err, policy.KindUnauthenticated, "")
			under.Leave()
		})
	}
}

// inBubble is a test where time stands still until everybody waits.
func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(t) })
	})
}

// An activation takes away what it takes away from whoever is remembered, or
// waits.
func TestA17CallersAreJudgedAgain(t *testing.T) {
	t.Parallel()
	const no = `decision := {"allow": false, "reason": "closed"}`
	for name, test := range map[string]struct {
		then              rules
		enters, publishes bool
	}{
		"connect":   {rules{connect: no}, false, false},
		"publish":   {rules{publish: no}, true, false},
		"subscribe": {rules{subscribe: no}, true, true},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			d1 := acme.device("d1")
			must(t, w.post(t, d1, "a", "1"))
			under := w.enter(t, d1)
			waiting := make(chan error, 1)
			asks := w.enter(t, d1)
			go func() {
				defer asks.Leave()
				_, err := asks.Receive(context.Background(), []string{"b"}, time.Hour, func(*broker.Message) error { return nil })
				waiting <- err
			}()
			synctest.Wait()
			w.activate(test.then)
			w.broker.Sweep()
			if name != "publish" {
				wantDenied(t, <-waiting, policy.KindForbidden, "closed")
			}
			if err := under.Publish(t.Context(), "a", []byte("2")); test.publishes {
				must(t, err)
			} else {
				wantDenied(t, err, policy.KindForbidden, "closed")
			}
			under.Leave()
			c, err := w.broker.Enter(t.Context(), shown(d1))
			if !test.enters {
				wantDenied(t, err, policy.KindForbidden, "closed")
				return
			}
			must(t, err)
			c.Leave()
			if name == "publish" {
				must(t, w.registry.DeleteDevice(ctx, acme.id, "sensor", "d1"))
				wantDenied(t, <-waiting, policy.KindUnauthenticated, "")
			}
		})
	}
}

// Rates and connections count for a credential, however it comes.
func TestCallersShareLimits(t *testing.T) {
	t.Parallel()
	t.Run("rates", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rules{connect: limited(`"publish_rate": 0.001, "publish_burst": 3`)}.bundle(t))
		acme := w.org("acme01")
		c := w.connect(t, acme.device("d1"), wire.V5)
		if ack := c.publish(message("a", "1", 1)); ack.Code.Failed() {
			t.Fatal(ack.Code)
		}
		c.Close()
		must(t, w.post(t, acme.device("d1"), "a", "2"))
		must(t, w.post(t, acme.device("d1"), "a", "3"))
		err := w.post(t, acme.device("d1"), "a", "4")
		wantDenied(t, err, policy.KindLimit, "limit exceeded")
		var denial *broker.Denial
		if errors.As(err, &denial); denial.RetryAfter() < 10*time.Minute {
			t.Errorf("retry after %s", denial.RetryAfter())
		}
		again := w.connect(t, acme.device("d1"), wire.V5)
		if ack := again.publish(message("a", "5", 1)); ack.Code != wire.QuotaExceeded {
			t.Errorf("over MQTT: %s", ack.Code)
		}
		must(t, w.post(t, acme.device("d2"), "a", "1")) // another credential
	})
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rules{connect: limited(`"connections_max": 2`)}.bundle(t))
		acme := w.org("acme01")
		w.connect(t, acme.device("d1"), wire.V5)
		must(t, w.post(t, acme.device("d1"), "a", "1"))
		c := w.enter(t, acme.device("d1"))
		wantDenied(t, w.post(t, acme.device("d1"), "a", "1"), policy.KindLimit, "limit exceeded")
		c.Leave()
		must(t, w.post(t, acme.device("d1"), "a", "1"))
	})
	t.Run("payload", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rules{connect: limited(`"payload_max": 3`)}.bundle(t))
		acme := w.org("acme01")
		must(t, w.post(t, acme.device("d1"), "a", "123"))
		wantDenied(t, w.post(t, acme.device("d1"), "a", "1234"), policy.KindTooLarge, "payload too large")
	})
	t.Run("quota of connections", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rules{}.bundle(t))
		acme := w.org("acme01")
		_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error { o.Quotas.Connections = 1; return nil })
		must(t, err)
		c := w.enter(t, acme.device("d1"))
		wantDenied(t, w.post(t, acme.device("d2"), "a", "1"), policy.KindLimit, "quota of the organisation exceeded")
		c.Leave()
		must(t, w.post(t, acme.device("d2"), "a", "1"))
	})
	t.Run("filters", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rules{}.bundle(t))
		acme := w.org("acme01")
		for i := range 9 {
			_, err := w.ask(t, acme.device("d1"), fmt.Sprint("a/", i), 0)
			if i < 8 {
				must(t, err)
			} else {
				wantDenied(t, err, policy.KindLimit, "limit exceeded")
			}
		}
	})
	t.Run("wrong credentials", func(t *testing.T) {
		t.Parallel()
		w := newWorldOn(t, builtIn(), memstore.NewDisk(), broker.Config{Failures: listen.NewFailures(listen.FailuresConfig{Rate: 0.001, Burst: 2})})
		acme := w.org("acme01")
		must(t, w.post(t, acme.device("d1"), event, "1"))
		wrong := acme.device("d1")
		wrong.password = "guess"
		for range 2 {
			wantDenied(t, w.post(t, wrong, event, "1"), policy.KindUnauthenticated, "")
		}
		wantDenied(t, w.post(t, wrong, event, "1"), policy.KindLimit, "")
		wantDenied(t, w.post(t, acme.device("d1"), event, "1"), policy.KindLimit, "") // nor is a right one told apart
	})
}

// Dropped is acknowledged, and goes nowhere.
func TestCallersAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: `decision := {"allow": false, "on_deny": "drop"}`}.bundle(t))
	acme := w.org("acme01")
	app := w.connect(t, acme.app("watch"), wire.V5)
	app.listen(1, "#")
	must(t, w.post(t, acme.device("d1"), "a", "1"))
	app.quiet()
}

// What a request is answered for is stored: it waits for the store.
func TestCallersWaitForTheStore(t *testing.T) {
	t.Parallel()
	builtIn() // outside of the bubble
	synctest.Test(t, waitForTheStore)
}

func waitForTheStore(t *testing.T) {
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	kept := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	kept.listen(1, ownCmds)
	kept.Close()
	synctest.Wait()
	w.store.hold()
	answered := make(chan error, 1)
	go func() { answered <- w.post(t, acme.app("boss"), command, "1") }()
	synctest.Wait()
	select {
	case err := <-answered:
		t.Fatalf("answered before it was stored: %v", err)
	default:
	}
	w.store.release()
	must(t, <-answered)
}

// What the memory of callers saves: neither a verifier nor a policy is asked.
func TestCallersAreRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{verifiers: `verifiers := [{"verifier": "plugin", "name": "counted"}]`}.bundle(t))
	acme := w.org("acme01")
	counted := &countedVerifier{}
	w.plugins.Store("counted", plugins.Verifier(counted))
	who := acme.free("x", "")
	for range 3 {
		must(t, w.post(t, who, "a", "1"))
	}
	if counted.n != 1 {
		t.Errorf("verified %d times", counted.n)
	}
	other := who
	other.password = "y"
	must(t, w.post(t, other, "a", "1"))
	w.activate(rules{verifiers: `verifiers := [{"verifier": "plugin", "name": "counted"}]`})
	must(t, w.post(t, who, "a", "1"))
	if counted.n != 3 {
		t.Errorf("verified %d times", counted.n)
	}
}

type countedVerifier struct {
	freeVerifier
	n int
}

func (v *countedVerifier) Verify(ctx context.Context, c *plugins.Credential) (policy.Principal, error) {
	v.n++
	return v.freeVerifier.Verify(ctx, c)
}
