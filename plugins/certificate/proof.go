package certificate

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"github.com/cordon-mq/cordon/policy"
)

// Proof is a verified chain as the identifier of a credential:
//
//	certificate/{authority}/{leaf}/{issuer}:{serial},{issuer}:{serial},…
//
// with one pair for each certificate below the authority, the leaf first.
type Proof struct {
	Authority policy.ID // see AuthorityID
	Leaf      string    // half of the SHA-256 of the leaf, in lower-case hex
	Path      []Step
}

// Step is one certificate of a chain as its issuer knows it.
type Step struct {
	Issuer string // see IssuerID
	Serial string // see Serial
}

// proofOf is the proof of a chain that ends in its authority.
func proofOf(chain []*x509.Certificate) Proof {
	sum := sha256.Sum256(chain[0].Raw)
	p := Proof{Authority: AuthorityID(chain[len(chain)-1]), Leaf: hex.EncodeToString(sum[:16])}
	for i, c := range chain[:len(chain)-1] {
		p.Path = append(p.Path, Step{IssuerID(chain[i+1]), Serial(c)})
	}
	return p
}

func (p Proof) String() string {
	steps := make([]string, len(p.Path))
	for i, step := range p.Path {
		steps[i] = step.Issuer + ":" + step.Serial
	}
	return Name + "/" + string(p.Authority) + "/" + p.Leaf + "/" + strings.Join(steps, ",")
}

// ParseProof reads what [Proof.String] wrote; false for any other credential.
func ParseProof(id string) (Proof, bool) {
	parts := strings.Split(id, "/")
	if len(parts) != 4 || parts[0] != Name {
		return Proof{}, false
	}
	p := Proof{Authority: policy.ID(parts[1]), Leaf: parts[2]}
	for step := range strings.SplitSeq(parts[3], ",") {
		issuer, serial, ok := strings.Cut(step, ":")
		if !ok {
			return Proof{}, false
		}
		p.Path = append(p.Path, Step{issuer, serial})
	}
	return p, true
}

// On reports whether a certificate of the chain is on the list.
func (p Proof) On(l *List) bool {
	for _, step := range p.Path {
		if step.Issuer == l.Issuer && l.Has(step.Serial) {
			return true
		}
	}
	return false
}
