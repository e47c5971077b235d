package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Name is the Verifier of every principal that was verified by a certificate.
const Name = "certificate"

const (
	maxPresented = 8 // certificates a client may show
	maxChains    = 4 // chains that are looked at
)

// Authorities finds what organisations trust.
type Authorities interface {
	// CertificateTrust is what org trusts, or nil where it has no authorities, or
	// there is no such organisation. It is asked at every connect.
	CertificateTrust(ctx context.Context, org policy.OrgID) (*Trust, error)
}

// Revocation says whether certificates were revoked.
type Revocation interface {
	// Check looks at a verified chain, whose last certificate is an authority of
	// trust. The error is a *plugins.Refusal: CauseRevoked when one of the chain was
	// revoked; CauseRevocation when nobody could say and the organisation is strict.
	Check(ctx context.Context, trust *Trust, chain []*x509.Certificate) error
}

// Config of a Verifier.
type Config struct {
	Authorities Authorities
	Revocation  Revocation
	Domain      string           // organisations' server names end in it
	Now         func() time.Time // nil: time.Now
}

// Verifier is the verifier "certificate" for MQTT connections.
type Verifier struct{ cfg Config }

var _ plugins.Verifier = (*Verifier)(nil)

// New makes a Verifier. It owns nothing.
func New(cfg Config) *Verifier {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg}
}

// Verify takes the steps of the package comment.
func (v *Verifier) Verify(ctx context.Context, c *plugins.Credential) (policy.Principal, error) {
	if len(c.Chain) == 0 {
		return policy.Principal{}, plugins.ErrNotMine
	}
	who, mine, illFormed := parseClientID(string(c.Client.ID))
	if !mine {
		return policy.Principal{}, plugins.ErrNotMine
	}
	trust, err := v.cfg.Authorities.CertificateTrust(ctx, who.org)
	switch {
	case err != nil:
		return refuse(policy.CauseUnavailable, err)
	case trust == nil:
		return policy.Principal{}, plugins.ErrNotMine
	case illFormed != nil:
		return refuse(policy.CauseClientID, illFormed)
	}
	if err := v.checkServerName(c.Client.TLS, who.org); err != nil {
		return refuse(policy.CauseMismatch, err)
	}
	chains, err := v.chains(trust, c.Chain)
	if err != nil {
		return refuse(policy.CauseBad, err)
	}
	if !names(c.Chain[0], who.identity) {
		return refuse(policy.CauseBad, errors.New("the certificate does not stand for this client ID"))
	}
	chain, err := v.standing(ctx, trust, chains)
	if err != nil {
		return policy.Principal{}, err
	}
	anchor, ok := trust.anchorOf(chain[len(chain)-1])
	if !ok {
		return refuse(policy.CauseBad, errors.New("the chain ends nowhere"))
	}
	return principal(trust, anchor, who, chain), nil
}

// checkServerName wants the organisation named twice: whoever shows a certificate
// has said to which organisation before anything was verified.
func (v *Verifier) checkServerName(t *policy.TLS, org policy.OrgID) error {
	if t == nil {
		return errors.New("a certificate without TLS")
	}
	if named, ok := policy.OrgOfHost(t.SNI, v.cfg.Domain); !ok || named != org {
		return errors.New("a certificate needs the TLS server name of its organisation")
	}
	return nil
}

// chains are the ways from the leaf to an authority of the organisation.
func (v *Verifier) chains(trust *Trust, presented []*x509.Certificate) ([][]*x509.Certificate, error) {
	if len(presented) > maxPresented {
		return nil, fmt.Errorf("more than %d certificates", maxPresented)
	}
	between := x509.NewCertPool()
	for _, c := range presented[1:] {
		between.AddCert(c)
	}
	chains, err := presented[0].Verify(x509.VerifyOptions{
		Roots: trust.pool, Intermediates: between, CurrentTime: v.cfg.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	var strong [][]*x509.Certificate
	for _, chain := range chains {
		if err = checkChain(chain); err == nil && len(strong) < maxChains {
			strong = append(strong, chain)
		}
	}
	if len(strong) > 0 {
		return strong, nil
	}
	return nil, err
}

// checkChain holds what package x509 leaves open.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) < 2 {
		return errors.New("the certificate of an authority is nobody's own")
	}
	for i, c := range chain {
		below := i < len(chain)-1
		switch {
		case below && (c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > maxSerial):
			return errors.New("a serial number is longer than 20 bytes")
		case i > 0 && c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return errors.New("an issuer may not sign certificates")
		}
		if err := checkStrength(c); below && err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
	}
	if chain[0].IsCA {
		return errors.New("the certificate of an authority is nobody's own")
	}
	return nil
}

// names reports whether a certificate stands for who.
func names(leaf *x509.Certificate, who identity) bool {
	for _, n := range namesOf(leaf) {
		if n.stands(who) {
			return true
		}
	}
	return false
}

// standing is the first chain that nobody in is revoked, as far as has to be known.
// One that is revoked on any of its ways is refused.
func (v *Verifier) standing(ctx context.Context, trust *Trust, chains [][]*x509.Certificate) (good []*x509.Certificate, err error) {
	for _, chain := range chains {
		failure := v.cfg.Revocation.Check(ctx, trust, chain)
		switch {
		case failure == nil && good == nil:
			good = chain
		case failure != nil && plugins.CauseOf(failure) == policy.CauseRevoked:
			return nil, failure
		case failure != nil:
			err = failure
		}
	}
	if good != nil {
		return good, nil
	}
	return nil, err
}

func principal(trust *Trust, anchor Anchor, who claim, chain []*x509.Certificate) policy.Principal {
	leaf, until := chain[0], chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	sum := sha256.Sum256(leaf.Raw)
	return policy.Principal{
		Org: who.org, Incarnation: trust.Incarnation,
		Kind: who.kind, Type: who.typ, ID: who.id, App: who.app, Unnamed: who.unnamed,
		Verifier: Name, ExpiresAt: until,
		Credential: policy.CredentialID{ID: proofOf(chain).String(), Version: anchor.Version},
		Claims: map[string]any{
			"subject": clip(leaf.Subject.String()), "issuer": clip(leaf.Issuer.String()), "serial": Serial(leaf),
			"sha256": hex.EncodeToString(sum[:]), "san": sanOf(leaf),
		},
	}
}

// maxClaim is the longest text of a certificate that reaches a policy, in bytes.
const maxClaim = 1024

func clip(s string) string { return s[:min(len(s), maxClaim)] }

func sanOf(c *x509.Certificate) []any {
	san := []any{}
	for _, some := range [][]string{c.DNSNames, c.EmailAddresses} {
		for _, name := range some {
			if len(san) < maxNames {
				san = append(san, clip(name))
			}
		}
	}
	return san
}

func refuse(cause policy.Cause, err error) (policy.Principal, error) {
	return policy.Principal{}, &plugins.Refusal{Cause: cause, Err: err}
}
