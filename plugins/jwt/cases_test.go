package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"
)

// tokenCase is a token with what has to become of it.
type tokenCase struct {
	name, token string
	want        string // "ok", "not mine", or the reason
}

// settings are those that the cases are made for.
func (i *issuer) settings() object {
	return object{
		"algorithms": []string{
			"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
		},
		"issuer":             "https://id.example.com",
		"audience":           []string{"cordon", "fleet"},
		"clock_skew_seconds": 10,
		"hmac_keys":          []object{{"kid": "shared", "secret": "shared"}, {"kid": "short", "secret": "short"}},
		"identity": object{
			"kind": "device", "type": object{"claim": []string{"device", "type"}}, "id": object{"claim": "sub"},
		},
	}
}

func (i *issuer) secrets() map[string][]byte {
	return map[string][]byte{"shared": i.hmac, "short": i.hmac32}
}

// claims are good ones at now, changed by pairs of name and value; a nil value
// takes the claim away.
func claims(now time.Time, changes ...any) string {
	c := object{
		"iss": "https://id.example.com", "aud": "cordon", "sub": "d1", "device": object{"type": "sensor"},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 300,
	}
	for i := 0; i < len(changes); i += 2 {
		if name := changes[i].(string); changes[i+1] == nil {
			delete(c, name)
		} else {
			c[name] = changes[i+1]
		}
	}
	return text(c)
}

// cases are tokens at the time now. The settings are those of i.settings.
func (i *issuer) cases(t *testing.T, now time.Time) []tokenCase {
	t.Helper()
	payload := claims(now)
	var all []tokenCase
	add := func(name, token, want string) { all = append(all, tokenCase{name, token, want}) }

	for alg, kid := range map[string]string{
		"HS256": "shared", "HS384": "shared", "HS512": "shared", "RS256": "rsa", "RS384": "rsa", "RS512": "rsa",
		"PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
	} {
		good := i.token(t, alg, text(object{"alg": alg, "kid": kid, "typ": "JWT"}), payload)
		add(alg, good, "ok")
		add(alg+" with a byte of the signature changed", flip(good, strings.LastIndexByte(good, '.')+5), "the token's signature does not hold")
		add(alg+" with a byte of the payload changed", flip(good, strings.IndexByte(good, '.')+5), "the token's signature does not hold")
		add(alg+" without its signature", good[:strings.LastIndexByte(good, '.')+1], "the token's signature does not hold")
		add(alg+" with more signature", good+"AAAA", "the token's signature does not hold")
	}

	// Headers. All are signed by ES256, whatever they claim.
	header := func(changes ...any) string {
		h := object{"alg": "ES256", "kid": "p256"}
		for i := 0; i < len(changes); i += 2 {
			if h[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
				delete(h, changes[i].(string))
			}
		}
		return text(h)
	}
	for _, c := range []struct{ name, header, want string }{
		{"none", header("alg", "none"), "the token's algorithm is not accepted"},
		{"none in capitals", header("alg", "NONE"), "the token's algorithm is not accepted"},
		{"another case of a name", header("alg", "es256"), "the token's algorithm is not accepted"},
		{"not in the list", header("alg", "Ed25519", "kid", "ed"), "the token's algorithm is not accepted"},
		{"unknown algorithm", header("alg", "ES256K"), "the token's algorithm is not accepted"},
		{"no algorithm", header("alg", nil), "the token's header names no algorithm"},
		{"algorithm is no text", header("alg", 256), "the token's header names no algorithm"},
		{"curve of another algorithm", header("alg", "ES384"), "no key is for the token's algorithm"},
		{"kind of key of another algorithm", header("alg", "RS256"), "no key is for the token's algorithm"},
		{"a key that says another algorithm", header("alg", "RS256", "kid", "ps"), "no key is for the token's algorithm"},
		{"HMAC with the ID of a public key", header("alg", "HS256"), "no key is for the token's algorithm"},
		{"HMAC key too short for the algorithm", header("alg", "HS512", "kid", "short"), "no key is for the token's algorithm"},
		{"two keys of that ID, one of that family", header("kid", "twin"), "ok"},
		{"two keys of that ID and family", header("kid", "double"), "several keys could have signed the token"},
		{"no key ID, and several keys", header("kid", nil), "several keys could have signed the token"},
		{"no key ID, and one key", header("kid", nil, "alg", "ES384"), "the token's signature does not hold"},
		{"key ID is unknown", header("kid", "p257"), "the token's key is not known"},
		{"key ID is empty", header("kid", ""), "the token's key is not known"},
		{"key ID is no text", header("kid", []string{"p256"}), "the token's key ID is not text"},
		{"key ID is a path", header("kid", "../../dev/null"), "the token's key is not known"},
		{"key in the header", header("jwk", ecKey("p256", "P-256", i.strange)), "ok"}, // and not used: p256 signed
		{"critical extension", header("crit", []string{"b64"}, "b64", false), "the token's header has critical extensions"},
		{"type of another token", header("typ", "logout+jwt"), "the token is of another type"},
		{"type is no text", header("typ", 1), "the token is of another type"},
		{"type of an access token", header("typ", "at+JWT"), "ok"},
		{"type in full", header("typ", "application/jwt"), "ok"},
		{"a token in a token", header("cty", "JWT"), "the token holds another token"},
		{"member twice in the header", `{"alg":"ES256","kid":"p256","alg":"none"}`, "the token's header names a member twice"},
		{"member twice by an escape", `{"alg":"ES256","kid":"p256","\u0061lg":"none"}`, "the token's header names a member twice"},
		{"header ends early", `{"alg":"ES256"`, "the token's header is not a JSON object"},
		{"header is followed by more", `{"alg":"ES256","kid":"p256"}{}`, "the token's header is not a JSON object"},
		{"header in UTF-16", `{"` + "\xff\xfe", "the token's header is not a JSON object"},
		{"huge header", header("x", strings.Repeat("x", 2<<10)), "the token's header is longer than 2 KiB"},
	} {
		add(c.name, i.token(t, "ES256", c.header, payload), c.want)
	}
	for _, unusable := range []string{"oct", "enc", "ops", "private", "small", "one", "even", "hs", "none", "short", "curve", "x", "padded"} {
		if unusable == "short" {
			continue // an HMAC key has that ID too
		}
		add("the set's unusable key "+unusable, i.token(t, "RS256", text(object{"alg": "RS256", "kid": unusable}), payload), "the token's key is not known")
	}

	// Payloads, all signed by the issuer.
	for _, c := range []struct{ name, payload, want string }{
		{"no end", claims(now, "exp", nil), "the token has no end"},
		{"end is text", claims(now, "exp", "2999-01-01"), "the token's end is no time"},
		{"end is null", strings.Replace(payload, `"exp":`, `"exp":null,"x":`, 1), "the token's end is no time"},
		{"end is negative", claims(now, "exp", -1), "the token's end is no time"},
		{"end is beyond all times", claims(now, "exp", 1e30), "the token's end is no time"},
		{"end in milliseconds", claims(now, "exp", now.UnixMilli()), "the token's end is no time"},
		{"expired", claims(now, "exp", now.Unix()-60), "the token has expired"},
		{"expired within the skew", claims(now, "exp", now.Unix()-5), "ok"},
		{"end has a fraction", claims(now, "exp", float64(now.Unix())+100.5), "ok"},
		{"not yet valid", claims(now, "nbf", now.Unix()+60), "the token is not valid yet"},
		{"not yet valid within the skew", claims(now, "nbf", now.Unix()+5), "ok"},
		{"issued in the future", claims(now, "iat", now.Unix()+60), "the token is not valid yet"},
		{"beginning is text", claims(now, "nbf", "0"), "the token's beginning is no time"},
		{"neither beginning", claims(now, "nbf", nil, "iat", nil), "ok"},
		{"another issuer", claims(now, "iss", "https://id.example.com/"), "the token has another issuer"},
		{"no issuer", claims(now, "iss", nil), "the token has another issuer"},
		{"issuer is a list", claims(now, "iss", []string{"https://id.example.com"}), "the token has another issuer"},
		{"another audience", claims(now, "aud", "bank"), "the token is for another audience"},
		{"no audience", claims(now, "aud", nil), "the token is for another audience"},
		{"audience is empty", claims(now, "aud", []string{}), "the token is for another audience"},
		{"audience is an object", claims(now, "aud", object{"cordon": true}), "the token is for another audience"},
		{"several audiences", claims(now, "aud", []any{1, "bank", "fleet"}), "ok"},
		{"no subject", claims(now, "sub", nil), "the token's claim for the id is missing or no text"},
		{"subject is a number", claims(now, "sub", 1), "the token's claim for the id is missing or no text"},
		{"subject is empty", claims(now, "sub", ""), "the token's claim for the id is missing or no text"},
		{"subject is no name", claims(now, "sub", "d1/../d2"), "the token does not name a subject"},
		{"subject is too long", claims(now, "sub", strings.Repeat("d", 37)), "the token does not name a subject"},
		{"claim inside text", claims(now, "device", "type"), "the token's claim for the type is missing or no text"},
		{"member twice", strings.Replace(payload, `{`, `{"sub":"d2",`, 1), "the token's payload names a member twice"},
		{"member twice, deeper", strings.Replace(payload, `{"type"`, `{"type":"x","type"`, 1), "the token's payload names a member twice"},
		{"payload is a list", "[" + payload + "]", "the token's payload is not a JSON object"},
		{"payload is followed by more", payload + "x", "the token's payload is not a JSON object"},
		{"payload is not UTF-8", strings.Replace(payload, `"d1"`, "\"\xff\"", 1), "the token's payload is not a JSON object"},
		{"payload is empty", "", "the token's payload is not a JSON object"},
		{"payload is nested deeply", claims(now, "x", nested(100)), "the token's payload is not a JSON object"},
	} {
		add(c.name, i.token(t, "ES256", header(), c.payload), c.want)
	}

	return append(all, i.malformed(t, header(), payload)...)
}

// malformed are tokens that no issuer would make.
func (i *issuer) malformed(t *testing.T, header, payload string) []tokenCase {
	t.Helper()
	good := i.token(t, "ES256", header, payload)
	parts := strings.Split(good, ".")
	// The oldest trick: the public key, which everybody knows, as an HMAC key.
	public, err := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	confused := b64([]byte(`{"alg":"HS256","kid":"rsa"}`)) + "." + parts[1]
	code := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	_, _ = code.Write([]byte(confused))
	huge := i.token(t, "ES256", header, `{"x":"`+strings.Repeat("x", maxToken)+`"}`)
	return []tokenCase{
		{"public key as an HMAC key", confused + "." + b64(code.Sum(nil)), "no key is for the token's algorithm"},
		{"huge", huge, "the token is longer than 16 KiB"},
		{"header with padding", parts[0] + "=." + parts[1] + "." + parts[2], "the token's header is not base64url"},
		{"header of the other base64", strings.Replace(good, ".", "+.", 1), "the token's header is not base64url"},
		{"line end in the header", parts[0][:8] + "\n" + parts[0][8:] + "." + parts[1] + "." + parts[2], "the token's header is not base64url"},
		{"signature with padding", good + "==", "the token's signature is not base64url"},
		{"signature with a line end", good + "\n", "the token's signature is not base64url"},
		{"another spelling of the signature", otherSpelling(good), "the token's signature is not base64url"},
		{"space in the signature", good[:len(good)-4] + " " + good[len(good)-4:], "the token's signature is not base64url"},
		{"two parts", parts[0] + "." + parts[1], "not mine"},
		{"four parts", good + "." + parts[2], "not mine"},
		{"five parts, encrypted", good + ".." + parts[2], "not mine"},
		{"a JSON serialisation", `{"payload":"","signature":""}`, "not mine"},
		{"a password", "correct.horse.battery", "not mine"},
		{"empty", "", "not mine"},
	}
}

// flip changes one character of the token.
func flip(token string, at int) string {
	other := "A"
	if token[at] == 'A' {
		other = "B"
	}
	return token[:at] + other + token[at+1:]
}

// otherSpelling changes the bits of the last character that mean nothing.
func otherSpelling(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func nested(depth int) any {
	if depth == 0 {
		return 0
	}
	return []any{nested(depth - 1)}
}

// with is settings with changes: pairs of name and value, nil to take away.
func with(settings object, changes ...any) object {
	settings = maps.Clone(settings)
	for i := 0; i < len(changes); i += 2 {
		if settings[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
			delete(settings, changes[i].(string))
		}
	}
	return settings
}
