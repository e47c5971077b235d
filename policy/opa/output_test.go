package opa

import (
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

func fromJSON(t testing.TB, text string) ast.Value {
	t.Helper()
	v, err := ast.ValueFromReader(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		action  policy.Action
		answers []string
	}{
		{policy.ActionPublish, []string{
			`true`, `"allow"`, `[]`, `null`, `1`,
			`{"allow": "true"}`, `{"allow": 1}`, `{"allow": null}`, `{"allow": true, "Allow": true}`,
			`{"allow": true, "reason": 1}`, `{"allow": true, "reason": "` + long + `"}`, `{"allow": true, "reason": "a\u0000b"}`, `{"allow": true, "reason": "a\nb"}`,
			`{"allow": true, "ttl": "1"}`, `{"allow": true, "ttl": -1}`, `{"allow": true, "ttl": 1e300}`,
			`{"allow": true, "retain": "stripp"}`, `{"allow": true, "retain": true}`,
			`{"allow": true, "on_deny": "ignore"}`,
			`{"allow": true, "covers": "a"}`, `{"allow": true, "covers": ["a/#/b"]}`, `{"allow": true, "covers": [""]}`, `{"allow": true, "covers": [1]}`, `{"allow": true, "covers": {"a": "b"}}`,
			`{"allow": true, "mounts": []}`, `{"allow": true, "qos": 1}`, `{"allow": true, "roles": []}`,
			`{"allow": false, "retain": "nothing"}`,
			`{"allow": true, "register": true}`, `{"allow": false, "register": 1}`,
			`{"allow": false, "notify": "a/b"}`, `{"allow": false, "notify": {}}`, `{"allow": false, "notify": {"topic": ""}}`, `{"allow": false, "notify": {"code": 1}}`,
			`{"allow": false, "notify": {"topic": "a/+"}}`, `{"allow": false, "notify": {"topic": "a", "code": -1}}`, `{"allow": false, "notify": {"topic": "a", "code": 65536}}`,
			`{"allow": false, "notify": {"topic": "a", "qos": 1}}`, `{"allow": false, "notify": {"topic": "$SYS/a"}}`, `{"allow": false, "notify": {"topic": "` + long + `"}}`,
		}},
		{policy.ActionSubscribe, []string{
			`{"allow": true, "qos": 3}`, `{"allow": true, "qos": -1}`, `{"allow": true, "qos": 1.5}`, `{"allow": true, "qos": "1"}`,
			`{"allow": true, "on_deny": "drop"}`, `{"allow": true, "retain": "keep"}`, `{"allow": true, "ttl": 0}`, `{"allow": true, "ttl": 0.5}`,
		}},
		{policy.ActionReceive, []string{`{"allow": true, "on_deny": "drop"}`, `{"allow": true, "retain": "keep"}`, `{"allow": false, "register": true}`, `{"allow": false, "notify": {"topic": "a"}}`}},
		{policy.ActionAdminister, []string{`{"allow": true, "covers": []}`, `{"allow": true, "on_deny": "close"}`}},
		{policy.ActionConnect, []string{
			`{"allow": true, "violation": "level"}`, `{"allow": false, "violation": "Level 1"}`, `{"allow": false, "violation": ""}`,
			`{"allow": false, "violation": 1}`, `{"allow": false, "violation": "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"}`,
			`{"allow": true, "ttl": 0}`,
			`{"allow": true, "mounts": [{"client": "a", "org": "b/"}]}`, `{"allow": true, "mounts": [{"client": "a/"}]}`, `{"allow": true, "mounts": [{}]}`,
			`{"allow": true, "mounts": [{"client": "a/", "org": "b/", "more": 1}]}`, `{"allow": true, "mounts": [{"client": "+/", "org": ""}]}`,
			`{"allow": true, "mounts": [{"client": "a/", "org": "b/"}, {"client": "a/", "org": "c/"}]}`, `{"allow": true, "mounts": ["a/"]}`, `{"allow": true, "mounts": {}}`,
			`{"allow": true, "mounts": [{"client": "a/", "org": "b/", "device": {"type": 1}}]}`, `{"allow": true, "mounts": [{"client": "a/", "org": "b/", "device": {"type": 1, "id": 1}}]}`,
			`{"allow": true, "mounts": [{"client": "a/", "org": "b/", "device": {"type": 1, "id": 32}}]}`, `{"allow": true, "mounts": [{"client": "a/", "org": "b/", "device": 1}]}`,
			`{"allow": true, "mounts": [` + strings.Repeat(`{"client": "", "org": ""},`, 8) + `{"client": "", "org": ""}]}`,
			`{"allow": true, "roles": "a"}`, `{"allow": true, "roles": [1]}`, `{"allow": true, "groups": [null]}`,
			`{"allow": true, "expires_at": 0}`, `{"allow": true, "expires_at": 1.5}`, `{"allow": true, "expires_at": "soon"}`,
			`{"allow": true, "share": ""}`, `{"allow": true, "share": "a/b"}`, `{"allow": true, "share": "#"}`,
			`{"allow": true, "limits": []}`, `{"allow": true, "limits": {"publish_rates": 1}}`, `{"allow": true, "limits": {"publish_rate": 0}}`, `{"allow": true, "limits": {"publish_rate": -1}}`,
			`{"allow": true, "limits": {"publish_burst": 0}}`, `{"allow": true, "limits": {"bytes_rate": 0}}`, `{"allow": true, "limits": {"connections_max": 0}}`,
			`{"allow": true, "limits": {"payload_max": -1}}`, `{"allow": true, "limits": {"payload_max": 1e12}}`, `{"allow": true, "limits": {"inflight_max": 0}}`, `{"allow": true, "limits": {"inflight_max": 65536}}`,
			`{"allow": true, "limits": {"queue_messages": 1.5}}`, `{"allow": true, "limits": {"queue_overflow": "drop"}}`, `{"allow": true, "limits": {"session_expiry_max": 4294967296}}`,
			`{"allow": true, "limits": {"keepalive_max": 0}}`, `{"allow": true, "limits": {"qos_max": 3}}`, `{"allow": true, "limits": {"queue_bytes": null}}`,
		}},
	} {
		for _, text := range c.answers {
			if a, err := decode(c.action, fromJSON(t, text)); err == nil {
				t.Errorf("%v: %s was taken for %+v", c.action, text, a)
			} else if a.Allow {
				t.Errorf("%v: %s allows beside its error", c.action, text)
			}
		}
	}
}

func TestDecodeReads(t *testing.T) {
	t.Parallel()
	a, err := decode(policy.ActionConnect, fromJSON(t, `{
		"allow": true, "ttl": 90, "roles": ["a"], "groups": ["b"], "expires_at": 1700000000000, "share": "pool", "on_deny": "close",
		"mounts": [{"client": "iot-2/", "org": "iot-2/type/t/id/d/", "device": {"type": 2, "id": 4}}],
		"limits": {"publish_rate": 0.5, "publish_burst": 3, "bytes_rate": 1000, "connections_max": 2, "payload_max": 0, "inflight_max": 1,
			"queue_messages": 0, "queue_bytes": 1024, "queue_overflow": "drop_newest", "subscriptions_max": 0, "session_expiry_max": 1.5,
			"keepalive_max": 30, "qos_max": 1}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Limits{
		PublishRate: 0.5, PublishBurst: 3, BytesRate: 1000, ConnectionsMax: 2, InflightMax: 1, QueueBytes: 1024,
		QueueOverflow: policy.DropNewest, SessionExpiryMax: 1500 * time.Millisecond, KeepAliveMax: 30 * time.Second, QoSMax: 1,
	}
	if a.Limits != want {
		t.Errorf("limits are %+v, want %+v", a.Limits, want)
	}
	if a.ttl != 90*time.Second || !a.ExpiresAt.Equal(time.UnixMilli(1700000000000)) || a.Share != "pool" || a.OnDeny != policy.Close {
		t.Errorf("got %+v", a)
	}
	if m := a.Mounts.List(); len(m) != 1 || m[0].Device == nil || m[0].Device.Type != 2 || m[0].Device.ID != 4 {
		t.Errorf("mounts are %+v", m)
	}

	a, err = decode(policy.ActionConnect, fromJSON(t, `{"allow": true}`))
	if err != nil || a.Limits != policy.DefaultLimits() {
		t.Errorf("limits are %+v (%v), want the defaults", a.Limits, err)
	}
}

func TestDecodeReadsWhatADenialComesWith(t *testing.T) {
	t.Parallel()
	for _, action := range []policy.Action{policy.ActionPublish, policy.ActionSubscribe} {
		a, err := decode(action, fromJSON(t, `{"allow": false, "register": true, "notify": {"topic": "a/b", "code": 180}}`))
		if err != nil || !a.Register || a.Notify.Topic.String() != "a/b" || a.Notify.Code != 180 {
			t.Errorf("%v: %+v, %v", action, a, err)
		}
	}
	if a, err := decode(policy.ActionConnect, fromJSON(t, `{"violation": "connection_level"}`)); err != nil || a.Violation != "connection_level" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := decode(policy.ActionConnect, fromJSON(t, `{"register": true}`)); err != nil || !a.Register || a.Allow {
		t.Errorf("connect: %+v, %v", a, err)
	}
}

// What is to be registered, and where a refusal is told, the platform says alone.
func TestNarrowingSaysNothingOfRegistering(t *testing.T) {
	t.Parallel()
	for action := range narrowFields {
		for _, field := range []string{`"register": true`, `"violation": "level"`, `"notify": {"topic": "a"}`} {
			if a, err := decodeNarrowing(action, fromJSON(t, `{"allow": false, `+field+`}`), &answer{}); err == nil {
				t.Errorf("%v: %s was taken for %+v", action, field, a)
			}
		}
	}
}

func TestDecodeVerifiers(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		`[]`:                      true,
		`[{"verifier": "token"}]`: true,
		`[{"verifier": "certificate"}, {"verifier": "plugin", "name": "jwt"}, {"verifier": "anonymous", "org": "acme01"}]`: true,
		`[{"verifier": "token", "and": "certificate"}, {"verifier": "plugin", "name": "jwt", "and": "certificate"}]`:       true,
		`[{"verifier": "token", "and": "token"}]`:                            false,
		`[{"verifier": "token", "and": "plugin"}]`:                           false,
		`[{"verifier": "certificate", "and": "certificate"}]`:                false,
		`[{"verifier": "anonymous", "org": "acme01", "and": "certificate"}]`: false,
		`{"verifier": "token"}`:                                              false,
		`["token"]`:                                                          false,
		`[{"verifier": "tokens"}]`:                                           false,
		`[{"verifier": "plugin"}]`:                                           false,
		`[{"verifier": "anonymous"}]`:                                        false,
		`[{"verifier": "token", "name": "x"}]`:                               false,
		`[{"verifier": "token", "org": "acme01"}]`:                           false,
		`[{"verifier": "anonymous", "org": "NO"}]`:                           false,
		`[{"verifier": "token", "more": 1}]`:                                 false,
		`[{}]`:                                                               false,
		`[` + strings.Repeat(`{"verifier": "token"},`, 16) + `{"verifier": "token"}]`: false,
	} {
		if _, err := decodeVerifiers(fromJSON(t, text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"allow": true}`, `{"allow": true, "mounts": [{"client": "a/", "org": "b/"}]}`, `{"allow": true, "limits": {"publish_rate": 1}}`,
		`{"allow": true, "covers": ["a/+"]}`, `{"allow": false, "reason": "no", "ttl": 1}`, `[{"verifier": "token"}]`, `{"allow": true, "expires_at": 1e400}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ast.ValueFromReader(strings.NewReader(text))
		if err != nil {
			return
		}
		for action := policy.ActionNone; action <= policy.ActionAdminister; action++ {
			a, err := decode(action, v)
			switch {
			case err != nil && a.Allow:
				t.Fatalf("%v allows beside its error %v", action, err)
			case err == nil && a.Allow != (a.Cause == policy.CauseNone):
				t.Fatalf("%v: allow %v with cause %q", action, a.Allow, a.Cause)
			case err == nil && (a.MaxQoS > 2 || a.Limits.QoSMax > 2 || a.Limits.PayloadMax < 0 || a.ttl < 0):
				t.Fatalf("%v: out of bounds: %+v", action, a)
			}
		}
		_, _ = decodeVerifiers(v)
	})
}
