package opa

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/cordon-mq/cordon/policy"
)

const (
	maxKeyFile = 64 << 10 // bytes of a PEM text
	minRSABits = 2048
)

// ParseKey reads the public key that has to sign archives from PEM, a key or a
// certificate. Its kind says the algorithm: RS256 for RSA, ES256, ES384 or ES512
// by the curve, EdDSA. The error is KindInvalid.
func ParseKey(text []byte) (*Key, error) {
	if len(text) > maxKeyFile {
		return nil, bad("the key is larger than 64 KiB")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad("the key is no PEM text")
	}
	public, err := publicKey(block)
	if err != nil {
		return nil, err
	}
	algorithm := ""
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return nil, bad("an RSA key needs 2048 bits at least")
		}
		algorithm = "RS256"
	case *ecdsa.PublicKey:
		algorithm = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		algorithm = "EdDSA"
	}
	if algorithm == "" {
		return nil, bad("the key is of a kind that signs no bundles")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, bad("the key cannot be read")
	}
	return &Key{Algorithm: algorithm, PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, nil
}

func publicKey(block *pem.Block) (any, error) {
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, parsing := x509.ParseCertificate(block.Bytes)
		if err = parsing; err == nil {
			key = certificate.PublicKey
		}
	case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
		return nil, bad("this is the private key; it belongs with whoever signs, and the broker needs the public one")
	default:
		return nil, bad("the PEM text holds no public key")
	}
	if err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Public: "the key cannot be read", Err: err}
	}
	return key, nil
}
