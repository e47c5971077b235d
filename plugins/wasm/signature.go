package wasm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"math/big"
)

// hashes are the ones a guest can name by their size in bits.
func hashOf(bits uint32) (crypto.Hash, func() hash.Hash, bool) {
	switch bits {
	case 256:
		return crypto.SHA256, sha256.New, true
	case 384:
		return crypto.SHA384, sha512.New384, true
	case 512:
		return crypto.SHA512, sha512.New, true
	default:
		return 0, nil, false
	}
}

func digest(make func() hash.Hash, message []byte) []byte {
	h := make()
	h.Write(message)
	return h.Sum(nil)
}

func hmacOf(make func() hash.Hash, key, message []byte) []byte {
	h := hmac.New(make, key)
	h.Write(message)
	return h.Sum(nil)
}

func verifyEd25519(key, message, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, signature)
}

// verifyECDSA takes the point uncompressed and the signature as r and s of the
// curve's size. The curve decides the hash, as in RFC 7518 §3.4.
func verifyECDSA(curve uint32, point, message, signature []byte) bool {
	var c elliptic.Curve
	var h func() hash.Hash
	switch curve {
	case 256:
		c, h = elliptic.P256(), sha256.New
	case 384:
		c, h = elliptic.P384(), sha512.New384
	case 521:
		c, h = elliptic.P521(), sha512.New
	default:
		return false
	}
	key, err := ecdsa.ParseUncompressedPublicKey(c, point)
	size := (c.Params().BitSize + 7) / 8
	if err != nil || len(signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(key, digest(h, message), r, s)
}

const (
	schemePKCS1v15 = 1
	schemePSS      = 2
)

// verifyRSA bounds the modulus, so that one call stays short.
func verifyRSA(scheme, bits uint32, modulus []byte, exponent uint32, message, signature []byte) bool {
	h, make, ok := hashOf(bits)
	n := new(big.Int).SetBytes(modulus)
	if !ok || n.BitLen() < 2048 || n.BitLen() > 8192 || exponent < 3 || exponent > 1<<31-1 {
		return false
	}
	key := &rsa.PublicKey{N: n, E: int(exponent)}
	switch scheme {
	case schemePKCS1v15:
		return rsa.VerifyPKCS1v15(key, h, digest(make, message), signature) == nil
	case schemePSS:
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		return rsa.VerifyPSS(key, h, digest(make, message), signature, options) == nil
	default:
		return false
	}
}
