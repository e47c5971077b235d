package guest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// Test case 2 of RFC 4231.
func TestHMAC(t *testing.T) {
	t.Parallel()
	for hash, want := range map[guest.Hash]string{
		guest.SHA256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		guest.SHA384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
		guest.SHA512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		0:            "",
		-256:         "",
	} {
		if got := hex.EncodeToString(guest.HMAC(hash, []byte("Jefe"), []byte("what do ya want for nothing?"))); got != want {
			t.Errorf("%d: %s, want %s", hash, got, want)
		}
	}
}

// A key or signature of the wrong form does not hold, and is no panic.
func TestSignatures(t *testing.T) {
	t.Parallel()
	message := []byte("message")
	digest := sha256.Sum256(message)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, s, err := ecdsa.Sign(rand.Reader, ec, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaSignature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	schemes := map[string]struct {
		key, signature []byte
		verify         func(key, message, signature []byte) bool
	}{
		"Ed25519": {public, ed25519.Sign(private, message), guest.VerifyEd25519},
		"ECDSA": {point, append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), func(key, message, signature []byte) bool {
			return guest.VerifyECDSA(guest.P256, key, message, signature)
		}},
		"RSA": {key.N.Bytes(), rsaSignature, func(modulus, message, signature []byte) bool {
			return guest.VerifyRSA(guest.SHA256, guest.PKCS1v15, modulus, 65537, message, signature)
		}},
	}
	for name, scheme := range schemes {
		changed := bytes.Clone(scheme.signature)
		changed[3] ^= 1
		for _, tt := range []struct {
			what                    string
			key, message, signature []byte
			want                    bool
		}{
			{"as it was signed", scheme.key, message, scheme.signature, true},
			{"another message", scheme.key, []byte("massage"), scheme.signature, false},
			{"a changed signature", scheme.key, message, changed, false},
			{"a short signature", scheme.key, message, scheme.signature[1:], false},
			{"a long signature", scheme.key, message, append(scheme.signature, 0), false},
			{"no signature", scheme.key, message, nil, false},
			{"zeros", scheme.key, message, make([]byte, len(scheme.signature)), false},
			{"a short key", scheme.key[1:], message, scheme.signature, false},
			{"no key", nil, message, scheme.signature, false},
			{"a key of zeros", make([]byte, len(scheme.key)), message, scheme.signature, false},
		} {
			if got := scheme.verify(tt.key, tt.message, tt.signature); got != tt.want {
				t.Errorf("%s, %s: %v", name, tt.what, got)
			}
		}
	}
	if guest.VerifyECDSA(guest.P384, point, message, schemes["ECDSA"].signature) || guest.VerifyECDSA(0, point, message, schemes["ECDSA"].signature) {
		t.Error("a signature holds on another curve")
	}
	modulus := key.N.Bytes()
	if guest.VerifyRSA(guest.SHA256, guest.PSS, modulus, 65537, message, rsaSignature) ||
		guest.VerifyRSA(guest.SHA384, guest.PKCS1v15, modulus, 65537, message, rsaSignature) ||
		guest.VerifyRSA(guest.SHA256, 0, modulus, 65537, message, rsaSignature) ||
		guest.VerifyRSA(guest.SHA256, guest.PKCS1v15, modulus, 1, message, rsaSignature) ||
		guest.VerifyRSA(guest.SHA256, guest.PKCS1v15, modulus, 1<<31, message, rsaSignature) {
		t.Error("a signature holds in another scheme")
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	if !guest.Equal([]byte("ab"), []byte("ab")) || guest.Equal([]byte("ab"), []byte("aB")) || guest.Equal([]byte("ab"), []byte("a")) ||
		!guest.Equal(nil, []byte{}) {
		t.Error("not as bytes.Equal")
	}
}

func TestDecodeBase64URL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "AA": "\x00", "-_8": "\xfb\xff", "YWJj": "abc"} {
		if got, err := guest.DecodeBase64URL(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"A", "AA==", "+/8", "AB", "YW\nJj", "YWJj\r\n", " YWJj", "YWJ\x00", "é"} {
		if got, err := guest.DecodeBase64URL(text); err == nil {
			t.Errorf("%q was read as %q", text, got)
		}
	}
}
