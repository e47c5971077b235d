package registry

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// Refresh returns p as the registry knows it now, with roles, the groups that it
// reaches, metadata, expiry and Version, or a *plugins.Refusal when p does not stand any more:
// organisation or subject deleted, suspended, disabled, or another one of the
// same name; API key expired; token replaced and its grace over. Within the
// grace, ExpiresAt is its end.
//
// A principal of another verifier is completed with what the registry knows of
// its organisation and, if it is a device or gateway, of that, and is refused
// if one of them is switched off. A zero Incarnation or DeviceIncarnation has
// not been seen by the registry yet and is filled in.
func (r *Registry) Refresh(_ context.Context, p *policy.Principal) (policy.Principal, error) {
	now := r.now()
	h, err := r.find(p.Org)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseNoOrg}
	case err != nil:
		return policy.Principal{}, unavailable(err)
	case p.Incarnation != 0 && p.Incarnation != h.Record.Incarnation:
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseRevoked}
	case h.Record.Suspended:
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseDisabled}
	}
	fresh := *p
	fresh.Incarnation, fresh.Version = h.Record.Incarnation, h.Stamp
	ours := p.Verifier == VerifierName
	if ours {
		fresh.ExpiresAt = time.Time{}
	}
	err = r.refreshSubject(h, &fresh)
	if err == nil && ours {
		err = r.refreshCredential(h, &fresh, now)
	}
	if err == nil && p.Verifier == certificate.Name {
		err = r.refreshCertificate(h, &fresh)
	}
	if err == nil && p.Verifier == ClaimVerifierName {
		err = r.refreshClaim(h, &fresh, now)
	}
	if err == nil && p.And != nil {
		err = r.refreshSecond(h, &fresh)
	}
	if err != nil {
		return policy.Principal{}, refusal(err)
	}
	if fresh.Expired(now) {
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseExpired}
	}
	return fresh, nil
}

// Stands reports whether p's organisation and subject still exist and are not
// switched off, whatever has become of the credential that p was verified by.
func (r *Registry) Stands(_ context.Context, p *policy.Principal) (bool, error) {
	h, err := r.find(p.Org)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.Incarnation != 0 && p.Incarnation != h.Record.Incarnation {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	fresh := *p
	if err = r.refreshSubject(h, &fresh); err == nil {
		return true, nil
	}
	if refused := refusal(err); !errors.Is(refused, plugins.ErrUnavailable) {
		return false, nil
	}
	return false, unavailable(err)
}

// refreshSubject fills in what the records of p's subject say now. What another
// verifier knows, and no record, stands by its word.
func (r *Registry) refreshSubject(h home, p *policy.Principal) error {
	ours := p.Verifier == VerifierName
	switch {
	case p.Kind == policy.KindDevice || p.Kind == policy.KindGateway:
		return r.refreshDevice(h, p)
	case p.Kind == policy.KindApplication && ours:
		return r.refreshApplication(h, p)
	case p.Kind == policy.KindUser && ours:
		return r.refreshUser(h, p)
	default:
		return nil
	}
}

func (r *Registry) refreshDevice(h home, p *policy.Principal) error {
	found, err := recall[Device](r, deviceKey(h.scope, p.Type, p.ID))
	if errors.Is(err, store.ErrNotFound) && !p.Registered && p.Verifier != VerifierName {
		return nil // a verifier knows it; the registry never did
	}
	d := &found.Record
	switch {
	case err != nil:
		return err
	case p.DeviceIncarnation != 0 && p.DeviceIncarnation != d.Incarnation:
		return store.ErrNotFound // a namesake
	case d.Disabled:
		return &plugins.Refusal{Cause: policy.CauseDisabled}
	case p.Kind != d.kind():
		return &plugins.Refusal{Cause: policy.CauseClientID, Err: errors.New("registered as " + d.kind().String())}
	}
	p.DeviceIncarnation, p.Registered, p.Metadata = d.Incarnation, true, d.Metadata
	p.Version = max(p.Version, found.Stamp)
	if p.MemberOf, err = r.liveNames(h, p, d.Groups); err != nil {
		return err
	}
	p.Groups, p.Restricted = nil, false // which are a gateway's
	if d.ClassID != ClassGateway {
		return nil
	}
	p.Roles = d.Roles
	if err := r.permit(h, p); err != nil {
		return err
	}
	return r.reached(h, p, d.Reach, d.Reach.Restricted)
}

func (r *Registry) refreshApplication(h home, p *policy.Principal) error {
	found, err := recall[APIKey](r, apiKeyKey(h.scope, p.APIKey))
	switch {
	case err != nil:
		return err
	case found.Record.Disabled:
		return &plugins.Refusal{Cause: policy.CauseDisabled}
	}
	p.Registered, p.Roles, p.ExpiresAt = true, found.Record.Roles, found.Record.Expires
	p.Version = max(p.Version, found.Stamp)
	if err := r.permit(h, p); err != nil {
		return err
	}
	reach := found.Record.Reach
	return r.reached(h, p, reach, reach.Restricted && !h.Record.KeysReachAll)
}

func (r *Registry) refreshUser(h home, p *policy.Principal) error {
	found, err := recall[User](r, userKey(h.scope, p.ID))
	switch {
	case err != nil:
		return err
	case found.Record.Disabled:
		return &plugins.Refusal{Cause: policy.CauseDisabled}
	}
	p.Registered, p.Roles = true, found.Record.Roles
	p.Version = max(p.Version, found.Stamp)
	return r.permit(h, p)
}

// refreshCredential holds the version that p was verified by against what is
// stored now.
func (r *Registry) refreshCredential(h home, p *policy.Principal, now time.Time) error {
	found, err := recall[credential](r, credentialID(p.Credential.ID).key(h.scope))
	if err != nil {
		return err
	}
	c := &found.Record
	switch {
	case p.Credential.Version == c.Current.Version:
	case c.graceAt(now) && p.Credential.Version == c.Previous.Version:
		if p.ExpiresAt.IsZero() || c.Previous.Until.Before(p.ExpiresAt) {
			p.ExpiresAt = c.Previous.Until
		}
	default:
		return &plugins.Refusal{Cause: policy.CauseRevoked}
	}
	p.Version = max(p.Version, found.Stamp)
	return nil
}

// refreshSecond holds p's second proof against what is stored now.
func (r *Registry) refreshSecond(h home, p *policy.Principal) error {
	if p.And.Verifier != certificate.Name {
		return &plugins.Refusal{Cause: policy.CauseUnavailable, Err: errors.New("a second proof of another kind than a certificate")}
	}
	second := *p
	second.Credential = p.And.Credential
	if end := p.And.ExpiresAt; p.ExpiresAt.IsZero() || !end.IsZero() && end.Before(p.ExpiresAt) {
		p.ExpiresAt = end
	}
	return r.refreshCertificate(h, &second)
}

// refusal makes err one: what is not there any more was good until now.
func refusal(err error) error {
	if known, ok := errors.AsType[*plugins.Refusal](err); ok {
		return known
	}
	if errors.Is(err, store.ErrNotFound) {
		return &plugins.Refusal{Cause: policy.CauseRevoked}
	}
	return unavailable(err)
}
