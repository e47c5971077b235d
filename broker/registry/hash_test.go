package registry

import (
	"strings"
	"testing"
)

const (
	zeroSalt = "AAAAAAAAAAAAAAAAAAAAAA"
	zeroSum  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	// vector is the SHA-256 of sixteen zero bytes and "secret".
	vector = "$sha256$" + zeroSalt + "$Nvy9xHmTeIEf42A/Mn/mJrYp/cY8CVjMfub84hg3Uss"
)

func TestFastHashVector(t *testing.T) {
	t.Parallel()
	var h hash
	if err := h.UnmarshalText([]byte(vector)); err != nil || !h.holds([]byte("secret")) {
		t.Errorf("%+v, %v: does not hold its secret", h, err)
	}
}

func TestHashHoldsItsSecretOnly(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func([]byte) hash{
		"fast": fastHash,
		"slow": func(b []byte) hash { return slowHash(b, cheap()) },
	} {
		h := make([]byte("secret"))
		for _, secret := range []string{"", "Secret", "secret ", "secre"} {
			if h.holds([]byte(secret)) {
				t.Errorf("%s: %q fits", name, secret)
			}
		}
		if !h.holds([]byte("secret")) {
			t.Errorf("%s: the secret does not fit", name)
		}
		if h == make([]byte("secret")) {
			t.Errorf("%s: two hashes of one secret are equal", name)
		}
		text, err := h.MarshalText()
		var back hash
		if err != nil || back.UnmarshalText(text) != nil || back != h {
			t.Errorf("%s: %s became %+v, %v", name, text, back, err)
		}
	}
	if (hash{}).holds(nil) || (hash{}).holds([]byte("x")) {
		t.Error("the zero hash fits something")
	}
	if text, err := (hash{}).MarshalText(); err == nil {
		t.Errorf("the zero hash is written as %s", text)
	}
	d := newDummies(cheap())
	if d.fast.holds(nil) || d.slow.holds(nil) {
		t.Error("a dummy fits something")
	}
}

// What devices really get.
func TestDefaultSlowCost(t *testing.T) {
	t.Parallel()
	h := slowHash([]byte("secret"), defaultSlowCost())
	text, err := h.MarshalText()
	if err != nil || !strings.HasPrefix(string(text), "$argon2id$v=19$m=19456,t=2,p=1$") || !h.holds([]byte("secret")) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestHashTextIsStrict(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "$", "$md5$" + zeroSalt + "$" + zeroSum,
		"sha256$" + zeroSalt + "$" + zeroSum,
		"$sha256$" + zeroSalt,
		"$sha256$" + zeroSalt + "$" + zeroSum + "$",
		"$sha256$" + zeroSalt + "$" + zeroSum[1:],
		"$sha256$" + zeroSalt + "=$" + zeroSum,
		"$sha256$" + zeroSalt + "$" + zeroSum[:42] + "B", // bits beyond the end
		"$argon2id$v=19$m=19456,t=2,p=1$" + zeroSalt,
		"$argon2id$v=16$m=19456,t=2,p=1$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=19456,t=0,p=1$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=19456,t=100000,p=1$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=19456,t=2,p=0$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=19456,t=2,p=1 $" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=019456,t=2,p=1$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=-1,t=2,p=1$" + zeroSalt + "$" + zeroSum,
	} {
		var h hash
		err := h.UnmarshalText([]byte(text))
		if err == nil {
			t.Errorf("%q was read as %+v", text, h)
		} else if len(text) > 20 && strings.Contains(err.Error(), zeroSum[:20]) {
			t.Errorf("the error quotes the hash: %v", err)
		}
	}
	for _, text := range []string{
		"$sha256$" + zeroSalt + "$" + zeroSum,
		"$argon2id$v=19$m=19456,t=2,p=1$" + zeroSalt + "$" + zeroSum,
	} {
		var h hash
		if err := h.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
