package main

import (
	"math"
	"slices"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// verify decides about one token, the password of the client.
func (v *verifier) verify(r *guest.Request) guest.Answer {
	parts, ok := split(r.Token)
	if !ok {
		return guest.Pass()
	}
	t, why := parts.parse()
	if why != "" {
		return refuse(why)
	}
	a, ok := v.algorithms[t.algorithm]
	if !ok {
		return refuse("the token's algorithm is not accepted")
	}
	k, answer := v.choose(&t, a)
	if k == nil {
		return answer
	}
	if !k.verifies(a, t.signed, t.signature) {
		return refuse("the token's signature does not hold")
	}
	// From here on the issuer said so.
	claims, why := decodeObject("payload", t.payload)
	if why != "" {
		return refuse(why)
	}
	if why := v.addressed(claims); why != "" {
		return refuse(why)
	}
	endMS, why := v.current(claims, r.NowMS)
	if why != "" {
		return refuse(why)
	}
	return v.identify(claims, endMS)
}

func refuse(why refusal) guest.Answer { return guest.Refuse(string(why)) }

// choose finds the one key that the token's header names, or the answer where
// there is none.
func (v *verifier) choose(t *token, a algorithm) (*key, guest.Answer) {
	var fitting *key
	named := false
	for i := range v.keys {
		k := &v.keys[i]
		if t.hasKeyID && k.id != t.keyID {
			continue
		}
		named = true
		if !k.fits(t.algorithm, a) {
			continue
		}
		if fitting != nil {
			return nil, refuse("several keys could have signed the token")
		}
		fitting = k
	}
	switch {
	case fitting != nil:
		return fitting, guest.Answer{}
	case t.hasKeyID && !named:
		answer := refuse("the token's key is not known")
		if a.family != familyHMAC && len(t.keyID) <= maxKeyID {
			answer.UnknownKID = t.keyID
		}
		return nil, answer
	default:
		return nil, refuse("no key is for the token's algorithm")
	}
}

// maxKeyID is the longest key ID, in bytes, that is worth asking for.
const maxKeyID = 256

// addressed checks who made the token, and for whom.
func (v *verifier) addressed(claims *guest.Object) refusal {
	if v.issuer != "" {
		if issuer, ok := claims.String("iss"); !ok || issuer != v.issuer {
			return "the token has another issuer"
		}
	}
	if v.anyAudience {
		return ""
	}
	for _, audience := range claims.Strings("aud") {
		if slices.Contains(v.audiences, audience) {
			return ""
		}
	}
	return "the token is for another audience"
}

// current checks the times, and returns when the identity ends. A clock may be
// wrong by the skew, to either side.
func (v *verifier) current(claims *guest.Object, nowMS int64) (endMS int64, _ refusal) {
	if !claims.Has("exp") {
		return 0, "the token has no end"
	}
	exp, ok := milliseconds(claims.Number("exp"))
	if !ok {
		return 0, "the token's end is no time"
	}
	endMS = exp + v.skewMS
	if endMS <= nowMS {
		return 0, "the token has expired"
	}
	if v.maxLifetimeMS > 0 && exp-nowMS > v.maxLifetimeMS+v.skewMS {
		return 0, "the token is valid for too long"
	}
	for _, name := range [...]string{"nbf", "iat"} {
		if !claims.Has(name) {
			continue
		}
		start, ok := milliseconds(claims.Number(name))
		if !ok {
			return 0, "the token's beginning is no time"
		}
		if start > nowMS+v.skewMS {
			return 0, "the token is not valid yet"
		}
	}
	return endMS, ""
}

// lastSecond is the end of the year 9999, beyond which nobody means a time.
const lastSecond = 253402300799

// milliseconds reads a NumericDate [RFC 7519 2]: seconds since 1970, perhaps with
// a fraction.
func milliseconds(number guest.Number, ok bool) (int64, bool) {
	if whole, isWhole := number.Int64(); ok && isWhole { // as nearly everybody writes it
		return whole * 1000, whole >= 0 && whole <= lastSecond
	}
	seconds, inRange := number.Float64()
	if !ok || !inRange || seconds < 0 || seconds > lastSecond {
		return 0, false
	}
	return int64(math.Floor(seconds * 1000)), true
}

// identify makes the principal that the settings describe.
func (v *verifier) identify(claims *guest.Object, endMS int64) guest.Answer {
	answer := guest.Answer{OK: true, ExpiresAtMS: endMS, CacheTTLMS: v.rememberMS, Signed: claims}
	if v.withholdsClaims {
		answer.Signed = claims.Pick(v.claims...)
	}
	for _, part := range [...]struct {
		name string
		from *source
		to   *string
	}{
		{"kind", &v.kind, &answer.Subject.Kind},
		{"type", &v.typ, &answer.Subject.Type},
		{"id", &v.id, &answer.Subject.ID},
		{"app", &v.app, &answer.Subject.App},
		{"org", &v.org, &answer.Org},
	} {
		text, ok := part.from.read(claims)
		if !ok {
			return guest.Refuse("the token's claim for the " + part.name + " is missing or no text")
		}
		*part.to = text
	}
	return answer
}

func (s *source) read(claims *guest.Object) (string, bool) {
	if len(s.claim) == 0 {
		return s.text, true
	}
	last := len(s.claim) - 1
	for _, name := range s.claim[:last] {
		var ok bool
		if claims, ok = claims.Object(name); !ok {
			return "", false
		}
	}
	text, _ := claims.String(s.claim[last])
	return text, text != ""
}
