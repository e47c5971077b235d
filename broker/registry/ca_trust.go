package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// parsedAuthority is a record with its certificate.
type parsedAuthority struct {
	certificate *x509.Certificate
	record      *authorityRecord
}

func (p *parsedAuthority) show() Authority {
	c := p.certificate
	return Authority{
		ID: certificate.AuthorityID(c), Comments: p.record.Comments, Certificate: c.Raw,
		Subject: clipText(c.Subject.String()), Issuer: clipText(c.Issuer.String()), Serial: certificate.Serial(c),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Created: p.record.Created,
	}
}

// listRecord is what is stored of a list of revoked certificates.
type listRecord struct {
	Authority policy.ID `json:"authority"` // it goes with this one
	Signer    []byte    `json:"signer"`    // certificate of who signed it, DER
	Source    string    `json:"source,omitempty"`
	DER       []byte    `json:"der"`
	Loaded    time.Time `json:"loaded"`

	signer *x509.Certificate
	parsed *certificate.List
}

// listKey is where the list of an issuer from a source is. A URL is too long to be a
// part of an identifier.
func listKey(s store.Scope, issuer, source string) store.Key {
	return s.Key(store.KindRevocationList, issuer, sourceMark(source))
}

func sourceMark(source string) string {
	if source == "" {
		return "uploaded"
	}
	sum := sha256.Sum256([]byte(source))
	return hex.EncodeToString(sum[:16])
}

// parse holds the list against who signed it.
func (l *listRecord) parse() error {
	if len(l.Signer) > certificate.MaxAuthority {
		return errors.New("must be signed by a certificate of at most 64 KiB")
	}
	signer, err := x509.ParseCertificate(l.Signer)
	if err != nil {
		return errors.New("must name who signed it")
	}
	parsed, err := certificate.ParseList(l.DER, signer)
	l.signer, l.parsed = signer, parsed
	return err
}

func (l *listRecord) state() ListState {
	state := ListState{Source: l.Source, Loaded: l.Loaded}
	if l.parsed == nil && l.parse() != nil {
		return state // it answers nothing
	}
	if l.parsed.Number != nil {
		state.Number = l.parsed.Number.String()
	}
	state.Issuer, state.Entries = clipText(l.signer.Subject.String()), l.parsed.Len()
	state.ThisUpdate, state.NextUpdate = l.parsed.ThisUpdate, l.parsed.NextUpdate
	return state
}

// trusts remembers what organisations trust, since a list takes long to read. What it
// returns is shared. See cache, which forgets in the same way.
type trusts struct {
	guarded struct {
		sync.RWMutex
		writes uint64
		found  map[store.Scope]rememberedTrust
		cost   int // bytes, the sum of theirs
	}
}

type rememberedTrust struct {
	trust *certificate.Trust // nil: the organisation has no authorities
	cost  int
}

const (
	// trustsMost is what all may cost, in bytes.
	trustsMost = 128 << 20
	// A parsed list takes a few times its DER form.
	trustEntry, trustFactor = 256, 4
)

// forget ends a write that touched the keys of ops.
func (t *trusts) forget(ops []store.Op) {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	t.guarded.writes++
	for _, op := range ops {
		switch op.Key().Kind() {
		case store.KindAuthority, store.KindRevocationList, store.KindOrganisation:
			t.dropLocked(op.Key().Scope())
		default:
		}
	}
}

func (t *trusts) dropLocked(scope store.Scope) {
	t.guarded.cost -= t.guarded.found[scope].cost
	delete(t.guarded.found, scope)
}

func (t *trusts) get(scope store.Scope) (trust *certificate.Trust, ok bool, writes uint64) {
	t.guarded.RLock()
	defer t.guarded.RUnlock()
	known, ok := t.guarded.found[scope]
	return known.trust, ok, t.guarded.writes
}

// remember keeps what was read after that many writes had ended, unless another one
// has ended since.
func (t *trusts) remember(scope store.Scope, fresh rememberedTrust, writes uint64) {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if t.guarded.writes != writes {
		return
	}
	if t.guarded.found == nil {
		t.guarded.found = map[store.Scope]rememberedTrust{}
	}
	for old := range t.guarded.found {
		if t.guarded.cost+fresh.cost <= trustsMost {
			break
		}
		t.dropLocked(old)
	}
	t.dropLocked(scope)
	t.guarded.found[scope] = fresh
	t.guarded.cost += fresh.cost
}

// CertificateTrust is what the organisation trusts, or nil where it has no
// authorities or there is no such organisation. It is shared.
func (r *Registry) CertificateTrust(_ context.Context, org policy.OrgID) (*certificate.Trust, error) {
	h, err := r.find(org)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.trustOf(h)
}

var _ certificate.Authorities = (*Registry)(nil)

// trustOf is CertificateTrust of an organisation that was found.
func (r *Registry) trustOf(h home) (*certificate.Trust, error) {
	known, ok, writes := r.trusts.get(h.scope)
	if ok {
		return known, nil
	}
	authorities, _, err := list[authorityRecord](r.store, h.scope, store.KindAuthority, nil, 1, Page{Limit: maxPage})
	if err != nil {
		return nil, err
	}
	fresh := rememberedTrust{cost: trustEntry}
	if len(authorities) == 0 {
		r.trusts.remember(h.scope, fresh, writes)
		return nil, nil
	}
	var anchors []certificate.Anchor
	for i := range authorities {
		p, err := authorities[i].Record.parse()
		if err != nil {
			return nil, fmt.Errorf("certificate authority %s: %w", authorities[i].parts[0], err)
		}
		anchors = append(anchors, certificate.Anchor{Certificate: p.certificate, Version: authorities[i].Stamp})
		fresh.cost += trustFactor * len(p.record.Certificate)
	}
	lists, _, err := list[listRecord](r.store, h.scope, store.KindRevocationList, nil, 2, Page{Limit: maxPage})
	if err != nil {
		return nil, err
	}
	var kept []*certificate.Kept
	for i := range lists {
		l := &lists[i].Record
		if err := l.parse(); err != nil {
			return nil, fmt.Errorf("list of revoked certificates %s: %w", lists[i].parts[0], err)
		}
		kept = append(kept, &certificate.Kept{
			List: l.parsed, Signer: l.signer, Authority: l.Authority, Source: l.Source, Loaded: l.Loaded,
		})
		fresh.cost += trustFactor * len(l.DER)
	}
	o, err := recall[organisationRecord](r, organisationKey(h.scope))
	if err != nil {
		return nil, err
	}
	fresh.trust = certificate.NewTrust(h.Record.ID, h.Record.Incarnation, o.Record.Revocation == RevocationLenient, anchors, kept)
	r.trusts.remember(h.scope, fresh, writes)
	return fresh.trust, nil
}

// refreshCertificate holds the chain that p was verified by against what its
// organisation trusts now, and against every list that is kept.
func (r *Registry) refreshCertificate(h home, p *policy.Principal) error {
	trust, err := r.trustOf(h)
	if err != nil {
		return err
	}
	proof, ok := certificate.ParseProof(p.Credential.ID)
	if !ok || trust == nil || trust.Version(proof.Authority) != p.Credential.Version || trust.Revokes(proof) {
		return &plugins.Refusal{Cause: policy.CauseRevoked}
	}
	return nil
}
