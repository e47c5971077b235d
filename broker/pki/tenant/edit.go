package tenant

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Certificate is what can be said of an organisation's server certificate. It has no
// private key.
type Certificate struct {
	PEM                     string   // the chain, the server's own first
	Names, Shown            []string // of the certificate, and those that it is shown for
	Subject, Issuer, Serial string
	NotBefore, NotAfter     time.Time
	Uploaded                time.Time
	HasKey                  bool // false after an import: exports leave keys out
	Requested               bool // a request waits for its certificate
}

// ServerCertificate is the organisation's, or policy.KindNotFound where it has none.
func (k *Keeper) ServerCertificate(ctx context.Context, org policy.OrgID) (Certificate, error) {
	stored, _, err := k.cfg.Registry.ServerCertificate(ctx, org)
	if err != nil {
		return Certificate{}, err
	}
	if len(stored.Chain) == 0 { // only a request
		return Certificate{}, &policy.Error{Kind: policy.KindNotFound, Public: "no such server certificate"}
	}
	return k.show(org, &stored)
}

func (k *Keeper) show(org policy.OrgID, stored *registry.ServerCertificate) (Certificate, error) {
	chain, err := pki.ChainOf(stored.Chain)
	if err != nil {
		return Certificate{}, err
	}
	var text strings.Builder
	for _, der := range stored.Chain {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return Certificate{}, err
		}
	}
	k.guarded.Lock()
	shown := slices.Clone(k.guarded.held[org].names)
	k.guarded.Unlock()
	leaf := chain.Leaf
	return Certificate{
		PEM: text.String(), Names: chain.Names, Shown: shown,
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: fmt.Sprintf("%x", leaf.SerialNumber),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Uploaded: stored.Uploaded,
		HasKey: len(stored.Key) > 0, Requested: len(stored.Pending) > 0,
	}, nil
}

// ReplaceServerCertificate stores and shows a PEM chain. private is its key in PEM;
// empty: the key is that of the last request, or the one in use. The error is
// policy.KindInvalid for what does not hold; see pki.ParseChain for what does.
func (k *Keeper) ReplaceServerCertificate(ctx context.Context, org policy.OrgID, certificate, private []byte) (Certificate, error) {
	chain, err := pki.ParseChain(certificate, k.cfg.Now())
	if err != nil {
		return Certificate{}, invalid("certificate", err.Error())
	}
	var key []byte
	if len(private) > 0 {
		if key, err = pki.ParsePrivate(private); err != nil {
			return Certificate{}, invalid("privateKey", err.Error())
		}
		if !chain.Belongs(key) {
			return Certificate{}, invalid("privateKey", "must be the one of the certificate")
		}
	}
	stored, err := k.cfg.Registry.EditServerCertificate(ctx, org, func(o *registry.Organisation, s *registry.ServerCertificate) error {
		if err := k.checkNames(o, chain.Names); err != nil {
			return err
		}
		s.Chain = chain.DER
		if key != nil {
			s.Key = k.cfg.Seal.Seal(key, place(org, o.Incarnation))
			return nil
		}
		for _, sealed := range [][]byte{s.Pending, s.Key} {
			known, err := k.cfg.Seal.Open(sealed, place(org, o.Incarnation))
			if err != nil || !chain.Belongs(known) {
				continue
			}
			if bytes.Equal(sealed, s.Pending) {
				s.Pending = nil
			}
			s.Key = sealed
			return nil
		}
		return invalid("certificate", "must be for the key of the last request, or come with its privateKey")
	})
	if err != nil {
		return Certificate{}, err
	}
	k.cfg.Log.Info("server certificate of organisation uploaded", "org", org.String(), "serial", fmt.Sprintf("%x", chain.Leaf.SerialNumber),
		"names", strings.Join(chain.Names, ","), "not_after", chain.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return k.show(org, &stored)
}

func (k *Keeper) checkNames(o *registry.Organisation, names []string) error {
	allowed := k.allowed(o)
	for _, name := range names {
		if !slices.Contains(allowed, name) {
			return invalid("certificate", fmt.Sprintf("must be for %s alone: %q is none of them", strings.Join(allowed, ", "), name))
		}
	}
	return nil
}

// DeleteServerCertificate forgets the certificate and its key, and that of a request.
func (k *Keeper) DeleteServerCertificate(ctx context.Context, org policy.OrgID) error {
	return k.cfg.Registry.DeleteServerCertificate(ctx, org)
}

// RequestServerCertificate makes a certificate request in PEM for names of the
// organisation; none: for all that it may show. Its key is made here and never
// leaves. Until the certificate comes, each request is for the same key, so that none
// makes an earlier one useless.
func (k *Keeper) RequestServerCertificate(ctx context.Context, org policy.OrgID, names []string) ([]byte, error) {
	fresh, err := pki.NewPrivate()
	if err != nil {
		return nil, err
	}
	var request []byte
	_, err = k.cfg.Registry.EditServerCertificate(ctx, org, func(o *registry.Organisation, s *registry.ServerCertificate) error {
		names = slices.Clone(names)
		for i := range names {
			names[i] = strings.ToLower(strings.TrimSuffix(names[i], "."))
		}
		if len(names) == 0 {
			names = k.allowed(o)
		}
		if len(names) == 0 {
			return errors.New("no name is the organisation's own")
		}
		allowed := k.allowed(o)
		for _, name := range names {
			if !slices.Contains(allowed, name) {
				return invalid("names", "must be of "+strings.Join(allowed, ", "))
			}
		}
		private, err := k.cfg.Seal.Open(s.Pending, place(org, o.Incarnation))
		if err != nil { // there is none, or it is of another seal
			private = fresh
			s.Pending = k.cfg.Seal.Seal(fresh, place(org, o.Incarnation))
		}
		request, err = pki.Request(private, names)
		return err
	})
	return request, err
}
