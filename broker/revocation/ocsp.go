package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

const (
	maxAnswers    = 16_384 // OCSP answers that are remembered
	maxAnswersOrg = 4_096  // of one organisation
	answerMost    = time.Hour
	answerUnsaid  = 5 * time.Minute // where the responder does not say how long
)

// answer is what a responder said of a certificate.
type answer struct {
	revoked   bool
	from, end time.Time // when it was given, and until when it counts
	c, issuer *x509.Certificate
}

// answers remembers them, bounded.
type answers struct {
	guarded struct {
		sync.Mutex
		known map[question]*answer
		orgs  map[policy.OrgID]int
	}
}

func newAnswers() *answers {
	a := &answers{}
	a.guarded.known = map[question]*answer{}
	a.guarded.orgs = map[policy.OrgID]int{}
	return a
}

// get returns an answer that counts at now. What was revoked stays so.
func (a *answers) get(q question, now time.Time) (revoked, ok bool) {
	a.guarded.Lock()
	defer a.guarded.Unlock()
	found := a.guarded.known[q]
	if found == nil || !found.revoked && !now.Before(found.end) {
		return false, false
	}
	return found.revoked, true
}

func (a *answers) put(q question, fresh *answer) {
	a.guarded.Lock()
	defer a.guarded.Unlock()
	if _, ok := a.guarded.known[q]; ok {
		a.dropLocked(q)
	}
	for old := range a.guarded.known {
		over := len(a.guarded.known) >= maxAnswers
		if !over && a.guarded.orgs[q.org] < maxAnswersOrg {
			break
		}
		if over || old.org == q.org {
			a.dropLocked(old)
		}
	}
	a.guarded.known[q] = fresh
	a.guarded.orgs[q.org]++
}

func (a *answers) dropLocked(q question) {
	delete(a.guarded.known, q)
	if a.guarded.orgs[q.org]--; a.guarded.orgs[q.org] == 0 {
		delete(a.guarded.orgs, q.org)
	}
}

// due are the answers that should be asked for again at now, for as long as the
// certificate lasts: a connection may have been opened by it.
func (a *answers) due(now time.Time) map[question]answer {
	a.guarded.Lock()
	defer a.guarded.Unlock()
	list := map[question]answer{}
	for q, found := range a.guarded.known {
		switch {
		case !now.Before(found.c.NotAfter):
			a.dropLocked(q)
		case !now.Before(found.from.Add(jitter(found.end.Sub(found.from)/2, q.about))):
			list[q] = *found
		}
	}
	return list
}

// askResponders asks those that the certificate names, or fails with errSilent.
func (k *Keeper) askResponders(ctx context.Context, s *subject) error {
	err := errSilent
	ctx, cancel := context.WithTimeout(ctx, responderTime)
	defer cancel()
	for _, address := range certificate.Responders(s.c) {
		q := question{s.trust.Org, s.trust.Incarnation, address, certificate.IssuerID(s.issuer) + ":" + certificate.Serial(s.c)}
		revoked, known := k.answers.get(q, k.cfg.Now())
		if !known {
			failure := k.once(ctx, q, func(ctx context.Context) error { return k.askResponder(ctx, q, s.c, s.issuer) })
			if failure != nil {
				err = failure
				continue
			}
			if revoked, known = k.answers.get(q, k.cfg.Now()); !known {
				continue
			}
		}
		if revoked {
			return errRevoked
		}
		return nil
	}
	return err
}

// askResponder asks one and remembers what it says.
func (k *Keeper) askResponder(ctx context.Context, q question, c, issuer *x509.Certificate) error {
	request, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		return err
	}
	data, err := k.fetcher.post(ctx, q.address, request)
	if err != nil {
		return err
	}
	fresh, err := readAnswer(data, c, issuer, k.cfg.Now())
	if err != nil {
		return err
	}
	k.answers.put(q, fresh)
	if !fresh.revoked {
		return nil
	}
	return k.cfg.Registry.TellRevoked(ctx, q.org, q.incarnation, certificate.Step{Issuer: certificate.IssuerID(issuer), Serial: certificate.Serial(c)})
}

// readAnswer holds an answer against the certificate and its issuer.
func readAnswer(data []byte, c, issuer *x509.Certificate, now time.Time) (*answer, error) {
	said, err := ocsp.ParseResponseForCert(data, c, issuer)
	if err != nil {
		return nil, fmt.Errorf("not an OCSP answer about the certificate: %w", err)
	}
	switch {
	case said.SignatureAlgorithm == x509.SHA1WithRSA || said.SignatureAlgorithm == x509.ECDSAWithSHA1 || said.SignatureAlgorithm == x509.MD5WithRSA:
		return nil, errors.New("an OCSP answer signed with SHA-1")
	case said.Certificate != nil && !said.Certificate.Equal(issuer) && !slices.Contains(said.Certificate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return nil, errors.New("an OCSP answer of somebody whom the issuer did not appoint for it")
	case said.Certificate != nil && (now.Before(said.Certificate.NotBefore) || !now.Before(said.Certificate.NotAfter)):
		return nil, errors.New("an OCSP answer whose signer has expired")
	case now.Add(certificate.Skew).Before(said.ThisUpdate):
		return nil, errors.New("an OCSP answer of tomorrow")
	}
	end := now.Add(answerUnsaid)
	if !said.NextUpdate.IsZero() {
		end = now.Add(answerMost)
		if said.NextUpdate.Before(end) {
			end = said.NextUpdate
		}
	} else if said.ThisUpdate.Before(now.Add(-answerMost)) {
		return nil, errors.New("an OCSP answer that is too old")
	}
	if !now.Before(end) {
		return nil, errors.New("an OCSP answer that is out of date")
	}
	switch said.Status {
	case ocsp.Good:
		return &answer{from: now, end: end, c: c, issuer: issuer}, nil
	case ocsp.Revoked:
		return &answer{revoked: true, from: now, end: end, c: c, issuer: issuer}, nil
	default:
		return nil, errors.New("the OCSP responder does not know the certificate")
	}
}
