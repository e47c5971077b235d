//go:build !wasip1

package guest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"math/big"
	"os"
	"strings"
)

// shared is nothing: there is no host to share memory with here.
//
//lint:ignore U1000 the module embeds what its exports use
type shared struct{}

// HMAC is the authentication code of message; nil for an unknown hash function.
func HMAC(h Hash, key, message []byte) []byte {
	var function func() hash.Hash
	switch h {
	case SHA256:
		function = sha256.New
	case SHA384:
		function = sha512.New384
	case SHA512:
		function = sha512.New
	default:
		return nil
	}
	code := hmac.New(function, key)
	_, _ = code.Write(message) // a hash takes everything
	return code.Sum(nil)
}

// Equal compares secrets in constant time for equal lengths.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// VerifyEd25519 reports whether signature (64 bytes) over message is that of the
// public key (32 bytes).
func VerifyEd25519(public, message, signature []byte) bool {
	return len(public) == ed25519.PublicKeySize && len(signature) == ed25519.SignatureSize &&
		ed25519.Verify(public, message, signature)
}

// VerifyECDSA reports whether signature (R and S, each as long as a coordinate)
// over message is that of the public key (4, X and Y).
func VerifyECDSA(curve Curve, public, message, signature []byte) bool {
	var c elliptic.Curve
	var h crypto.Hash
	switch curve {
	case P256:
		c, h = elliptic.P256(), crypto.SHA256
	case P384:
		c, h = elliptic.P384(), crypto.SHA384
	case P521:
		c, h = elliptic.P521(), crypto.SHA512
	default:
		return false
	}
	size := curve.Size()
	key, err := ecdsa.ParseUncompressedPublicKey(c, public)
	if err != nil || len(signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(key, digest(h, message), r, s)
}

// VerifyRSA reports whether signature over message is that of the public key: a
// modulus of 2 048 to 8 192 bits, big-endian, and an exponent.
func VerifyRSA(h Hash, padding Padding, modulus []byte, exponent uint32, message, signature []byte) bool {
	function, ok := map[Hash]crypto.Hash{SHA256: crypto.SHA256, SHA384: crypto.SHA384, SHA512: crypto.SHA512}[h]
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(exponent)}
	if !ok || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 || exponent < 3 || exponent>>31 != 0 {
		return false
	}
	switch padding {
	case PKCS1v15:
		return rsa.VerifyPKCS1v15(key, function, digest(function, message), signature) == nil
	case PSS:
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.VerifyPSS(key, function, digest(function, message), signature, options) == nil
	default:
		return false
	}
}

func digest(h crypto.Hash, message []byte) []byte {
	function := h.New()
	_, _ = function.Write(message) // a hash takes everything
	return function.Sum(nil)
}

// Log writes a line to the operator's log, at most about a kilobyte a second. A
// line never holds a token or a part of it.
func Log(level Level, text string) {
	_, _ = fmt.Fprintf(os.Stderr, "plugin, level %d: %s\n", level, text) // nobody reads what it returns
}

// DecodeBase64URL reads base64url without padding, as tokens are written: RFC
// 4648 section 5, and no other spelling of the same bytes.
func DecodeBase64URL(text string) ([]byte, error) {
	return decode(base64.RawURLEncoding.Strict(), text)
}

// decodeBase64 reads base64 with padding: RFC 4648 section 4.
func decodeBase64(text string) ([]byte, error) { return decode(base64.StdEncoding.Strict(), text) }

func decode(encoding *base64.Encoding, text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, ErrBase64 // the decoder would skip them
	}
	data, err := encoding.DecodeString(text)
	if err != nil {
		return nil, ErrBase64
	}
	return data, nil
}
