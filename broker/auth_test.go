package broker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// method is the Authentication Method that the verifier of these tests speaks.
const method = "PASSPHRASE"

// passphrase leads exchanges of that method. It asks until it is told who:
// "ORG TYPE ID LEVEL", where LEVEL goes into the claims. As a password the same
// is believed at once.
type passphrase struct{ lasts time.Duration }

func (v passphrase) Verify(_ context.Context, c *plugins.Credential) (policy.Principal, error) {
	return v.principal(string(c.Password.Reveal()))
}

func (v passphrase) Converse(_ context.Context, c *plugins.Credential, turn plugins.Turn) (plugins.Reply, error) {
	if turn.Method != method {
		return plugins.Reply{}, plugins.ErrNotMine
	}
	if string(turn.Data) == "" || string(turn.Data) == "ask" {
		return plugins.Reply{Data: []byte("who?" + string(turn.State)), State: append(turn.State, '?')}, nil
	}
	p, err := v.principal(string(turn.Data))
	return plugins.Reply{Done: true, Principal: p, Data: []byte("welcome " + c.Client.Username)}, err
}

func (v passphrase) principal(said string) (policy.Principal, error) {
	words := strings.Fields(said)
	if len(words) != 4 {
		return policy.Principal{}, plugins.ErrBad
	}
	org, err := policy.ParseOrgID(words[0])
	if err != nil {
		return policy.Principal{}, plugins.ErrBad
	}
	p := policy.Principal{
		Org: org, Kind: policy.KindDevice, Type: policy.ID(words[1]), ID: policy.ID(words[2]), Verifier: "passphrase",
		Claims: map[string]any{"level": words[3]},
	}
	p.Credential.ID = "plugin/passphrase/" + words[1] + "/" + words[2]
	if v.lasts > 0 {
		p.ExpiresAt = time.Now().Add(v.lasts)
	}
	return p, nil
}

// claimed lets those publish whose claims say so, and everybody connect but
// those who are banned.
var claimed = rules{
	connect: `decision := {"allow": false, "reason": "banned"} if input.principal.claims.level == "banned"

else := {"allow": true, "mounts": [{"client": "", "org": ""}]}`,
	publish:   `decision := {"allow": input.principal.claims.level == "full", "reason": "not of the full level"}`,
	verifiers: `verifiers := [{"verifier": "token"}, {"verifier": "plugin", "name": "free"}, {"verifier": "plugin", "name": "passphrase"}]`,
}

// newSpeakingWorld has organisation acme01 and a verifier whose proofs last so long.
func newSpeakingWorld(t *testing.T, lasts time.Duration) *world {
	t.Helper()
	w := newWorld(t, claimed.bundle(t))
	w.plugins.Store("passphrase", passphrase{lasts})
	w.org("acme01")
	return w
}

// by begins an exchange with CONNECT.
func by(method, data string) option {
	return func(c *wire.Connect) { c.HasAuthMethod, c.AuthMethod, c.AuthData = true, method, []byte(data) }
}

func (c *client) auth(code wire.Code, method, data string) {
	c.t.Helper()
	c.Send(wiretest.Auth(&wire.Auth{Code: code, Method: method, Data: []byte(data)}))
}

// hears takes an AUTH, which must be this one. Each has the method [MQTT-4.12.0-5].
func (c *client) hears(code wire.Code, data string) {
	c.t.Helper()
	if a := c.Expect(wire.TypeAuth).(*wire.Auth); a.Code != code || a.Method != method || string(a.Data) != data {
		c.t.Fatalf("AUTH %s, method %q, data %q; want %s, %q", a.Code, a.Method, a.Data, code, data)
	}
}

// speaking connects d1 of acme01 at a level.
func (w *world) speaking(level string, options ...option) *client {
	w.t.Helper()
	who := login{clientID: "c", username: "somebody"}
	return w.connect(w.t, who, wire.V5, append([]option{by(method, "acme01 sensor d1 "+level)}, options...)...)
}

// An exchange goes on until the verifier knows enough [MQTT-4.12.0-2] [MQTT-4.12.0-5].
func TestEnhancedAuthentication(t *testing.T) {
	t.Parallel()
	w := newSpeakingWorld(t, 0)
	for name, data := range map[string]string{"at once": "", "asked": "ask", "asked three times": "ask  "} {
		c := w.start(t, login{clientID: "c", username: "somebody"}, wire.V5, by(method, strings.TrimSpace(data)))
		c.hears(wire.ContinueAuthentication, "who?")
		for n := range strings.Count(data, " ") {
			c.auth(wire.ContinueAuthentication, method, "")
			c.hears(wire.ContinueAuthentication, "who?"+strings.Repeat("?", n+1))
		}
		c.auth(wire.ContinueAuthentication, method, "acme01 sensor d1 full")
		ack := c.Expect(wire.TypeConnack).(*wire.Connack)
		if ack.Code != wire.Success || ack.AuthMethod != method || string(ack.AuthData) != "welcome somebody" {
			t.Errorf("%s: CONNACK %+v", name, ack)
		}
		c.say("a", "x", 1)
		c.disconnect()
	}
	plain := w.connect(t, w.orgs["acme01"].device("d2"), wire.V5)
	if plain.ack.AuthMethod != "" || plain.ack.AuthData != nil {
		t.Errorf("without an exchange: CONNACK %+v", plain.ack)
	}
}

// An exchange may end at any step [MQTT-4.12.0-1] [MQTT-4.12.0-4].
func TestEnhancedAuthenticationRefused(t *testing.T) {
	t.Parallel()
	continues := func(method, data string) []byte {
		return wiretest.Auth(&wire.Auth{Code: wire.ContinueAuthentication, Method: method, Data: []byte(data)})
	}
	tests := map[string]struct {
		method, first string
		next          []byte
		code          wire.Code
		cause         policy.Cause
	}{
		"a method nobody speaks":     {"OTHER", "acme01 sensor d1 full", nil, wire.BadAuthenticationMethod, policy.CauseNotSupported},
		"wrong at once":              {method, "open sesame", nil, wire.NotAuthorized, policy.CauseBad},
		"wrong when asked":           {method, "ask", continues(method, "open sesame"), wire.NotAuthorized, policy.CauseBad},
		"another method when asked":  {method, "ask", continues("OTHER", "acme01 sensor d1 full"), wire.BadAuthenticationMethod, policy.CauseProtocol},
		"an unknown organisation":    {method, "nobody sensor d1 full", nil, wire.NotAuthorized, policy.CauseNoOrg},
		"a disabled device":          {method, "acme01 sensor d2 full", nil, wire.NotAuthorized, policy.CauseDisabled},
		"the policy says no":         {method, "acme01 sensor d1 banned", nil, wire.NotAuthorized, policy.CausePolicy},
		"PUBLISH before CONNACK":     {method, "ask", wiretest.Publish(wire.V5, message("a", "x", 0)), wire.ProtocolError, policy.CauseProtocol},
		"SUBSCRIBE before CONNACK":   {method, "ask", wiretest.Subscribe(wire.V5, &wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "a"}}}), wire.ProtocolError, policy.CauseProtocol},
		"re-authenticates too early": {method, "ask", wiretest.Auth(&wire.Auth{Code: wire.ReAuthenticate, Method: method}), wire.ProtocolError, policy.CauseProtocol},
		"a packet that is none":      {method, "ask", []byte{0xf0, 0xff, 0xff, 0xff, 0xff, 0x01}, wire.MalformedPacket, policy.CauseProtocol},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSpeakingWorld(t, 0)
			_, err := w.registry.UpdateDevice(ctx, orgID(t, "acme01"), "sensor", "d2", func(d *registry.Device) error { d.Disabled = true; return nil })
			must(t, err)
			c := w.start(t, login{clientID: "c"}, wire.V5, by(tt.method, tt.first))
			if tt.next != nil {
				c.hears(wire.ContinueAuthentication, "who?")
				c.Send(tt.next)
			}
			ack := c.Expect(wire.TypeConnack).(*wire.Connack)
			if ack.Code != tt.code {
				t.Errorf("CONNACK %s, want %s", ack.Code, tt.code)
			}
			if more := c.ExpectClosed(); len(more) > 0 {
				t.Errorf("something follows the refusal: %+v", more[0])
			}
			if lines := w.log.find("msg", "refused", "cause", string(tt.cause)); len(lines) != 1 {
				t.Errorf("%d refusals with cause %s:\n%s", len(lines), tt.cause, w.log.text())
			}
			if strings.Contains(w.log.text(), "sesame") {
				t.Error("authentication data is in the log")
			}
		})
	}
}

// MQTT 3.x has no AUTH, and a client that said goodbye is told nothing more.
func TestEnhancedAuthenticationEnds(t *testing.T) {
	t.Parallel()
	w := newSpeakingWorld(t, 0)
	c := w.start(t, login{clientID: "c"}, wire.V5, by(method, "ask"))
	c.hears(wire.ContinueAuthentication, "who?")
	c.Send(wiretest.Disconnect(wire.V5, &wire.Disconnect{}))
	if more := c.ExpectClosed(); len(more) > 0 {
		t.Errorf("after DISCONNECT: %+v", more[0])
	}
	talks := w.start(t, login{clientID: "c"}, wire.V5, by(method, "ask"))
	for n := range plugins.TurnsMost {
		talks.hears(wire.ContinueAuthentication, "who?"+strings.Repeat("?", n))
		talks.auth(wire.ContinueAuthentication, method, "ask")
	}
	if ack := talks.Expect(wire.TypeConnack).(*wire.Connack); ack.Code != wire.NotAuthorized {
		t.Errorf("a turn too many: %s", ack.Code)
	}
	old := w.connect(t, w.orgs["acme01"].device("d1"), wire.V311)
	old.Send(wiretest.Auth(&wire.Auth{Code: wire.ReAuthenticate, Method: method}))
	old.expectGone()
}

// Who makes the broker wait before CONNACK is not waited for.
func TestEnhancedAuthenticationInTime(t *testing.T) {
	t.Parallel()
	builtIn()
	synctest.Test(t, func(t *testing.T) {
		w := newSpeakingWorld(t, 0)
		c := w.start(t, login{clientID: "c"}, wire.V5, by(method, "ask"))
		c.hears(wire.ContinueAuthentication, "who?")
		time.Sleep(9 * time.Second)
		c.auth(wire.ContinueAuthentication, method, "ask")
		c.hears(wire.ContinueAuthentication, "who??")
		time.Sleep(time.Second)
		if more := c.ExpectClosed(); len(more) > 0 {
			t.Errorf("told %+v", more[0])
		}
	})
}

// A success voids what was decided before, in place: the session, its
// subscriptions and its messages stay.
func TestA26ReauthenticationRenewsThePrincipal(t *testing.T) {
	t.Parallel()
	w := newSpeakingWorld(t, 0)
	c := w.speaking("full", keptClean)
	c.listen(1, "a")
	c.say("a", "one", 1)
	c.hear("a", "one")

	c.auth(wire.ReAuthenticate, method, "ask")
	c.hears(wire.ContinueAuthentication, "who?")
	c.say("a", "two", 1) // meanwhile the old proof holds
	c.hear("a", "two")
	c.auth(wire.ContinueAuthentication, method, "acme01 sensor d1 half")
	c.hears(wire.Success, "welcome somebody")
	if ack := c.publish(message("a", "three", 1)); ack.Code != wire.NotAuthorized || !strings.HasPrefix(ack.ReasonString, "not of the full level") {
		t.Errorf("at half the level: %s %q", ack.Code, ack.ReasonString)
	}
	c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 full")
	c.hears(wire.Success, "welcome somebody")
	c.say("a", "four", 1)
	c.hear("a", "four")
	c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 banned")
	if d := c.expectGone(); d.Code != wire.NotAuthorized || !strings.HasPrefix(d.ReasonString, "banned") {
		t.Errorf("banned: %+v", d)
	}
	if back := w.speaking("full", kept); !back.ack.SessionPresent {
		t.Error("the session is gone")
	}
}

// What is refused closes the connection and leaves the session [MQTT-4.12.1-2].
func TestA26ReauthenticationRefused(t *testing.T) {
	t.Parallel()
	again := func(data string) func(*client) {
		return func(c *client) { c.auth(wire.ReAuthenticate, method, data) }
	}
	for name, tt := range map[string]struct {
		do   func(*client)
		code wire.Code
	}{
		"another device":             {again("acme01 sensor d2 full"), wire.NotAuthorized},
		"another organisation":       {again("beta02 sensor d1 full"), wire.NotAuthorized},
		"an organisation of nobody":  {again("nobody sensor d1 full"), wire.NotAuthorized},
		"a wrong proof":              {again("open sesame"), wire.NotAuthorized},
		"another method":             {func(c *client) { c.auth(wire.ReAuthenticate, "OTHER", "acme01 sensor d1 full") }, wire.BadAuthenticationMethod},
		"continues what never began": {func(c *client) { c.auth(wire.ContinueAuthentication, method, "acme01 sensor d1 full") }, wire.ProtocolError},
		"begins while it goes on": {func(c *client) {
			c.auth(wire.ReAuthenticate, method, "ask")
			c.hears(wire.ContinueAuthentication, "who?")
			c.auth(wire.ReAuthenticate, method, "ask")
		}, wire.ProtocolError},
		"again and again": {func(c *client) {
			for range 8 {
				c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 full")
				c.hears(wire.Success, "welcome somebody")
			}
			for range 20 { // seconds may go by
				c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 full")
			}
		}, wire.QuotaExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSpeakingWorld(t, 0)
			w.org("beta02")
			c := w.speaking("full", keptClean)
			tt.do(c)
			if d := c.expectGone(); d.Code != tt.code {
				t.Errorf("told %s, want %s", d.Code, tt.code)
			}
			if len(w.log.find("msg", "refused", "action", "connect", "org", "acme01")) != 1 {
				t.Errorf("not one refusal:\n%s", w.log.text())
			}
			if back := w.speaking("full", kept); !back.ack.SessionPresent {
				t.Error("the session is gone")
			}
		})
	}
}

// A proof that ends takes the connection with it, unless it is renewed in time.
func TestA26ReauthenticationProlongs(t *testing.T) {
	t.Parallel()
	builtIn()
	synctest.Test(t, func(t *testing.T) {
		w := newSpeakingWorld(t, 30*time.Second)
		c := w.speaking("full", keepAlive(0))
		for range 3 {
			time.Sleep(25 * time.Second)
			c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 full")
			c.hears(wire.Success, "welcome somebody")
		}
		c.auth(wire.ReAuthenticate, method, "ask")
		c.hears(wire.ContinueAuthentication, "who?")
		time.Sleep(29 * time.Second)
		c.ping()
		time.Sleep(2 * time.Second)
		if d := c.expectGone(); d.Code != wire.NotAuthorized {
			t.Errorf("told %s", d.Code)
		}
	})
}

// A re-authentication that is not finished in time is refused.
func TestA26ReauthenticationInTime(t *testing.T) {
	t.Parallel()
	builtIn()
	synctest.Test(t, func(t *testing.T) {
		w := newSpeakingWorld(t, 0)
		c := w.speaking("full", keepAlive(0))
		c.auth(wire.ReAuthenticate, method, "ask")
		c.hears(wire.ContinueAuthentication, "who?")
		time.Sleep(31 * time.Second)
		c.auth(wire.ContinueAuthentication, method, "acme01 sensor d1 full")
		if d := c.expectGone(); d.Code != wire.NotAuthorized {
			t.Errorf("told %s", d.Code)
		}
	})
}

// A revocation between the proof and its use is not lost.
func TestA26ReauthenticationMeetsARevocation(t *testing.T) {
	t.Parallel()
	w := newSpeakingWorld(t, 0)
	c := w.speaking("full")
	w.registry.afterNextRefresh(func() {
		_, err := w.registry.UpdateDevice(ctx, orgID(t, "acme01"), "sensor", "d1", func(d *registry.Device) error { d.Disabled = true; return nil })
		must(t, err)
	})
	c.auth(wire.ReAuthenticate, method, "acme01 sensor d1 full")
	for _, p := range c.ExpectClosed() {
		if a, ok := p.(*wire.Auth); ok {
			t.Errorf("told %s", a.Code)
		}
	}
	if c := w.answer(t, login{clientID: "c"}, wire.V5, by(method, "acme01 sensor d1 full")); c.ack.Code != wire.NotAuthorized {
		t.Errorf("disabled: %s", c.ack.Code)
	}
}

// What a plugin says of a proof counts without an exchange, too: its claims, and
// its end.
func TestA19APluginsProofExpires(t *testing.T) {
	t.Parallel()
	builtIn()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newSpeakingWorld(t, 30*time.Second)
				c := w.connect(t, login{"c", "somebody", "acme01 sensor d1 full"}, v, keepAlive(0))
				c.say("a", "x", 1)
				time.Sleep(29 * time.Second)
				c.ping()
				time.Sleep(2 * time.Second)
				if d := c.expectGone(); v == wire.V5 && d.Code != wire.NotAuthorized {
					t.Errorf("told %s", d.Code)
				}
			})
		})
	}
}
