package main

import (
	"strconv"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// verifier checks tokens with one set of settings. It does not change.
type verifier struct {
	algorithms      map[string]algorithm
	keys            []key
	issuer          string // empty for any
	audiences       []string
	anyAudience     bool
	skewMS          int64
	maxLifetimeMS   int64 // 0 for any
	rememberMS      int64
	kind, typ, id   source
	app, org        source
	claims          []string
	withholdsClaims bool // only claims are shown to the policy, not all
}

// source is where a part of the identity comes from: fixed text, or a claim. The
// zero source is the empty text.
type source struct {
	text  string
	claim []string // the claim's name, and the names of members inside it
}

// configure reads the settings, all of them or none.
func configure(config *guest.Config) (guest.Verify, error) {
	v := &verifier{}
	v.readRules(config.Settings)
	v.readIdentity(config.Settings.Fields("identity"))
	v.readSecrets(config.Settings.List("hmac_keys"), config.Secrets)
	if err := config.Settings.Err(); err != nil {
		return nil, err
	}
	v.readKeySets(config.JWKS)
	return v.verify, nil
}

func (v *verifier) readRules(f *guest.Fields) {
	v.algorithms = map[string]algorithm{}
	for _, name := range f.Strings("algorithms") {
		a, ok := algorithmNamed(name)
		if !ok {
			f.Fail("algorithms", "names one that is not known")
		}
		v.algorithms[name] = a
	}
	if len(v.algorithms) == 0 {
		f.Fail("algorithms", "has to name the accepted ones")
	}
	// What is not checked has to be said, not forgotten.
	v.issuer = f.String("issuer")
	if anybody := f.Bool("any_issuer"); anybody == (v.issuer != "") {
		f.Fail("issuer", "has to be set, or any_issuer")
	}
	v.audiences = f.Strings("audience")
	if v.anyAudience = f.Bool("any_audience"); v.anyAudience == (len(v.audiences) > 0) {
		f.Fail("audience", "has to be set, or any_audience")
	}
	v.skewMS = 1000 * f.Int("clock_skew_seconds", 0, 300, 30)
	v.maxLifetimeMS = 1000 * f.Int("max_lifetime_seconds", 1, 10*366*24*3600, 0)
	v.rememberMS = 1000 * f.Int("remember_seconds", 0, 3600, 300)
	v.withholdsClaims = f.Has("claims")
	v.claims = f.Strings("claims")
}

func (v *verifier) readIdentity(f *guest.Fields) {
	v.kind, v.typ, v.id = readSource(f, "kind"), readSource(f, "type"), readSource(f, "id")
	v.app, v.org = readSource(f, "app"), readSource(f, "org")
	needs := []string{}
	switch {
	case len(v.kind.claim) > 0: // the token says, and the host checks
	case v.kind.text == guest.Device, v.kind.text == guest.Gateway:
		needs = append(needs, "type", "id")
	case v.kind.text == guest.Application:
		needs = append(needs, "app")
	case v.kind.text == guest.User:
		needs = append(needs, "id")
	default:
		f.Fail("kind", "has to be device, gateway, application or user, or {claim: NAME}")
	}
	for _, name := range needs {
		if !f.Has(name) {
			f.Fail(name, "has to be set for this kind")
		}
	}
}

func readSource(f *guest.Fields, name string) source {
	if !f.HasObject(name) {
		return source{text: f.String(name)}
	}
	s := source{claim: f.Fields(name).Strings("claim")}
	if len(s.claim) == 0 {
		f.Fail(name, "has to be text, or {claim: NAME}")
	}
	return s
}

// readSecrets takes the keys of HS256, HS384 and HS512. They come from files, for
// a key set is public.
func (v *verifier) readSecrets(list []*guest.Fields, secrets map[string][]byte) {
	for _, f := range list {
		k := key{id: f.String("kid"), family: familyHMAC, secret: secrets[f.String("secret")]}
		if len(k.secret)*8 < int(guest.SHA256) {
			f.Fail("secret", "has to name a secret of at least 32 bytes")
		}
		v.keys = append(v.keys, k)
	}
}

func (v *verifier) readKeySets(sets map[string]map[string]any) {
	for name, set := range sets {
		if set == nil {
			guest.Log(guest.Warning, "key set "+name+" is not there yet")
			continue
		}
		keys, passed := readKeySet(set)
		if passed > 0 {
			guest.Log(guest.Warning, "key set "+name+": "+strconv.Itoa(passed)+" keys cannot be used")
		}
		v.keys = append(v.keys, keys...)
	}
}
