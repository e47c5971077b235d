package certificate

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

const (
	// MaxList is the largest list of revoked certificates, in bytes of its DER form:
	// about 17 000 entries. It has to fit a value of the store.
	MaxList = 640 << 10
	// maxSerial is the longest serial number, in bits (RFC 5280, 4.1.2.2).
	maxSerial = 160
	// Skew is by how much the clock of an issuer may be ahead.
	Skew = 5 * time.Minute
)

// List is a list of revoked certificates (CRL) whose signature holds. It is
// immutable.
type List struct {
	Issuer                 string // see IssuerID
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time

	sum     [sha256.Size]byte
	revoked map[string]bool // by Serial
	// The part of the issuer's certificates that the list is about.
	points             []string // of these distribution points alone; none: all
	usersOnly, onlyCAs bool
}

// ParseList reads a list in PEM or DER and holds it against its issuer. Lists of
// changes, indirect ones and those of some reasons alone are refused: they do not say
// of a certificate that it stands. An error repeats nothing of data.
func ParseList(data []byte, issuer *x509.Certificate) (*List, error) {
	if len(data) > 2*MaxList {
		return nil, fmt.Errorf("must be at most %d bytes", MaxList)
	}
	der, err := derOf(data, "X509 CRL")
	if err != nil {
		return nil, err
	}
	if len(der) > MaxList {
		return nil, fmt.Errorf("must be at most %d bytes", MaxList)
	}
	rl, err := x509.ParseRevocationList(der)
	switch {
	case err != nil:
		return nil, errors.New("must be one X.509 CRL, in PEM or DER")
	case !bytes.Equal(rl.RawIssuer, issuer.RawSubject):
		return nil, errors.New("must be of this authority: it has another issuer")
	case !isStrong(rl.SignatureAlgorithm):
		return nil, errors.New("must be signed with SHA-256 or better")
	case rl.CheckSignatureFrom(issuer) != nil:
		return nil, errors.New("must be signed by this authority, whose key usage has to have cRLSign")
	case rl.NextUpdate.IsZero() || !rl.ThisUpdate.Before(rl.NextUpdate):
		return nil, errors.New("must say when the next one comes, after this one")
	}
	l := &List{
		Issuer: IssuerID(issuer), Number: rl.Number, ThisUpdate: rl.ThisUpdate, NextUpdate: rl.NextUpdate, sum: sha256.Sum256(der),
		revoked: make(map[string]bool, len(rl.RevokedCertificateEntries)),
	}
	if err := l.scope(rl.Extensions); err != nil {
		return nil, err
	}
	for i := range rl.RevokedCertificateEntries {
		entry := &rl.RevokedCertificateEntries[i]
		if slices.ContainsFunc(entry.Extensions, isUnknownCritical) {
			return nil, errors.New("must not have critical extensions that are not known here")
		}
		if entry.SerialNumber.BitLen() <= maxSerial { // no certificate with another is accepted
			l.revoked[entry.SerialNumber.Text(16)] = true
		}
	}
	return l, nil
}

func isUnknownCritical(e pkix.Extension) bool { return e.Critical }

// DERof is the DER form of a list that ParseList accepts.
func DERof(data []byte) ([]byte, error) { return derOf(data, "X509 CRL") }

// scope reads which certificates the list is about.
func (l *List) scope(extensions []pkix.Extension) error {
	for _, e := range extensions {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}):
			if err := l.distribution(e.Value); err != nil {
				return err
			}
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}):
			return errors.New("must be a whole list, not one of changes")
		case e.Critical:
			return errors.New("must not have critical extensions that are not known here")
		}
	}
	return nil
}

// issuingPoint is the extension of that name (RFC 5280, 5.2.5).
type issuingPoint struct {
	Point           asn1.RawValue  `asn1:"optional,tag:0"`
	UsersOnly       bool           `asn1:"optional,tag:1"`
	CAsOnly         bool           `asn1:"optional,tag:2"`
	SomeReasons     asn1.BitString `asn1:"optional,tag:3"`
	Indirect        bool           `asn1:"optional,tag:4"`
	AttributeIssued bool           `asn1:"optional,tag:5"`
}

func (l *List) distribution(value []byte) error {
	var p issuingPoint
	rest, err := asn1.Unmarshal(value, &p)
	if err != nil || len(rest) > 0 || p.Indirect || p.AttributeIssued || p.SomeReasons.BitLength > 0 {
		return errors.New("must be about all reasons, of certificates of its own issuer")
	}
	l.usersOnly, l.onlyCAs = p.UsersOnly, p.CAsOnly
	if len(p.Point.FullBytes) == 0 {
		return nil
	}
	// distributionPoint [0] { fullName [0] { uniformResourceIdentifier [6] … } }
	var names asn1.RawValue
	rest, err = asn1.Unmarshal(p.Point.Bytes, &names)
	if err != nil || len(rest) > 0 || names.Class != asn1.ClassContextSpecific || names.Tag != 0 {
		return errors.New("must name its distribution point by URLs")
	}
	for left := names.Bytes; len(left) > 0; {
		var name asn1.RawValue
		if left, err = asn1.Unmarshal(left, &name); err != nil {
			return errors.New("must name its distribution point by URLs")
		}
		if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
			l.points = append(l.points, string(name.Bytes))
		}
	}
	if len(l.points) == 0 {
		return errors.New("must name its distribution point by URLs")
	}
	return nil
}

// OnlyOne is the list that has one certificate on it. Nobody signed it, and it is
// about no other certificate.
func OnlyOne(s Step) *List {
	return &List{Issuer: s.Issuer, revoked: map[string]bool{s.Serial: true}}
}

// Len is the number of certificates on the list.
func (l *List) Len() int { return len(l.revoked) }

// Has reports whether a serial number, as [Serial] writes it, is on the list.
func (l *List) Has(serial string) bool { return l.revoked[serial] }

// Adds reports whether l has serial numbers that before, which may be nil, has not.
func (l *List) Adds(before *List) bool {
	for serial := range l.revoked {
		if before == nil || !before.revoked[serial] {
			return true
		}
	}
	return false
}

// Same reports whether l and other are the same list.
func (l *List) Same(other *List) bool { return l.sum == other.sum && l.Issuer == other.Issuer }

// Newer reports whether l came after before: a list cannot be replaced by one that
// its issuer had already replaced.
func (l *List) Newer(before *List) bool {
	if l.Number != nil && before.Number != nil {
		return l.Number.Cmp(before.Number) >= 0 && !l.ThisUpdate.Before(before.ThisUpdate)
	}
	return !l.ThisUpdate.Before(before.ThisUpdate)
}

// current reports whether l may be relied on at now.
func (l *List) current(now time.Time) bool {
	return !now.Before(l.ThisUpdate.Add(-Skew)) && now.Before(l.NextUpdate)
}

// covers reports whether l would have c if c were revoked.
func (l *List) covers(c *x509.Certificate) bool {
	switch {
	case l.usersOnly && c.IsCA, l.onlyCAs && !c.IsCA:
		return false
	case len(l.points) == 0:
		return true
	default:
		return slices.ContainsFunc(c.CRLDistributionPoints, func(p string) bool { return slices.Contains(l.points, p) })
	}
}

// Points are the addresses at which a certificate says that lists are found: http
// and https, at most four.
func Points(c *x509.Certificate) []string { return fetchable(c.CRLDistributionPoints) }

// Responders are the addresses of OCSP responders that a certificate names, in the
// same way.
func Responders(c *x509.Certificate) []string { return fetchable(c.OCSPServer) }

func fetchable(addresses []string) (some []string) {
	for _, address := range addresses {
		scheme, _, _ := strings.Cut(address, "://")
		if web := strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"); web && len(address) <= 1024 && len(some) < 4 {
			some = append(some, address)
		}
	}
	return some
}
