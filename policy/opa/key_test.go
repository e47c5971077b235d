package opa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey(t), "ES384": large, "EdDSA": edKey} {
		parsed, err := ParseKey(publicPEM(t, key))
		if err != nil || parsed.Algorithm != algorithm {
			t.Errorf("%s: %+v, %v", algorithm, parsed, err)
			continue
		}
		archive := packed(t, signed(t, shipped(), key, algorithm, "SHA-256"))
		if _, err := ReadArchive(bytes.NewReader(archive), parsed); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if other, err := ParseKey(publicPEM(t, ecKey(t))); err != nil {
			t.Error(err)
		} else if _, err := ReadArchive(bytes.NewReader(archive), other); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: signed by another key: %v", algorithm, err)
		}
	}

	private, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	small := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: []byte{1}})
	for name, text := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("sesame"), "too large": bytes.Repeat([]byte("-"), maxKeyFile+1),
		"the private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"something else":  pem.EncodeToMemory(&pem.Block{Type: "POEM", Bytes: []byte("roses")}), "damaged": small,
	} {
		if _, err := ParseKey(text); policy.KindOf(err) != policy.KindInvalid || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParseKey(text)
		if (key == nil) != (err != nil) || err != nil && policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%+v, %v", key, err)
		}
	})
}
