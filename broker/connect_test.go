package broker_test

import (
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// refusedConnack is what each version is told: MQTT 3.x knows return codes 3 and 5 only.
func refusedConnack(v wire.Version, code wire.Code) wire.Code {
	if v == wire.V5 {
		return code
	}
	switch code {
	case wire.ServerUnavailable:
		return 3
	case wire.ClientIdentifierNotValid:
		return 2
	default:
		return 5
	}
}

func TestA1CredentialRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		who   func(*organisation) login
		code  wire.Code
		cause policy.Cause
	}{
		"wrong token": {func(o *organisation) login {
			l := o.device("d1")
			l.password = strings.Repeat("x", 24)
			return l
		}, wire.NotAuthorized, policy.CauseBad},
		"unknown device": {func(o *organisation) login {
			l := o.device("d1")
			l.clientID = "d:acme01:sensor:d9"
			return l
		}, wire.NotAuthorized, policy.CauseUnknown},
		"unknown organisation": {func(o *organisation) login {
			l := o.device("d1")
			l.clientID = "d:nobody:sensor:d1"
			return l
		}, wire.NotAuthorized, policy.CauseNoOrg},
		"somebody else's token": {func(o *organisation) login {
			l := o.device("d1")
			l.password = o.tokens["d2"]
			return l
		}, wire.NotAuthorized, policy.CauseBad},
		"another organisation's key": {func(o *organisation) login {
			l := o.w.org("beta02").app("viewer")
			l.clientID = "a:acme01:viewer"
			return l
		}, wire.NotAuthorized, policy.CauseMismatch},
		"no username and no password": {func(o *organisation) login {
			return login{clientID: "d:acme01:sensor:d1"}
		}, wire.NotAuthorized, policy.CauseUnknown},
		"disabled device": {func(o *organisation) login {
			_, err := o.w.registry.UpdateDevice(ctx, o.id, "sensor", "d2", func(d *registry.Device) error { d.Disabled = true; return nil })
			must(o.w.t, err)
			return o.device("d2")
		}, wire.NotAuthorized, policy.CauseDisabled},
		"verifier unavailable": {func(o *organisation) login {
			return o.free("unavailable", "d:acme01:sensor:d1")
		}, wire.ServerUnavailable, policy.CauseUnavailable},
		"client ID of 257 bytes": {func(o *organisation) login {
			l := o.device("d1")
			l.clientID += strings.Repeat("x", 257-len(l.clientID))
			return l
		}, wire.ClientIdentifierNotValid, policy.CauseClientID},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			live := w.connect(t, acme.device("d1"), wire.V5, keptClean)
			live.listen(1, "a")
			who := tt.who(acme)
			for _, v := range versions {
				before := len(w.log.find("msg", "refused", "cause", string(tt.cause)))
				c := w.answer(t, who, v)
				if want := refusedConnack(v, tt.code); c.ack.Code != want || c.ack.SessionPresent {
					t.Errorf("MQTT %s: CONNACK %+v, want code %#02x", v, c.ack, byte(want))
				}
				if len(c.ExpectClosed()) != 0 {
					t.Errorf("MQTT %s: something follows the refusal", v)
				}
				lines := w.log.find("msg", "refused", "action", "connect", "cause", string(tt.cause))
				if len(lines) != before+1 {
					t.Errorf("MQTT %s: %d refusals with cause %s, want %d:\n%s", v, len(lines), tt.cause, before+1, w.log.text())
				}
			}
			live.silence(live, "a", "a") // the session that exists is untouched
		})
	}
}

func TestA2ConnectDenied(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		connect string
		reason  string
		cause   policy.Cause
	}{
		"the policy says no":           {`decision := {"allow": false, "reason": "not on Sundays"}`, "not on Sundays", policy.CausePolicy},
		"no rule gives a value":        {`decision := {"allow": true} if input.client.id == "nobody"`, "", policy.CauseUndefined},
		"the answer is no answer":      {`decision := {"allow": object.get(input.client, "username", 7)}`, "", policy.CauseMalformed},
		"a built-in fails":             {`decision := {"allow": to_number(input.client.id) == 1}`, "", policy.CauseError},
		"it has expired already":       {`decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "expires_at": 1000}`, "", policy.CauseExpired},
		"the default for no decision ": {`other := true`, "", policy.CauseUndefined},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: tt.connect}.bundle(t))
			who := w.org("acme01").device("d1")
			for _, v := range versions {
				c := w.answer(t, who, v)
				if want := refusedConnack(v, wire.NotAuthorized); c.ack.Code != want {
					t.Errorf("MQTT %s: code %#02x, want %#02x", v, byte(c.ack.Code), byte(want))
				}
				lines := w.log.find("msg", "refused", "action", "connect", "org", "acme01", "cause", string(tt.cause))
				if len(lines) == 0 {
					t.Fatalf("MQTT %s: no refusal with cause %s:\n%s", v, tt.cause, w.log.text())
				}
				last := lines[len(lines)-1]
				if v == wire.V5 && tt.reason != "" {
					if want := tt.reason + " (decision " + last["decision"] + ")"; c.ack.ReasonString != want {
						t.Errorf("reason string %q, want %q", c.ack.ReasonString, want)
					}
				}
				if detail := last["detail"]; detail != "" && strings.Contains(c.ack.ReasonString, detail) {
					t.Errorf("reason string %q shows what is for the log alone", c.ack.ReasonString)
				}
				c.ExpectClosed()
			}
		})
	}
}

func TestEmptyClientID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	who := w.org("acme01").free("viewer", "")
	if c := w.connect(t, who, wire.V5); !strings.HasPrefix(c.ack.AssignedClientID, "auto-") {
		t.Errorf("assigned client ID %q", c.ack.AssignedClientID)
	}
	w.connect(t, who, wire.V311).ping()
	for name, c := range map[string]*client{
		"MQTT 3.1":                 w.answer(t, who, wire.V31),
		"MQTT 3.1.1, session kept": w.answer(t, who, wire.V311, kept),
	} {
		if c.ack.Code != 2 {
			t.Errorf("%s: return code %d, want 2", name, c.ack.Code)
		}
	}
}

// The CONNACK says what the session gets, and it gets that.
func TestConnackStatesTheLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{connect: limited(`"qos_max": 1, "session_expiry_max": 60, "keepalive_max": 30, "payload_max": 10`)}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5, keptClean, keepAlive(600))
	a := c.ack
	if !a.HasMaximumQoS || a.MaximumQoS != 1 || !a.HasSessionExpiry || a.SessionExpiry != 60 || !a.HasServerKeepAlive || a.ServerKeepAlive != 30 {
		t.Errorf("CONNACK %+v", a)
	}
	if codes := c.subscribe(2, "a"); codes[0] != 1 {
		t.Errorf("subscribed at QoS 2: %v", codes)
	}
	c.say("a", "0123456789", 1)
	c.hear("a", "0123456789")
	c.send(message("a", "0123456789+", 1))
	if d := c.expectGone(); d.Code != wire.PacketTooLarge {
		t.Errorf("payload beyond payload_max: %s", d.Code)
	}
	c = w.connect(t, w.org("acme01").device("d1"), wire.V5)
	c.send(message("a", "", 2))
	if d := c.expectGone(); d.Code != wire.QoSNotSupported {
		t.Errorf("QoS beyond qos_max: %s", d.Code)
	}
	c = w.answer(t, w.org("acme01").device("d1"), wire.V5, withWill(wire.Will{Topic: "a", QoS: 2}))
	if c.ack.Code != wire.QoSNotSupported {
		t.Errorf("will beyond qos_max: %s", c.ack.Code)
	}
	c = w.answer(t, w.org("acme01").device("d1"), wire.V5, withWill(wire.Will{Topic: "a", Payload: []byte("0123456789+")}))
	if c.ack.Code != wire.PacketTooLarge {
		t.Errorf("will beyond payload_max: %s", c.ack.Code)
	}
}

func TestQuotasOfTheOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error {
		o.Quotas.Connections, o.Quotas.Sessions, o.Quotas.Subscriptions, o.Quotas.RetainedBytes = 2, 2, 2, 10
		return nil
	})
	must(t, err)
	c := w.connect(t, acme.free("viewer", "one"), wire.V5)
	second := w.connect(t, acme.free("viewer", "two"), wire.V5, keptClean)
	if refused := w.answer(t, acme.free("viewer", "three"), wire.V5); refused.ack.Code != wire.QuotaExceeded {
		t.Errorf("a connection too many: %s", refused.ack.Code)
	}
	second.disconnect()
	eventually(t, func() bool { // the session is kept, the connection's place is given back
		w.answer(t, acme.free("viewer", "three"), wire.V5)
		return len(w.log.find("msg", "refused", "cause", "quota", "detail", "sessions of the organisation")) > 0
	})
	if codes := c.subscribe(0, "a", "b", "c"); codes[0] != 0 || codes[1] != 0 || codes[2] != wire.QuotaExceeded {
		t.Errorf("a subscription too many: %v", codes)
	}
	retain := message("a", "012345678", 1) // with its topic 10 bytes
	retain.Retain = true
	if ack := c.publish(retain); ack.Code.Failed() {
		t.Errorf("retain within the quota: %s", ack.Code)
	}
	more := message("b", "x", 1)
	more.Retain = true
	if ack := c.publish(more); ack.Code != wire.QuotaExceeded {
		t.Errorf("retain beyond the quota: %s", ack.Code)
	}
	beta := w.connect(t, w.org("beta02").device("d1"), wire.V5)
	beta.listen(0, "a", "b", "c") // another organisation has its own
}
