package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// configured is the plugin as the host would have it.
func configured(t testing.TB, i *issuer, settings object) *guest.Plugin {
	t.Helper()
	p := guest.New(configure)
	if err := p.Configure(configuration(i, settings)); err != nil {
		t.Fatal(err)
	}
	return p
}

func configuration(i *issuer, settings object) []byte {
	return []byte(text(object{
		"v": 1, "org": "acme01", "settings": settings, "secrets": i.secrets(), "jwks": object{"issuer": i.keySet(), "late": nil},
	}))
}

// answer is what the host reads.
type answer struct {
	OK          bool              `json:"ok"`
	NotMine     bool              `json:"not_mine"`
	Org         string            `json:"org"`
	Subject     map[string]string `json:"subject"`
	Claims      map[string]any    `json:"claims"`
	ExpiresAtMS int64             `json:"expires_at_ms"`
	CacheTTLMS  int64             `json:"cache_ttl_ms"`
	Reason      string            `json:"reason"`
	UnknownKID  string            `json:"unknown_kid"`
}

func ask(t testing.TB, p *guest.Plugin, token string, now time.Time) answer {
	t.Helper()
	said, err := p.Verify([]byte(text(object{"v": 1, "token": []byte(token), "peer": object{}, "now_ms": now.UnixMilli()})))
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(said, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a answer) outcome() string {
	switch {
	case a.OK:
		return "ok"
	case a.NotMine:
		return "not mine"
	default:
		return a.Reason
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Unix(1_767_225_600, 0)
	p := configured(t, i, i.settings())
	for _, c := range i.cases(t, now) {
		if got := ask(t, p, c.token, now); got.outcome() != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.outcome(), c.want)
		}
	}
}

func TestAcceptedToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Unix(1_767_225_600, 0)
	token := i.token(t, "EdDSA", `{"alg":"EdDSA","kid":"ed"}`, claims(now, "scope", "read", "level", 3, "who", "user"))
	for _, tt := range []struct {
		name    string
		changes []any
		check   func(answer) bool
	}{
		{"device", nil, func(a answer) bool {
			return reflect.DeepEqual(a.Subject, map[string]string{"kind": "device", "type": "sensor", "id": "d1"}) &&
				a.Org == "" && a.CacheTTLMS == 300_000 && a.ExpiresAtMS == now.UnixMilli()+310_000 &&
				a.Claims["scope"] == "read" && a.Claims["level"] == 3.0 && a.Claims["iss"] != nil
		}},
		{"some claims", []any{"claims", []string{"scope", "absent"}}, func(a answer) bool {
			return reflect.DeepEqual(a.Claims, map[string]any{"scope": "read"})
		}},
		{"no claims", []any{"claims", []string{}}, func(a answer) bool { return len(a.Claims) == 0 }},
		{"nothing is remembered", []any{"remember_seconds", 0}, func(a answer) bool { return a.OK && a.CacheTTLMS == 0 }},
		{"no skew", []any{"clock_skew_seconds", 0}, func(a answer) bool { return a.ExpiresAtMS == now.UnixMilli()+300_000 }},
		{"application", []any{"identity", object{"kind": "application", "app": object{"claim": "sub"}}}, func(a answer) bool {
			return reflect.DeepEqual(a.Subject, map[string]string{"kind": "application", "app": "d1"})
		}},
		{"kind and organisation by claim", []any{"identity", object{
			"kind": object{"claim": "who"}, "id": "fixed", "org": object{"claim": "sub"},
		}}, func(a answer) bool {
			return reflect.DeepEqual(a.Subject, map[string]string{"kind": "user", "id": "fixed"}) && a.Org == "d1"
		}},
		{"lifetime within the bound", []any{"max_lifetime_seconds", 300}, func(a answer) bool { return a.OK }},
		{"lifetime beyond the bound", []any{"max_lifetime_seconds", 60}, func(a answer) bool {
			return a.Reason == "the token is valid for too long"
		}},
		{"any issuer and audience", []any{"issuer", nil, "any_issuer", true, "audience", nil, "any_audience", true}, func(a answer) bool {
			return a.OK
		}},
	} {
		if got := ask(t, configured(t, i, with(i.settings(), tt.changes...)), token, now); !tt.check(got) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// The host is told of a key that only a newer key set can have, and of no other.
func TestUnknownKey(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Unix(1_767_225_600, 0)
	p := configured(t, i, i.settings())
	for _, tt := range []struct{ header, want string }{
		{`{"alg":"ES256","kid":"new"}`, "new"},
		{`{"alg":"HS256","kid":"new"}`, ""},
		{`{"alg":"none","kid":"new"}`, ""},
		{`{"alg":"RS256","kid":"p256"}`, ""},
		{text(object{"alg": "ES256", "kid": strings.Repeat("k", 257)}), ""},
	} {
		if got := ask(t, p, i.token(t, "ES256", tt.header, claims(now)), now); got.OK || got.UnknownKID != tt.want {
			t.Errorf("%s: %+v", tt.header, got)
		}
	}
}

func TestUnusableKeysArePassedOver(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	set, err := guest.ParseObject([]byte(text(i.keySet())))
	if err != nil {
		t.Fatal(err)
	}
	if keys, passed := readKeySet(set); passed != unusableKeys || len(keys) != 10 {
		t.Errorf("%d keys, %d passed over", len(keys), passed)
	}
	for _, odd := range []object{nil, {}, {"keys": "x"}, {"keys": []any{1, nil}}} {
		if keys, _ := readKeySet(odd); len(keys) != 0 {
			t.Errorf("%v has %d keys", odd, len(keys))
		}
	}
	many := object{"keys": make([]any, 2*maxKeys)}
	for n := range many["keys"].([]any) {
		many["keys"].([]any)[n] = set["keys"].([]any)[0]
	}
	if keys, passed := readKeySet(many); len(keys) != maxKeys || passed != maxKeys {
		t.Errorf("of too many keys: %d, %d passed over", len(keys), passed)
	}
}

func TestSettingsAreRefused(t *testing.T) {
	t.Parallel()
	i := &issuer{hmac: make([]byte, 64), hmac32: make([]byte, 32)}
	good := i.settings()
	identity := good["identity"].(object)
	for _, tt := range []struct {
		want    string
		changes []any
	}{
		{"", nil},
		{"settings.algorithms", []any{"algorithms", nil}},
		{"settings.algorithms", []any{"algorithms", []string{}}},
		{"settings.algorithms", []any{"algorithms", []string{"none"}}},
		{"settings.algorithms", []any{"algorithms", []string{"ES256", "es256"}}},
		{"settings.issuer", []any{"issuer", nil}},
		{"settings.issuer", []any{"any_issuer", true}},
		{"settings.audience", []any{"audience", nil}},
		{"settings.audience", []any{"any_audience", true}},
		{"settings.clock_skew_seconds", []any{"clock_skew_seconds", 301}},
		{"settings.max_lifetime_seconds", []any{"max_lifetime_seconds", 0}},
		{"settings.remember_seconds", []any{"remember_seconds", -1}},
		{"settings.claims", []any{"claims", 1}},
		{"settings.isuer", []any{"isuer", "x"}},
		{"settings.identity.kind", []any{"identity", nil}},
		{"settings.identity.kind", []any{"identity", with(identity, "kind", "system")}},
		{"settings.identity.kind", []any{"identity", with(identity, "kind", object{"claims": "x"})}},
		{"settings.identity.id", []any{"identity", with(identity, "id", nil)}},
		{"settings.identity.type", []any{"identity", with(identity, "type", 1)}},
		{"settings.identity.app", []any{"identity", object{"kind": "application", "id": "x"}}},
		{"settings.identity.id", []any{"identity", object{"kind": "user"}}},
		{"settings.identity.name", []any{"identity", with(identity, "name", "x")}},
		{"settings.hmac_keys[0].secret", []any{"hmac_keys", []object{{"kid": "k", "secret": "absent"}}}},
		{"settings.hmac_keys[0].alg", []any{"hmac_keys", []object{{"kid": "k", "secret": "shared", "alg": "HS256"}}}},
	} {
		settings := text(object{"v": 1, "settings": with(good, tt.changes...), "secrets": i.secrets()})
		err := guest.New(configure).Configure([]byte(settings))
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want+" ") {
			t.Errorf("%v: %v, want %q", tt.changes, err, tt.want)
		}
	}
}

// Whatever is in a token, its parts are what was signed, and no reason quotes it.
func FuzzParseToken(f *testing.F) {
	for _, seed := range []string{
		"eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYifQ.e30.AAAA", "..", "e30.e30.", "eyJhbGciOjF9.e30.e30", "eyJhbGciOiIiLCJhbGciOiIifQ.e30.e30",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parts, ok := split(data)
		if !ok {
			return
		}
		parsed, why := parts.parse()
		if why != "" {
			if len(data) > 40 && strings.Contains(string(why), string(data)) {
				t.Errorf("the reason quotes the token: %s", why)
			}
			return
		}
		whole := string(parsed.signed) + "." + b64(parsed.signature)
		if whole != string(data) || !strings.HasSuffix(string(parsed.signed), "."+parsed.payload) || len(data) > maxToken {
			t.Errorf("%q was read as %q and %q", data, parsed.signed, parsed.signature)
		}
	})
}

// Whatever is in a key set, each key that is taken from it is for signatures of one
// family, and none is a secret one.
func FuzzReadKeySet(f *testing.F) {
	modulus, coordinate := b64(bytes.Repeat([]byte{0xff}, 256)), b64(make([]byte, 32))
	for _, seed := range []object{
		{"kty": "RSA", "n": modulus, "e": "AQAB", "use": "sig"},
		{"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "ES256"},
		{"kty": "RSA", "n": modulus, "e": "AQAB", "d": "AQ"},
		{"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate, "alg": "ES256", "key_ops": []string{"verify"}},
		{"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate, "alg": "ES384"},
		{"kty": "OKP", "crv": "Ed25519", "x": coordinate, "kid": "ed"},
		{"kty": "oct", "k": coordinate, "alg": "HS256"},
	} {
		f.Add([]byte(text(object{"keys": []object{seed}})))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := guest.ParseObject(data)
		if err != nil {
			return
		}
		keys, passed := readKeySet(set)
		list, _ := set["keys"].([]any)
		if len(keys)+passed != len(list) {
			t.Errorf("%d keys and %d passed over, of %d", len(keys), passed, len(list))
		}
		for _, k := range keys {
			if families := k.families(); len(families) != 1 || families[familyHMAC] || k.secret != nil {
				t.Errorf("key %q, %q, is for the families %v", k.id, k.algorithm, families)
			}
		}
		set["keys"] = slices.DeleteFunc(list, func(entry any) bool { return !isSecret(entry) })
		if keys, _ := readKeySet(set); len(keys) > 0 {
			t.Errorf("secret keys are taken: %+v", keys)
		}
	})
}

// families are those of all algorithms that the key fits.
func (k *key) families() map[family]bool {
	all := map[family]bool{}
	for _, name := range []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
	} {
		if a, _ := algorithmNamed(name); k.fits(name, a) {
			all[a.family] = true
		}
	}
	return all
}

func isSecret(jwk any) bool {
	members, _ := jwk.(object)
	_, private := members["d"]
	return private || members["kty"] == "oct"
}
