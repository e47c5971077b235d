package guest

import "unsafe"

// HMAC is the authentication code of message; nil for an unknown hash function.
func HMAC(h Hash, key, message []byte) []byte {
	code := make([]byte, max(h, 0)/8)
	switch h {
	case SHA256:
		hostHMAC256(start(key), size(key), start(message), size(message), start(code))
	case SHA384:
		hostHMAC384(start(key), size(key), start(message), size(message), start(code))
	case SHA512:
		hostHMAC512(start(key), size(key), start(message), size(message), start(code))
	default:
		return nil
	}
	return code
}

// Equal compares secrets in constant time for equal lengths.
func Equal(a, b []byte) bool {
	return hostEqual(start(a), size(a), start(b), size(b)) == 1
}

// VerifyEd25519 reports whether signature (64 bytes) over message is that of the
// public key (32 bytes).
func VerifyEd25519(public, message, signature []byte) bool {
	return hostEd25519(start(public), size(public),
		start(message), size(message), start(signature), size(signature)) == 1
}

// VerifyECDSA reports whether signature (R and S, each as long as a coordinate)
// over message is that of the public key (4, X and Y).
func VerifyECDSA(curve Curve, public, message, signature []byte) bool {
	return hostECDSA(uint32(curve), start(public), size(public),
		start(message), size(message), start(signature), size(signature)) == 1
}

// VerifyRSA reports whether signature over message is that of the public key: a
// modulus of 2 048 to 8 192 bits, big-endian, and an exponent.
func VerifyRSA(h Hash, padding Padding, modulus []byte, exponent uint32, message, signature []byte) bool {
	return hostRSA(uint32(padding), uint32(h), start(modulus), size(modulus), exponent,
		start(message), size(message), start(signature), size(signature)) == 1
}

// Log writes a line to the operator's log, at most about a kilobyte a second. A
// line never holds a token or a part of it.
func Log(level Level, text string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text))) // #nosec G103 G115
}

// DecodeBase64URL reads base64url without padding, as tokens are written: RFC
// 4648 section 5, and no other spelling of the same bytes.
func DecodeBase64URL(text string) ([]byte, error) { return decode(hostBase64URL, text) }

// decodeBase64 reads base64 with padding: RFC 4648 section 4.
func decodeBase64(text string) ([]byte, error) { return decode(hostBase64, text) }

func decode(function func(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint32, text string) ([]byte, error) {
	data := make([]byte, len(text)/4*3+2)
	n := function(unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)), start(data), size(data)) // #nosec G103 G115
	if n > size(data) {
		return nil, ErrBase64
	}
	return data[:n], nil
}

// start is where a slice lies. It stays a pointer on its way to the host: a slice
// on a goroutine's stack moves with it, and a number would not.
func start(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) } // #nosec G103

func size(b []byte) uint32 { return uint32(len(b)) } // #nosec G115 -- addresses are 32 bits wide

//go:wasmimport cordon hmac_sha256
//go:noescape
func hostHMAC256(key unsafe.Pointer, keySize uint32, message unsafe.Pointer, messageSize uint32, code unsafe.Pointer)

//go:wasmimport cordon hmac_sha384
//go:noescape
func hostHMAC384(key unsafe.Pointer, keySize uint32, message unsafe.Pointer, messageSize uint32, code unsafe.Pointer)

//go:wasmimport cordon hmac_sha512
//go:noescape
func hostHMAC512(key unsafe.Pointer, keySize uint32, message unsafe.Pointer, messageSize uint32, code unsafe.Pointer)

//go:wasmimport cordon constant_time_equal
//go:noescape
func hostEqual(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint32

//go:wasmimport cordon ed25519_verify
//go:noescape
func hostEd25519(public unsafe.Pointer, publicSize uint32, message unsafe.Pointer, messageSize uint32,
	signature unsafe.Pointer, signatureSize uint32) uint32

//go:wasmimport cordon ecdsa_verify
//go:noescape
func hostECDSA(curve uint32, public unsafe.Pointer, publicSize uint32, message unsafe.Pointer, messageSize uint32,
	signature unsafe.Pointer, signatureSize uint32) uint32

//go:wasmimport cordon rsa_verify
//go:noescape
func hostRSA(scheme, hash uint32, modulus unsafe.Pointer, modulusSize, exponent uint32,
	message unsafe.Pointer, messageSize uint32, signature unsafe.Pointer, signatureSize uint32) uint32

//go:wasmimport cordon base64_decode
//go:noescape
func hostBase64(text unsafe.Pointer, textSize uint32, data unsafe.Pointer, dataSize uint32) uint32

//go:wasmimport cordon base64url_decode
//go:noescape
func hostBase64URL(text unsafe.Pointer, textSize uint32, data unsafe.Pointer, dataSize uint32) uint32

//go:wasmimport cordon log
//go:noescape
func hostLog(level uint32, text unsafe.Pointer, textSize uint32)
