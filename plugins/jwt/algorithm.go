package main

import "github.com/cordon-mq/cordon/plugins/guest"

// family is a kind of signature, and so of key.
type family uint8

const (
	familyHMAC family = iota + 1
	familyRSA
	familyECDSA
	familyEd25519
)

// algorithm is a signature scheme of RFC 7518 section 3 or RFC 8037.
type algorithm struct {
	family  family
	hash    guest.Hash
	curve   guest.Curve   // ECDSA
	padding guest.Padding // RSA
}

// algorithmNamed finds the scheme that a token calls name. "none" is not one.
func algorithmNamed(name string) (algorithm, bool) {
	a, ok := map[string]algorithm{
		"HS256": {family: familyHMAC, hash: guest.SHA256},
		"HS384": {family: familyHMAC, hash: guest.SHA384},
		"HS512": {family: familyHMAC, hash: guest.SHA512},
		"RS256": {family: familyRSA, hash: guest.SHA256, padding: guest.PKCS1v15},
		"RS384": {family: familyRSA, hash: guest.SHA384, padding: guest.PKCS1v15},
		"RS512": {family: familyRSA, hash: guest.SHA512, padding: guest.PKCS1v15},
		"PS256": {family: familyRSA, hash: guest.SHA256, padding: guest.PSS},
		"PS384": {family: familyRSA, hash: guest.SHA384, padding: guest.PSS},
		"PS512": {family: familyRSA, hash: guest.SHA512, padding: guest.PSS},
		"ES256": {family: familyECDSA, hash: guest.SHA256, curve: guest.P256},
		"ES384": {family: familyECDSA, hash: guest.SHA384, curve: guest.P384},
		"ES512": {family: familyECDSA, hash: guest.SHA512, curve: guest.P521},
		"EdDSA": {family: familyEd25519},
		// The name of RFC 9864, which says the curve.
		"Ed25519": {family: familyEd25519},
	}[name]
	return a, ok
}
