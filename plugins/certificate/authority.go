package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// MaxAuthority is the largest certificate of an authority, in bytes as uploaded.
const MaxAuthority = 64 << 10

const certificateBlock = "CERTIFICATE"

// ParseAuthority reads the certificate of an authority, in PEM or DER: one
// certificate and nothing else, that may sign certificates, with a signature and a
// key that still count, and valid at now or later. An error says which of these
// fails and repeats nothing of data.
func ParseAuthority(data []byte, now time.Time) (*x509.Certificate, error) {
	if len(data) > MaxAuthority {
		return nil, fmt.Errorf("must be at most %d bytes", MaxAuthority)
	}
	der, err := derOf(data, certificateBlock)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return nil, errors.New("must be one X.509 certificate, in PEM or DER")
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA:
		return nil, errors.New("must be of an authority: basic constraints have to say so")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("must be of an authority: key usage has to have keyCertSign")
	case len(c.UnhandledCriticalExtensions) > 0:
		return nil, errors.New("must not have critical extensions that are not known here")
	case !now.Before(c.NotAfter):
		return nil, errors.New("must not have expired")
	}
	if err := checkStrength(c); err != nil {
		return nil, err
	}
	if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
		return nil, errors.New("must be signed with the key in it where it says so")
	}
	return c, nil
}

// derOf is the DER form of data, which is that or a single PEM block.
func derOf(data []byte, blockType string) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		return data, nil
	}
	block, rest := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != blockType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("must be a single PEM block %q, or DER", blockType)
	}
	return block.Bytes, nil
}

// checkStrength refuses what could be forged.
func checkStrength(c *x509.Certificate) error {
	if !isStrong(c.SignatureAlgorithm) {
		return errors.New("must be signed with SHA-256 or better")
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return errors.New("must have an RSA key of 2048 to 8192 bits")
		}
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize < 256 {
			return errors.New("must have an ECDSA key on P-256 or larger")
		}
	case ed25519.PublicKey:
	default:
		return errors.New("must have an RSA, ECDSA or Ed25519 key")
	}
	return nil
}

func isStrong(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	default:
		return false
	}
}

// AuthorityID is the identifier of an authority: half of the SHA-256 of its
// certificate, in lower-case hex.
func AuthorityID(c *x509.Certificate) policy.ID {
	sum := sha256.Sum256(c.Raw)
	return policy.ID(hex.EncodeToString(sum[:16]))
}

// IssuerID names who signs certificates and lists: a name and a key. An authority
// whose certificate was renewed with the same key is the same issuer, so what it has
// revoked stays revoked.
func IssuerID(c *x509.Certificate) string {
	h := sha256.New()
	h.Write(c.RawSubject)
	h.Write(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Serial is a serial number as a [Proof] has it: lower-case hex.
func Serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
