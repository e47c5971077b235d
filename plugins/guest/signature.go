package guest

import "errors"

// ErrBase64 is a text that is not base64, or not its one spelling.
var ErrBase64 = errors.New("not base64")

// Hash is a hash function of a signature scheme, by its size in bits.
type Hash int32

// The hash functions.
const (
	SHA256 Hash = 256
	SHA384 Hash = 384
	SHA512 Hash = 512
)

// Curve is an elliptic curve, by its size in bits. Its signatures are over the
// hash that goes with it: SHA-256, SHA-384 and SHA-512.
type Curve int32

// The curves.
const (
	P256 Curve = 256
	P384 Curve = 384
	P521 Curve = 521
)

// Size is how many bytes a coordinate of the curve has; 0 for no curve.
func (c Curve) Size() int {
	switch c {
	case P256, P384, P521:
		return (int(c) + 7) / 8
	default:
		return 0
	}
}

// Padding is how an RSA signature is padded.
type Padding int32

// The paddings of RFC 8017. The salt of PSS is as long as the hash.
const (
	PKCS1v15 Padding = 1
	PSS      Padding = 2
)

// Level says how much a line of the log matters.
type Level int32

// The levels.
const (
	Debug Level = iota
	Information
	Warning
	Error
)
