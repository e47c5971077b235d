package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

const (
	connectTime   = 5 * time.Second  // all that a connect waits
	responderTime = 2 * time.Second  // of it, for OCSP
	fetchTime     = 10 * time.Second // one question
	failurePause  = 30 * time.Second // after an address failed

	maxAsking    = 32     // questions at one time
	maxAskingOrg = 4      // of one organisation
	maxFailures  = 10_000 // addresses that are remembered to have failed
)

// Registry keeps what is fetched.
type Registry interface {
	certificate.Authorities
	// KeepList stores a list and tells whoever is concerned.
	KeepList(ctx context.Context, org policy.OrgID, incarnation uint64, authority policy.ID, signer []byte, source string, data []byte) error
	// TellRevoked tells whoever is concerned that one certificate is revoked.
	TellRevoked(ctx context.Context, org policy.OrgID, incarnation uint64, step certificate.Step) error
}

// Config of a Keeper.
type Config struct {
	Registry Registry
	// Private permits addresses that are not of the public internet.
	Private bool
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: nothing is logged
}

// Keeper is a certificate.Revocation. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	fetcher *fetcher
	answers *answers

	ctx    context.Context // of every question
	stop   context.CancelFunc
	work   sync.WaitGroup
	asking struct {
		sync.Mutex
		closed bool
		calls  map[question]*call
		orgs   map[policy.OrgID]int
		failed map[question]time.Time // and until when that counts
		lists  map[question]time.Time // and when it was fetched last
	}
}

var _ certificate.Revocation = (*Keeper)(nil)

// New makes a Keeper. Close ends it.
func New(cfg Config) *Keeper {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{cfg: cfg, fetcher: newFetcher(cfg.Private), answers: newAnswers()}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.asking.calls = map[question]*call{}
	k.asking.orgs = map[policy.OrgID]int{}
	k.asking.failed = map[question]time.Time{}
	k.asking.lists = map[question]time.Time{}
	return k
}

// Close gives up every question and waits for all of them.
func (k *Keeper) Close() {
	k.asking.Lock()
	k.asking.closed = true
	k.asking.Unlock()
	k.stop()
	k.work.Wait()
	k.fetcher.close()
}

// Check says whether the certificates of chain below the authority stand; the
// package comment says how.
func (k *Keeper) Check(ctx context.Context, trust *certificate.Trust, chain []*x509.Certificate) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	authority := certificate.AuthorityID(chain[len(chain)-1])
	var silent error
	for i, c := range chain[:len(chain)-1] {
		s := &subject{trust: trust, authority: authority, c: c, issuer: chain[i+1]}
		switch err := k.ask(ctx, s); {
		case errors.Is(err, errRevoked):
			return &plugins.Refusal{Cause: policy.CauseRevoked, Err: err}
		case err != nil && silent == nil:
			silent = &plugins.Refusal{Cause: policy.CauseRevocation, Err: err}
		}
	}
	if trust.Lenient {
		return nil
	}
	return silent
}

// subject is a certificate that is asked about.
type subject struct {
	trust     *certificate.Trust
	authority policy.ID
	c, issuer *x509.Certificate
}

var (
	errRevoked = errors.New("the certificate was revoked")
	errSilent  = errors.New("nobody says whether the certificate was revoked")
)

// ask is nil for a certificate that stands.
func (k *Keeper) ask(ctx context.Context, s *subject) error {
	listed := s.trust.Ask(s.c, s.issuer, k.cfg.Now())
	switch listed {
	case certificate.Revoked:
		return errRevoked
	case certificate.Unlisted:
		return nil
	case certificate.Good, certificate.Silent:
	}
	err := k.askResponders(ctx, s)
	if err == nil || errors.Is(err, errRevoked) {
		return err
	}
	if listed == certificate.Good {
		return nil
	}
	for _, source := range certificate.Points(s.c) {
		failure := k.once(ctx, listQuestion(s.trust, certificate.IssuerID(s.issuer), source), func(ctx context.Context) error {
			return k.fetchList(ctx, s.trust, s.authority, s.issuer, source)
		})
		if failure != nil {
			err = failure
			continue
		}
		fresh, failure := k.cfg.Registry.CertificateTrust(ctx, s.trust.Org)
		if failure != nil || fresh == nil {
			err = errors.Join(failure, errSilent)
			break
		}
		switch fresh.Ask(s.c, s.issuer, k.cfg.Now()) {
		case certificate.Good:
			return nil
		case certificate.Revoked:
			return errRevoked
		case certificate.Silent, certificate.Unlisted:
			err = errSilent
		}
	}
	return err
}

// fetchList gets the list of an issuer from source and has it kept.
func (k *Keeper) fetchList(ctx context.Context, trust *certificate.Trust, authority policy.ID, issuer *x509.Certificate, source string) error {
	data, err := k.fetcher.get(ctx, source)
	if err != nil {
		return err
	}
	if err := k.cfg.Registry.KeepList(ctx, trust.Org, trust.Incarnation, authority, issuer.Raw, source, data); err != nil {
		return err
	}
	k.fetchedAt(listQuestion(trust, certificate.IssuerID(issuer), source), k.cfg.Now())
	return nil
}

func listQuestion(trust *certificate.Trust, issuer, source string) question {
	return question{trust.Org, trust.Incarnation, source, issuer}
}
