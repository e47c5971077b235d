package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of what an organisation's host names show.
const (
	maxServerNames = 20
	maxServerName  = 253 // bytes, as DNS has it
	maxChain       = 5
	maxChainBytes  = 16 << 10 // a small client takes no more
	maxSealed      = 8 << 10
)

// ServerCertificate is what an organisation's own host names show. Whoever stores it
// has checked the chain and sealed the keys: the registry cannot read them.
type ServerCertificate struct {
	Chain    [][]byte  `json:"chain,omitempty"`   // DER, the server's own first; empty: none yet
	Key      []byte    `json:"key,omitempty"`     // of Chain, sealed; empty after an import
	Pending  []byte    `json:"pending,omitempty"` // of the last request for a certificate, sealed
	Uploaded time.Time `json:"uploaded,omitzero"` // of Chain; set by the registry
}

func serverCertificateKey(s store.Scope) store.Key { return s.Key(store.KindServerCertificate) }

// ServerCertificate returns that of the organisation, and the organisation's
// incarnation. The error is policy.KindNotFound where it has none.
func (r *Registry) ServerCertificate(_ context.Context, org policy.OrgID) (ServerCertificate, uint64, error) {
	const op = "read server certificate"
	h, err := r.homeOf(org)
	if err != nil {
		return ServerCertificate{}, 0, at(op, err)
	}
	found, err := load[ServerCertificate](r.store, serverCertificateKey(h.scope))
	return found.Record, h.Record.Incarnation, at(op, missing(err, "server certificate"))
}

// EditServerCertificate lets edit change the organisation's, the zero one where it has
// none. It is told the organisation as it is, and an error of it changes nothing.
func (r *Registry) EditServerCertificate(ctx context.Context, org policy.OrgID, edit func(*Organisation, *ServerCertificate) error) (ServerCertificate, error) {
	var made ServerCertificate
	err := r.write(ctx, "store server certificate", removal, func(w *writing) error {
		scope, owner, err := r.loadOrganisation(org)
		if err != nil {
			return err
		}
		found, err := load[ServerCertificate](r.store, serverCertificateKey(scope))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		before := found.Record
		after := before
		if err := edit(&owner.Organisation, &after); err != nil {
			return err
		}
		changed := !slices.EqualFunc(before.Chain, after.Chain, slices.Equal) || !slices.Equal(before.Key, after.Key)
		if changed {
			after.Uploaded = w.now
		}
		if err := after.check(); err != nil {
			return err
		}
		if made, err = put(w, serverCertificateKey(scope), after); err != nil {
			return err
		}
		if changed {
			w.tell(Change{Kind: ServerCertificateChanged, Org: org, Incarnation: owner.Incarnation})
		}
		return nil
	})
	return made, err
}

// DeleteServerCertificate forgets the organisation's certificate and its keys, that of
// a request too. Where there is nothing, the error is policy.KindNotFound.
func (r *Registry) DeleteServerCertificate(ctx context.Context, org policy.OrgID) error {
	return r.write(ctx, "delete server certificate", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := r.store.Get(serverCertificateKey(h.scope)); err != nil {
			return missing(err, "server certificate")
		}
		w.delete(serverCertificateKey(h.scope))
		w.tell(Change{Kind: ServerCertificateChanged, Org: org, Incarnation: h.Record.Incarnation})
		return nil
	})
}

func (o *ServerCertificate) check() error {
	total := 0
	for _, der := range o.Chain {
		total += len(der)
		if _, err := x509.ParseCertificate(der); err != nil {
			return invalid("certificate", "must be certificates")
		}
	}
	switch {
	case len(o.Chain) > maxChain || total > maxChainBytes:
		return invalid("certificate", "must be at most "+strconv.Itoa(maxChain)+" certificates of 16 KiB together")
	case len(o.Key) > maxSealed || len(o.Pending) > maxSealed:
		return invalid("privateKey", "is too long")
	case len(o.Chain) == 0 && len(o.Key) > 0:
		return invalid("privateKey", "must come with a certificate")
	}
	return nil
}

// SetServerNames says which host names, beside those of the platform, the organisation
// may show certificates for. They are exact names in lower case. The error is
// policy.KindConflict where another organisation has one of them.
func (r *Registry) SetServerNames(ctx context.Context, org policy.OrgID, names []string) (Organisation, error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var made Organisation
	err := r.write(ctx, "set server names", removal, func(w *writing) error {
		scope, found, err := r.loadOrganisation(org)
		if err != nil {
			return err
		}
		if len(names) > maxServerNames {
			return invalid("names", "must be at most "+strconv.Itoa(maxServerNames))
		}
		for _, name := range names {
			if name == "" || len(name) > maxServerName {
				return invalid("names", "must be host names")
			}
		}
		if err := r.unclaimed(ctx, org, names); err != nil {
			return err
		}
		found.ServerNames, found.Updated = names, w.now
		stored, err := put(w, organisationKey(scope), found)
		if err != nil {
			return err
		}
		made = stored.Organisation
		w.tell(Change{Kind: OrganisationChanged, Org: org, Incarnation: found.Incarnation})
		return nil
	})
	return made, err
}

// unclaimed looks through all organisations; the operator can wait.
func (r *Registry) unclaimed(ctx context.Context, org policy.OrgID, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for page := (Page{Limit: maxPage}); ; {
		list, next, err := r.Organisations(ctx, page)
		if err != nil {
			return err
		}
		for _, o := range list {
			for _, name := range names {
				if o.ID != org && slices.Contains(o.ServerNames, name) {
					return &policy.Error{Kind: policy.KindConflict, Field: "names", Public: "another organisation has one of these names"}
				}
			}
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

// bareServerCertificate leaves the keys out: they are sealed for one installation, and
// no secret of a file that people hand around.
func bareServerCertificate(o *ServerCertificate) { o.Key, o.Pending = nil, nil }

func takeServerCertificate(_ *staging, l *exportLine) (placed, error) {
	o, err := taken[ServerCertificate](l)
	if err != nil {
		return placed{}, err
	}
	if len(o.Key) > 0 || len(o.Pending) > 0 {
		return placed{}, invalid("key", "must not be in a file")
	}
	if err := o.check(); err != nil {
		return placed{}, err
	}
	if !o.Uploaded.IsZero() {
		if err := checkMoments(&o.Uploaded); err != nil {
			return placed{}, err
		}
	}
	return placed{nil, saved(o)}, nil
}

func adoptServerCertificate(w *writing, s *staging, h home, _ []string) (bool, error) {
	key := serverCertificateKey(h.scope)
	o, isNew, err := staged[ServerCertificate](w, s, key, serverCertificateKey(s.scope))
	if err != nil || !isNew {
		return false, err
	}
	w.tell(Change{Kind: ServerCertificateChanged, Org: h.Record.ID, Incarnation: h.Record.Incarnation})
	return true, save(w, key, o)
}
