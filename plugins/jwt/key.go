package main

import (
	"bytes"
	"math/bits"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// key is one that signatures are checked with. What it is for was fixed when it
// was read: a token cannot choose another use for it.
type key struct {
	id        string // empty if it has none
	algorithm string // the only one it is for; empty for all of its family
	family    family
	curve     guest.Curve
	secret    []byte // HMAC
	public    []byte // Ed25519: 32 bytes; ECDSA: 4, X, Y; RSA: the modulus
	exponent  uint32 // RSA
}

// fits reports whether the key is for the algorithm that a token calls name.
func (k *key) fits(name string, a algorithm) bool {
	if k.algorithm != "" && k.algorithm != name || k.family != a.family {
		return false
	}
	switch a.family {
	case familyECDSA:
		return k.curve == a.curve
	case familyHMAC:
		// A key is at least as long as the hash [RFC 7518 3.2].
		return len(k.secret)*8 >= int(a.hash)
	default:
		return true
	}
}

// verifies reports whether signature is the key's, over message. The caller made
// sure that the key fits.
func (k *key) verifies(a algorithm, message, signature []byte) bool {
	switch a.family {
	case familyHMAC:
		return guest.Equal(guest.HMAC(a.hash, k.secret, message), signature)
	case familyRSA:
		return len(signature) == len(k.public) &&
			guest.VerifyRSA(a.hash, a.padding, k.public, k.exponent, message, signature)
	case familyECDSA:
		return len(signature) == 2*a.curve.Size() &&
			guest.VerifyECDSA(a.curve, k.public, message, signature)
	case familyEd25519:
		return len(signature) == 64 && guest.VerifyEd25519(k.public, message, signature)
	default:
		return false
	}
}

// readKeySet reads the keys of a JWK set [RFC 7517] that signatures can be
// checked with. It passes over the others, as the RFC asks, and counts them. A
// secret key is among those: a set is public.
func readKeySet(set map[string]any) (keys []key, passed int) {
	list, _ := set["keys"].([]any)
	for _, entry := range list {
		jwk, _ := entry.(map[string]any)
		if k, ok := readKey(jwk); ok && len(keys) < maxKeys {
			keys = append(keys, k)
		} else {
			passed++
		}
	}
	return keys, passed
}

// maxKeys is how many keys a plugin keeps.
const maxKeys = 100

func readKey(jwk map[string]any) (key, bool) {
	text := func(name string) string { s, _ := jwk[name].(string); return s }
	k := key{id: text("kid"), algorithm: text("alg")}
	if _, private := jwk["d"]; private || !isForVerifying(jwk) {
		return key{}, false
	}
	var ok bool
	switch text("kty") {
	case "RSA":
		ok = k.readRSA(text("n"), text("e"))
	case "EC":
		ok = k.readECDSA(text("crv"), text("x"), text("y"))
	case "OKP":
		ok = k.readEd25519(text("crv"), text("x"))
	}
	if k.algorithm != "" { // it has to be one that the key can be used with
		a, known := algorithmNamed(k.algorithm)
		ok = ok && known && k.fits(k.algorithm, a)
	}
	return k, ok
}

// isForVerifying reports whether "use" and "key_ops" permit it.
func isForVerifying(jwk map[string]any) bool {
	if use, present := jwk["use"]; present && use != any("sig") {
		return false
	}
	operations, present := jwk["key_ops"]
	if !present {
		return true
	}
	list, _ := operations.([]any)
	for _, operation := range list {
		if operation == any("verify") {
			return true
		}
	}
	return false
}

// readRSA takes moduli of 2 048 to 8 192 bits [RFC 7518 3.3].
func (k *key) readRSA(n, e string) bool {
	modulus, err := guest.DecodeBase64URL(n)
	if err != nil {
		return false
	}
	modulus = bytes.TrimLeft(modulus, "\x00")
	exponent, err := guest.DecodeBase64URL(e)
	if err != nil || len(modulus) == 0 || len(exponent) > 4 {
		return false
	}
	for _, b := range exponent {
		k.exponent = k.exponent<<8 | uint32(b)
	}
	size := (len(modulus)-1)*8 + bits.Len8(modulus[0])
	k.family, k.public = familyRSA, modulus
	return size >= 2048 && size <= 8192 && k.exponent >= 3 && k.exponent&1 == 1 && k.exponent>>31 == 0
}

func (k *key) readECDSA(curve, x, y string) bool {
	k.family = familyECDSA
	k.curve = map[string]guest.Curve{"P-256": guest.P256, "P-384": guest.P384, "P-521": guest.P521}[curve]
	bytesX, errX := guest.DecodeBase64URL(x)
	bytesY, errY := guest.DecodeBase64URL(y)
	if errX != nil || errY != nil || k.curve == 0 || len(bytesX) != k.curve.Size() || len(bytesY) != k.curve.Size() {
		return false
	}
	k.public = append(append([]byte{4}, bytesX...), bytesY...)
	return true
}

func (k *key) readEd25519(curve, x string) bool {
	public, err := guest.DecodeBase64URL(x)
	k.family, k.public = familyEd25519, public
	return err == nil && curve == "Ed25519" && len(public) == 32
}
