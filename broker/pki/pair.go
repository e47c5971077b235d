package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of a certificate that somebody else than the operator brings. Every handshake
// computes with its key, and every client takes its chain.
const (
	maxPairPEM    = 64 << 10
	maxChain      = 5
	maxChainBytes = 16 << 10 // DER; many TLS libraries of small devices take no more
	minRSA        = 2048
	maxRSA        = 4096 // the signature of a longer one costs a stranger's handshake too much
	maxPairNames  = 20

	mustStaple = "1.3.6.1.5.5.7.1.24" // the TLS feature extension [RFC7633]
)

// Chain is a server certificate and its issuers that [ParseChain] has checked.
type Chain struct {
	Leaf *x509.Certificate
	DER  [][]byte // Leaf first
	// Names are the host names of Leaf, each once, in lower case.
	Names []string
}

// ParseChain reads a PEM chain, the server's own certificate first, and checks all of
// it that does not depend on who brings it: that each certificate is signed by the
// next, for servers, by DNS names alone and none of them with a star, in date at now,
// and of algorithms and sizes that are neither weak nor a burden. The errors are for
// whoever brought it.
func ParseChain(data []byte, now time.Time) (*Chain, error) {
	c, err := decodeChain(data)
	if err != nil {
		return nil, err
	}
	return c, c.check(now)
}

func decodeChain(data []byte) (*Chain, error) {
	if len(data) > maxPairPEM {
		return nil, errors.New("is too long")
	}
	c, total := &Chain{}, 0
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != certificateBlock {
			return nil, errors.New("must be PEM blocks CERTIFICATE and nothing else")
		}
		if total += len(block.Bytes); len(c.DER) == maxChain || total > maxChainBytes {
			return nil, fmt.Errorf("must be at most %d certificates of %d bytes together", maxChain, maxChainBytes)
		}
		c.DER = append(c.DER, block.Bytes)
	}
	return c, c.parse()
}

// ChainOf is a chain that was checked when it was stored.
func ChainOf(der [][]byte) (*Chain, error) {
	c := &Chain{DER: der}
	return c, c.parse()
}

func (c *Chain) parse() (err error) {
	if len(c.DER) == 0 {
		return errors.New("must be a certificate in PEM")
	}
	if c.Leaf, err = x509.ParseCertificate(c.DER[0]); err != nil {
		return errors.New("must be a certificate")
	}
	for _, name := range c.Leaf.DNSNames {
		if name = canonical(name); !slices.Contains(c.Names, name) {
			c.Names = append(c.Names, name)
		}
	}
	return nil
}

func (c *Chain) check(now time.Time) error {
	leaf := c.Leaf
	switch {
	case leaf.IsCA:
		return errors.New("must begin with the server's certificate, not with an authority's")
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("must be for servers: its extended key usage says otherwise")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("must have the key usage digitalSignature")
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return errors.New("has a critical extension that is not known")
	case slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == mustStaple }):
		return errors.New("must not demand stapled OCSP answers: none are sent")
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("must be valid now: it is from %s on", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(leaf.NotAfter):
		return fmt.Errorf("must be valid now: it ended on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err := c.checkNames(); err != nil {
		return err
	}
	if err := checkPublic(leaf.PublicKey); err != nil {
		return err
	}
	return c.checkIssuers()
}

func (c *Chain) checkNames() error {
	if len(c.Leaf.IPAddresses)+len(c.Leaf.EmailAddresses)+len(c.Leaf.URIs) > 0 {
		return errors.New("must have DNS names alone, and no addresses")
	}
	if len(c.Names) == 0 || len(c.Names) > maxPairNames {
		return fmt.Errorf("must have 1 to %d DNS names as subject alternative names", maxPairNames)
	}
	for _, name := range c.Names {
		if !isHostName(name) {
			return fmt.Errorf("must have host names without a star: %q is none", name)
		}
	}
	// Old clients may take it for a host name; of others it is only a title.
	if cn := canonical(c.Leaf.Subject.CommonName); strings.Contains(cn, ".") && !strings.Contains(cn, " ") && !slices.Contains(c.Names, cn) {
		return errors.New("must have a common name that is one of its DNS names, or no host name")
	}
	return nil
}

// checkIssuers checks that each certificate is signed by the next. Whether anybody
// trusts the last one is for clients to say.
func (c *Chain) checkIssuers() error {
	signed := c.Leaf
	for _, der := range c.DER[1:] {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return errors.New("must be certificates")
		}
		if err := errors.Join(checkPublic(issuer.PublicKey), checkSignature(signed)); err != nil {
			return err
		}
		if !issuer.IsCA || signed.CheckSignatureFrom(issuer) != nil {
			return errors.New("must be a chain: the server's certificate first, then each issuer of the one before")
		}
		signed = issuer
	}
	if signed.CheckSignatureFrom(signed) == nil {
		return nil // of itself it says nothing
	}
	return checkSignature(signed)
}

func checkSignature(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return fmt.Errorf("must not be signed with %s", c.SignatureAlgorithm)
	default:
		return nil
	}
}

func checkPublic(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return nil
		}
	}
	return fmt.Errorf("must have keys of ECDSA on P-256 or P-384, or RSA of %d to %d bits", minRSA, maxRSA)
}

// ParsePrivate reads one private key in PEM: PKCS #8, or the older forms of ECDSA and
// RSA. It returns the key as PKCS #8 in DER. No error holds anything of it.
func ParsePrivate(data []byte) ([]byte, error) {
	if len(data) > maxPairPEM {
		return nil, errors.New("is too long")
	}
	block, rest := pem.Decode(bytes.TrimSpace(data))
	if block != nil && block.Type == "EC PARAMETERS" { // openssl writes it before the key
		block, rest = pem.Decode(bytes.TrimSpace(rest))
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || len(block.Headers) > 0 {
		return nil, errors.New("must be one private key in PEM, without a passphrase")
	}
	var key any
	var err error
	switch block.Type {
	case keyBlock:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = errors.New("of another type")
	}
	if err != nil {
		return nil, errors.New("must be one private key in PEM, without a passphrase")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("must be a key of ECDSA or RSA")
	}
	return der, nil
}

// Belongs reports whether private, as PKCS #8 in DER, is the key of the chain.
func (c *Chain) Belongs(private []byte) bool {
	_, err := c.With(private)
	return err == nil
}

// With is what a handshake shows of the chain with its private key, PKCS #8 in DER.
func (c *Chain) With(private []byte) (*tls.Certificate, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	signer, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("the private key cannot be used")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(c.Leaf.PublicKey) {
		return nil, errors.New("the private key is of another certificate")
	}
	return &tls.Certificate{Certificate: c.DER, PrivateKey: signer, Leaf: c.Leaf}, nil
}

// NewPrivate makes a key on P-256, as PKCS #8 in DER.
func NewPrivate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// Request makes a certificate request (PKCS #10, PEM) for names, signed with private;
// the first name is its common name too.
func Request(private []byte, names []string) ([]byte, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, errors.New("the private key cannot be used")
	}
	template := &x509.CertificateRequest{DNSNames: names}
	if len(names) > 0 && len(names[0]) <= 64 { // as much as a common name takes
		template.Subject = pkix.Name{CommonName: names[0]}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, parsed)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
