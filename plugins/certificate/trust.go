package certificate

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Trust is what an organisation trusts at one moment. It is immutable.
type Trust struct {
	Org         policy.OrgID
	Incarnation uint64
	// Lenient accepts a certificate of which nobody could say whether it was revoked.
	Lenient bool

	pool    *x509.CertPool
	anchors map[policy.ID]Anchor // by AuthorityID
	lists   map[string][]*Kept   // by issuer
}

// Anchor is the certificate of an authority that an organisation trusts.
type Anchor struct {
	Certificate *x509.Certificate
	Version     uint64 // of the credentials that it vouches for
}

// Kept is a list and where it came from.
type Kept struct {
	*List
	Signer    *x509.Certificate // whose signature it has
	Authority policy.ID         // of the organisation, that vouches for the signer
	Source    string            // the URL it was fetched from; empty: uploaded
	Loaded    time.Time
}

// named reports whether c leaves it to l to say: its issuer uploaded l, or c names
// where l is from, or nobody at all. The list of another place may be an older one.
func (l *Kept) named(c *x509.Certificate) bool {
	return l.Source == "" || len(c.CRLDistributionPoints) == 0 && len(c.OCSPServer) == 0 || slices.Contains(c.CRLDistributionPoints, l.Source)
}

// NewTrust keeps the slices' elements.
func NewTrust(org policy.OrgID, incarnation uint64, lenient bool, anchors []Anchor, lists []*Kept) *Trust {
	t := &Trust{
		Org: org, Incarnation: incarnation, Lenient: lenient,
		pool: x509.NewCertPool(), anchors: map[policy.ID]Anchor{}, lists: map[string][]*Kept{},
	}
	for _, a := range anchors {
		t.pool.AddCert(a.Certificate)
		t.anchors[AuthorityID(a.Certificate)] = a
	}
	for _, l := range lists {
		t.lists[l.Issuer] = append(t.lists[l.Issuer], l)
	}
	return t
}

// Lists are all that are kept, in no order. The caller may not change them.
func (t *Trust) Lists() (all []*Kept) {
	for _, some := range t.lists {
		all = append(all, some...)
	}
	return all
}

// Kept is the list of an issuer from a source, or nil.
func (t *Trust) Kept(issuer, source string) *Kept {
	for _, l := range t.lists[issuer] {
		if l.Source == source {
			return l
		}
	}
	return nil
}

// anchorOf is the authority with that certificate.
func (t *Trust) anchorOf(c *x509.Certificate) (Anchor, bool) {
	a, ok := t.anchors[AuthorityID(c)]
	return a, ok
}

// Has reports whether the authority is trusted.
func (t *Trust) Has(id policy.ID) bool { _, ok := t.anchors[id]; return ok }

// Version is that of the credentials an authority vouches for; 0 where it is not
// trusted.
func (t *Trust) Version(id policy.ID) uint64 { return t.anchors[id].Version }

// Heir is another authority than gone that is the same issuer.
func (t *Trust) Heir(issuer string, gone policy.ID) (heir policy.ID, ok bool) {
	for id, a := range t.anchors {
		if id != gone && IssuerID(a.Certificate) == issuer && (!ok || id < heir) {
			heir, ok = id, true
		}
	}
	return heir, ok
}

// Revokes reports whether a list that is kept, even one that is out of date, has a
// certificate of the chain.
func (t *Trust) Revokes(p Proof) bool {
	for _, step := range p.Path {
		for _, l := range t.lists[step.Issuer] {
			if l.Has(step.Serial) {
				return true
			}
		}
	}
	return false
}

// Answer is what lists say of a certificate.
type Answer uint8

// The closed set of answers.
const (
	// Silent: no list says anything that can be relied on.
	Silent Answer = iota
	// Good: a list that is in date is about the certificate, and does not have it.
	Good
	// Revoked: a list has it, in date or not.
	Revoked
	// Unlisted: nobody is to be asked, and no list is kept of the issuer.
	Unlisted
)

// Ask asks the lists about c, which issuer has signed.
func (t *Trust) Ask(c, issuer *x509.Certificate, now time.Time) Answer {
	id, serial := IssuerID(issuer), Serial(c)
	answer := Silent
	for _, l := range t.lists[id] {
		switch {
		case l.Has(serial):
			return Revoked
		case l.current(now) && l.covers(c) && l.named(c):
			answer = Good
		}
	}
	if answer == Silent && len(t.lists[id]) == 0 && len(c.CRLDistributionPoints) == 0 && len(c.OCSPServer) == 0 {
		return Unlisted
	}
	return answer
}
