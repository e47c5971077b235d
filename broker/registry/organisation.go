package registry

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Organisation is one tenant.
type Organisation struct {
	ID policy.OrgID `json:"id"`
	// Incarnation tells it from a deleted namesake; set by the registry.
	Incarnation uint64    `json:"incarnation,omitzero"`
	Name        string    `json:"name,omitempty"` // for people; at most 256 bytes
	Suspended   bool      `json:"suspended,omitempty"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	Quotas      Quotas    `json:"quotas"`
	// ConnectionLevel is one of the levels; empty follows
	// Options.DefaultConnectionLevel.
	ConnectionLevel string `json:"connectionLevel,omitempty"`
	// Connections say more about how its clients may connect.
	Connections ConnectionRules `json:"connections,omitzero"`
	// Revocation is RevocationStrict (also when empty) or RevocationLenient.
	Revocation string `json:"revocation,omitempty"`
	// ServerNames are host names, beside those of the platform, that the operator lets
	// the organisation show certificates for; see SetServerNames. No other organisation
	// has one of them.
	ServerNames []string `json:"serverNames,omitempty"`
	// KeysReachAll suspends the restriction of API keys to their groups. Gateways are
	// always held to theirs.
	KeysReachAll bool `json:"keysReachAll,omitempty"`
	// Data reaches policies as input.org: JSON values, at most 64 KiB encoded.
	Data map[string]any `json:"data,omitempty"`
}

// Quotas bound what one organisation may use. Every value is positive and
// finite.
type Quotas struct {
	Connections     int     `json:"connections"`
	Sessions        int     `json:"sessions"`        // kept ones
	Subscriptions   int     `json:"subscriptions"`   // of all sessions
	PublishRate     float64 `json:"publishRate"`     // messages a second
	StoredBytes     int64   `json:"storedBytes"`     // sessions, queues and messages
	RetainedBytes   int64   `json:"retainedBytes"`   // retained messages
	EvaluationsRate float64 `json:"evaluationsRate"` // cold policy evaluations a second
}

// DefaultQuotas are those of a new organisation: finite, and beyond what a small
// machine can do, so that nobody meets them by chance. Operators of many
// organisations lower them.
func DefaultQuotas() Quotas {
	return Quotas{
		Connections: 100_000, Sessions: 200_000, Subscriptions: 1_000_000,
		PublishRate: 1_000_000, StoredBytes: 8 << 30, RetainedBytes: 1 << 30,
		EvaluationsRate: 100_000,
	}
}

// organisationRecord is what is stored of an organisation.
type organisationRecord struct {
	Organisation
	// OwnTokens says that a device once got a self-chosen token. It is never
	// taken back: see the package comment on what a failure costs.
	OwnTokens bool `json:"ownTokens,omitempty"`
}

// directoryEntry is what the name of an organisation leads to.
type directoryEntry struct {
	Incarnation uint64 `json:"incarnation"`
}

// standing is the part of an organisationRecord that every look-up needs. It is
// read without building the rest, since Data may be large.
type standing struct {
	ID          policy.OrgID `json:"id"`
	Incarnation uint64       `json:"incarnation"`
	Suspended   bool         `json:"suspended"`
	OwnTokens   bool         `json:"ownTokens"`
	// KeysReachAll is the organisation's.
	KeysReachAll bool `json:"keysReachAll"`
}

// home is an organisation that was found, and the place of its records.
type home struct {
	scope store.Scope
	stamped[standing]
}

// scopeOf returns the place of an organisation's records, or store.ErrNotFound.
func (r *Registry) scopeOf(id policy.OrgID) (store.Scope, error) {
	entry, err := recall[directoryEntry](r, directoryKey(id))
	if err != nil {
		return store.Scope{}, err
	}
	return store.In(id.String(), entry.Record.Incarnation), nil
}

// find returns the organisation called id, or store.ErrNotFound.
func (r *Registry) find(id policy.OrgID) (home, error) {
	scope, err := r.scopeOf(id)
	if err != nil {
		return home{}, err
	}
	found, err := recall[standing](r, organisationKey(scope))
	if err != nil {
		return home{}, err
	}
	return home{scope, found}, nil
}

// loadOrganisation reads the whole record of the organisation called id, or
// policy.KindNotFound.
func (r *Registry) loadOrganisation(id policy.OrgID) (store.Scope, organisationRecord, error) {
	scope, err := r.scopeOf(id)
	if err != nil {
		return store.Scope{}, organisationRecord{}, missing(err, "organisation")
	}
	found, err := load[organisationRecord](r.store, organisationKey(scope))
	return scope, found.Record, missing(err, "organisation")
}

// homeOf is find for administration: what is missing is policy.KindNotFound.
func (r *Registry) homeOf(id policy.OrgID) (home, error) {
	h, err := r.find(id)
	return h, missing(err, "organisation")
}

// CreateOrganisation adds an organisation with default quotas and nothing in
// it. The error is policy.KindExists when the name is taken.
func (r *Registry) CreateOrganisation(ctx context.Context, id policy.OrgID, name string) (Organisation, error) {
	var made Organisation
	err := r.write(ctx, "create organisation", creation, func(w *writing) (err error) {
		made, _, err = w.createOrganisation(id, name)
		return err
	})
	return made, err
}

func (w *writing) createOrganisation(id policy.OrgID, name string) (Organisation, store.Scope, error) {
	if _, err := policy.ParseOrgID(id.String()); err != nil {
		return Organisation{}, store.Scope{}, err
	}
	if err := w.absent(directoryKey(id), "organisation"); err != nil {
		return Organisation{}, store.Scope{}, err
	}
	organisation := Organisation{
		ID: id, Incarnation: w.stamp, Name: name,
		Created: w.now, Updated: w.now, Quotas: DefaultQuotas(),
	}
	if err := organisation.check(); err != nil {
		return Organisation{}, store.Scope{}, err
	}
	scope := store.In(id.String(), w.stamp)
	if err := save(w, directoryKey(id), directoryEntry{Incarnation: w.stamp}); err != nil {
		return Organisation{}, store.Scope{}, err
	}
	made, err := put(w, organisationKey(scope), organisationRecord{Organisation: organisation})
	w.tell(Change{Kind: OrganisationChanged, Org: id, Incarnation: w.stamp})
	return made.Organisation, scope, err
}

// Organisation returns the organisation called id, or policy.KindNotFound.
func (r *Registry) Organisation(_ context.Context, id policy.OrgID) (Organisation, error) {
	_, found, err := r.loadOrganisation(id)
	return found.Organisation, at("read organisation", err)
}

// Organisations lists all organisations, shorter names first.
func (r *Registry) Organisations(_ context.Context, page Page) ([]Organisation, string, error) {
	const op = "list organisations"
	entries, next, err := list[directoryEntry](r.store, store.Global(), store.KindDirectory, nil, 1, page)
	if err != nil {
		return nil, "", at(op, err)
	}
	found := make([]Organisation, 0, len(entries))
	for _, entry := range entries {
		scope := store.In(entry.parts[0], entry.Record.Incarnation)
		organisation, err := load[organisationRecord](r.store, organisationKey(scope))
		switch {
		case errors.Is(err, store.ErrNotFound): // deleted since
		case err != nil:
			return nil, "", at(op, err)
		default:
			found = append(found, organisation.Record.Organisation)
		}
	}
	return found, next, nil
}

// UpdateOrganisation lets edit change the organisation. ID, Incarnation and
// Created stay what they were. An error of edit is returned, and nothing is
// changed. Suspending refuses every credential of the organisation;
// setting Suspended back to false resumes it.
func (r *Registry) UpdateOrganisation(ctx context.Context, id policy.OrgID, edit func(*Organisation) error) (Organisation, error) {
	var made Organisation
	err := r.write(ctx, "update organisation", removal, func(w *writing) error {
		scope, found, err := r.loadOrganisation(id)
		if err != nil {
			return err
		}
		before, after := found.Organisation, found
		if err := edit(&after.Organisation); err != nil {
			return err
		}
		after.ID, after.Incarnation, after.Created, after.Updated = before.ID, before.Incarnation, before.Created, w.now
		after.ServerNames = before.ServerNames // of SetServerNames
		if err := after.check(); err != nil {
			return err
		}
		stored, err := put(w, organisationKey(scope), after)
		if err != nil {
			return err
		}
		made = stored.Organisation
		if after.Connections.CertificateRegistration && !before.Connections.CertificateRegistration {
			w.delete(registeredKey(scope))
		}
		change := Change{Kind: OrganisationChanged, Org: id, Incarnation: before.Incarnation}
		if after.Suspended && !before.Suspended {
			change.Kind = OrganisationSuspended
		}
		w.tell(change)
		return nil
	})
	return made, err
}

func (o *Organisation) check() (err error) {
	if err := checkText("name", o.Name, maxName); err != nil {
		return err
	}
	if level := o.ConnectionLevel; level != "" && level != LevelTLS {
		if err := checkLevel("connectionLevel", level); err != nil {
			return err
		}
	}
	if err := o.Connections.check(); err != nil {
		return err
	}
	if err := checkRevocation(o.Revocation); err != nil {
		return err
	}
	if err := o.Quotas.check(); err != nil {
		return err
	}
	o.Data, err = checkJSON("data", o.Data, maxData)
	return err
}

func (q Quotas) check() error {
	for _, quota := range []struct {
		field string
		value float64
	}{
		{"connections", float64(q.Connections)},
		{"sessions", float64(q.Sessions)},
		{"subscriptions", float64(q.Subscriptions)},
		{"publishRate", q.PublishRate},
		{"storedBytes", float64(q.StoredBytes)},
		{"retainedBytes", float64(q.RetainedBytes)},
		{"evaluationsRate", q.EvaluationsRate},
	} {
		// Written so that a value that is not a number fails, too.
		if !(quota.value > 0 && quota.value <= maxQuota) {
			return invalid("quotas."+quota.field, "must be more than 0 and at most 10^15")
		}
	}
	return nil
}

// DeleteOrganisation removes the organisation with everything in it. When it
// returns, no credential of it is accepted; its keys are removed from the store
// in the background.
func (r *Registry) DeleteOrganisation(ctx context.Context, id policy.OrgID) error {
	var incarnation uint64
	err := r.write(ctx, "delete organisation", removal, func(w *writing) error {
		h, err := r.homeOf(id)
		if err != nil {
			return err
		}
		incarnation = h.Record.Incarnation
		w.delete(directoryKey(id))
		w.delete(organisationKey(h.scope))
		if err := save(w, tombstoneKey(id.String(), incarnation), directoryEntry{Incarnation: incarnation}); err != nil {
			return err
		}
		w.tell(Change{Kind: OrganisationDeleted, Org: id, Incarnation: incarnation})
		return nil
	})
	if err != nil {
		return err
	}
	r.purgeInBackground(id.String(), incarnation)
	return nil
}
