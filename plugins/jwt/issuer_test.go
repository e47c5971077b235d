package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"testing"
)

// issuer makes tokens, good and bad ones.
type issuer struct {
	rsa      *rsa.PrivateKey
	p256     *ecdsa.PrivateKey
	p384     *ecdsa.PrivateKey
	p521     *ecdsa.PrivateKey
	ed25519  ed25519.PrivateKey
	hmac     []byte // 64 bytes
	hmac32   []byte // enough for HS256 alone
	strange  *ecdsa.PrivateKey
	smallRSA *rsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{hmac: make([]byte, 64), hmac32: make([]byte, 32)}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	i.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must()
	i.smallRSA, err = rsa.GenerateKey(rand.Reader, 1024)
	must()
	for _, k := range []struct {
		curve elliptic.Curve
		to    **ecdsa.PrivateKey
	}{{elliptic.P256(), &i.p256}, {elliptic.P384(), &i.p384}, {elliptic.P521(), &i.p521}, {elliptic.P256(), &i.strange}} {
		*k.to, err = ecdsa.GenerateKey(k.curve, rand.Reader)
		must()
	}
	_, i.ed25519, err = ed25519.GenerateKey(rand.Reader)
	must()
	_, _ = rand.Read(i.hmac)
	_, _ = rand.Read(i.hmac32)
	// The host takes a line end at the end of a secret's file for no part of it.
	i.hmac[len(i.hmac)-1] |= 0x80
	i.hmac32[len(i.hmac32)-1] |= 0x80
	return i
}

type object = map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test's own literal
	}
	return string(b)
}

// keySet is the issuer's, with keys among them that nobody should use.
func (i *issuer) keySet() object {
	e := b64(big.NewInt(int64(i.rsa.E)).Bytes())
	good := []object{
		{"kty": "RSA", "kid": "rsa", "n": b64(i.rsa.N.Bytes()), "e": e, "use": "sig", "x5t": "ignored"},
		{"kty": "RSA", "kid": "ps", "n": b64(i.rsa.N.Bytes()), "e": e, "alg": "PS256", "key_ops": []string{"verify"}},
		{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(i.ed25519.Public().(ed25519.PublicKey))},
		ecKey("p256", "P-256", i.p256),
		ecKey("p384", "P-384", i.p384),
		ecKey("p521", "P-521", i.p521),
		// Two keys of one ID, for two families: the algorithm tells them apart.
		{"kty": "OKP", "kid": "twin", "crv": "Ed25519", "x": b64(i.ed25519.Public().(ed25519.PublicKey))},
		ecKey("twin", "P-256", i.p256),
		// Two of one ID and one family: nobody can tell them apart.
		ecKey("double", "P-256", i.p256),
		ecKey("double", "P-256", i.strange),
	}
	unusable := []object{
		{"kty": "oct", "kid": "oct", "k": b64(i.hmac)},
		{"kty": "RSA", "kid": "enc", "n": b64(i.rsa.N.Bytes()), "e": e, "use": "enc"},
		{"kty": "RSA", "kid": "ops", "n": b64(i.rsa.N.Bytes()), "e": e, "key_ops": []string{"encrypt"}},
		{"kty": "RSA", "kid": "private", "n": b64(i.rsa.N.Bytes()), "e": e, "d": "AQ"},
		{"kty": "RSA", "kid": "small", "n": b64(i.smallRSA.N.Bytes()), "e": e},
		{"kty": "RSA", "kid": "one", "n": b64(i.rsa.N.Bytes()), "e": "AQ"},
		{"kty": "RSA", "kid": "even", "n": b64(i.rsa.N.Bytes()), "e": "BA"},
		{"kty": "RSA", "kid": "hs", "n": b64(i.rsa.N.Bytes()), "e": e, "alg": "HS256"},
		{"kty": "RSA", "kid": "es", "n": b64(i.rsa.N.Bytes()), "e": e, "alg": "ES256"},
		{"kty": "RSA", "kid": "none", "n": b64(i.rsa.N.Bytes()), "e": e, "alg": "none"},
		{"kty": "EC", "kid": "short", "crv": "P-256", "x": "AQ", "y": "AQ"},
		{"kty": "EC", "kid": "curve", "crv": "secp256k1", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))},
		{"kty": "OKP", "kid": "x", "crv": "X25519", "x": b64(make([]byte, 32))},
		{"kty": "OKP", "kid": "padded", "crv": "Ed25519", "x": b64(make([]byte, 32)) + "="},
		{"kid": "nothing"},
	}
	return object{"keys": append(good, unusable...)}
}

// publicKeySet is keySet without the secret keys: the host refuses a set with one.
func (i *issuer) publicKeySet() object {
	set := i.keySet()
	set["keys"] = slices.DeleteFunc(set["keys"].([]object), func(k object) bool { return k["d"] != nil || k["kty"] == "oct" })
	return set
}

// unusableKeys is how many keys of keySet are passed over.
const unusableKeys = 15

func ecKey(id, curve string, k *ecdsa.PrivateKey) object {
	point, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err) // a key that was just made
	}
	size := len(point) / 2
	return object{"kty": "EC", "kid": id, "crv": curve, "x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}
}

// token signs header and payload, whatever they say, by the algorithm sign.
func (i *issuer) token(t testing.TB, sign string, header, payload string) string {
	t.Helper()
	message := b64([]byte(header)) + "." + b64([]byte(payload))
	return message + "." + b64(i.sign(t, sign, []byte(message)))
}

func (i *issuer) sign(t testing.TB, name string, message []byte) []byte {
	t.Helper()
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[name[2:]]
	digest := func() []byte {
		h := hash.New()
		_, _ = h.Write(message)
		return h.Sum(nil)
	}
	var signature []byte
	var err error
	switch name[:2] {
	case "HS":
		code := hmac.New(hash.New, i.hmac)
		_, _ = code.Write(message)
		return code.Sum(nil)
	case "RS":
		signature, err = rsa.SignPKCS1v15(rand.Reader, i.rsa, hash, digest())
	case "PS":
		signature, err = rsa.SignPSS(rand.Reader, i.rsa, hash, digest(), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case "Ed":
		return ed25519.Sign(i.ed25519, message)
	case "ES":
		key := map[string]*ecdsa.PrivateKey{"256": i.p256, "384": i.p384, "512": i.p521}[name[2:]]
		size := (key.Params().BitSize + 7) / 8
		r, s, signErr := ecdsa.Sign(rand.Reader, key, digest())
		if err = signErr; err == nil {
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}
