package registry

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// Connection levels: what a connection has to bring. LevelTLS is what an organisation
// has that chose none: TLS, and a token or a certificate.
const (
	LevelTLS         = "tls"
	LevelTLSOptional = "tls_optional"              // a token, also without TLS
	LevelToken       = "tls_token"                 // TLS and a token
	LevelCertificate = "tls_certificate"           // TLS and a certificate
	LevelBoth        = "tls_token_and_certificate" // TLS, a token and a certificate
	LevelEither      = "tls_certificate_or_token"  // TLS, and one of the two
)

// chosenLevels are those that can be chosen. Read only.
var chosenLevels = []string{LevelTLSOptional, LevelToken, LevelCertificate, LevelBoth, LevelEither}

// maxLevels is how many device types may have a level of their own.
const maxLevels = 100

// ConnectionRules say how the clients of an organisation may connect, beside its
// ConnectionLevel. The zero value says nothing.
type ConnectionRules struct {
	// Levels are those of device types that have one of their own.
	Levels map[policy.ID]string `json:"levels,omitempty"`
	// Addresses are those that connections may come from, or may not.
	Addresses AddressList `json:"addresses,omitzero"`
	// CertificateRegistration lets a device of an existing type be registered when it
	// first connects with a certificate.
	CertificateRegistration bool `json:"certificateRegistration,omitempty"`
}

func checkLevel(field, level string) error {
	if !slices.Contains(chosenLevels, level) {
		return invalid(field, "must be tls_optional, tls_token, tls_certificate, tls_token_and_certificate or tls_certificate_or_token")
	}
	return nil
}

func (c *ConnectionRules) check() error {
	if len(c.Levels) > maxLevels {
		return invalid("types", "must be at most "+strconv.Itoa(maxLevels))
	}
	for typ, level := range c.Levels {
		if _, err := policy.ParseID("types", string(typ)); err != nil {
			return err
		}
		if err := checkLevel("types", level); err != nil {
			return err
		}
	}
	return nil
}

// levelOf is the level of the clients of a device type; an empty one is nobody's.
func (o *Organisation) levelOf(typ policy.ID, standard string) string {
	if level := o.Connections.Levels[typ]; level != "" && typ != "" {
		return level
	}
	if o.ConnectionLevel != "" {
		return o.ConnectionLevel
	}
	return standard
}

// ConnectionFacts are what policies may know of p's organisation when p is a client:
// OrganisationFacts, with the level of its device type and the place of its address.
func (r *Registry) ConnectionFacts(_ context.Context, p *policy.Principal, client *policy.Client) (*policy.Organisation, error) {
	record, err := r.organisationOf(p.Org)
	if err != nil {
		return nil, err
	}
	facts := r.connectionFacts(record, p.Type, client)
	facts.Data = record.Data
	return facts, nil
}

// ClaimedFacts are ConnectionFacts of the organisation and device type that a client
// identifier names, without its data: nothing of it is verified. They are nil where it
// names no organisation, or one that there is not.
func (r *Registry) ClaimedFacts(_ context.Context, client *policy.Client) (*policy.Organisation, error) {
	claimed, _ := parseClientID(string(client.ID))
	if claimed.org.IsZero() {
		return nil, nil
	}
	record, err := r.organisationOf(claimed.org)
	if policy.KindOf(err) == policy.KindNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.connectionFacts(record, claimed.typ, client), nil
}

func (r *Registry) connectionFacts(o *organisationRecord, typ policy.ID, client *policy.Client) *policy.Organisation {
	rules := &o.Connections
	facts := &policy.Organisation{
		ID: o.ID, ConnectionLevel: o.levelOf(typ, r.level), CertificateRegistration: rules.CertificateRegistration,
	}
	if facts.AddressList = rules.Addresses.Mode; facts.AddressList != "" {
		facts.AddressListed = rules.Addresses.Has(client.Address)
	}
	return facts
}

// organisationOf is the record of an organisation, which is shared, or
// policy.KindNotFound.
func (r *Registry) organisationOf(id policy.OrgID) (*organisationRecord, error) {
	const op = "read organisation"
	scope, err := r.scopeOf(id)
	if err != nil {
		return nil, at(op, missing(err, "organisation"))
	}
	found, err := recall[organisationRecord](r, organisationKey(scope))
	if err != nil {
		return nil, at(op, missing(err, "organisation"))
	}
	return &found.Record, nil
}

// defaultCertified is how many devices of an organisation certificates may register.
const defaultCertified = 100_000

// registeredByCertificate is what a device that was registered so says of its origin.
const registeredByCertificate = "certificate"

// registeredKey leads to the number of them.
func registeredKey(s store.Scope) store.Key { return s.Key(store.KindRegistered) }

// RegisterCertified creates the device or gateway that p, verified by a certificate,
// is. It has no credential of its own. Whether it may be created is for others to say.
//
// The error is policy.KindForbidden for a principal that no certificate is behind, or
// where the organisation does not want it; policy.KindNotFound for a device type that
// there is not; policy.KindConflict for one of another class; policy.KindExists for a
// device that there is; policy.KindLimit beyond Options.RegisteredByCertificate.
func (r *Registry) RegisterCertified(ctx context.Context, p *policy.Principal) (Device, error) {
	var made Device
	err := r.write(ctx, "register device by its certificate", creation, func(w *writing) error {
		h, err := r.homeOf(p.Org)
		if err != nil {
			return err
		}
		if p.Incarnation != 0 && p.Incarnation != h.Record.Incarnation {
			return missing(store.ErrNotFound, "organisation")
		}
		o, err := recall[organisationRecord](r, organisationKey(h.scope))
		if err != nil {
			return missing(err, "organisation")
		}
		if !o.Record.Connections.CertificateRegistration || h.Record.Suspended {
			return &policy.Error{Kind: policy.KindForbidden, Public: "devices are not registered by their certificates"}
		}
		if err := r.stillCertified(h, p); err != nil {
			return err
		}
		if made, err = w.createDevice(h, Device{Type: p.Type, ID: p.ID, CreatedBy: registeredByCertificate}); err != nil {
			return err
		}
		if made.kind() != p.Kind {
			return &policy.Error{Kind: policy.KindConflict, Public: "the device type is not one of " + p.Kind.String() + "s"}
		}
		return w.countRegistered(h.scope)
	})
	return made, err
}

// stillCertified wants a certificate behind p that is trusted at this moment.
func (r *Registry) stillCertified(h home, p *policy.Principal) error {
	proof := *p
	if p.And != nil {
		proof.Verifier, proof.Credential = p.And.Verifier, p.And.Credential
	}
	if proof.Verifier != certificate.Name || r.refreshCertificate(h, &proof) != nil {
		return &policy.Error{Kind: policy.KindForbidden, Public: "no certificate is behind it"}
	}
	return nil
}

// countRegistered counts one more, whatever becomes of it: a certificate that stands
// for any device of a type could else go on without end. The count begins anew when
// the organisation switches this on again.
func (w *writing) countRegistered(s store.Scope) error {
	before, err := load[counter](w, registeredKey(s))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	most := uint64(w.registry.certified)
	if before.Record.Last >= most {
		return &policy.Error{Kind: policy.KindLimit, Public: "certificates register at most " + strconv.FormatUint(most, 10) + " devices of an organisation"}
	}
	return save(w, registeredKey(s), counter{Last: before.Record.Last + 1})
}
