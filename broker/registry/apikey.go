package registry

import (
	"context"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Roles that the registry itself gives.
const (
	RoleStandardApp   = "PD_STANDARD_APP" // an API key created without roles
	RoleAdminApp      = "PD_ADMIN_APP"    // the first API key
	RoleReader        = "Reader"          // a user created without roles
	RoleAdministrator = "Administrator"   // the first user
	roleAdminUser     = "PD_ADMIN_USER"   // the platform's other name for one
)

// APIKey is what applications and programs sign in with.
type APIKey struct {
	Key      string    `json:"key"`               // "a-{org}-{10 of a-z0-9}"; set by the registry
	Comment  string    `json:"comment,omitempty"` // at most 1024 bytes
	Roles    []string  `json:"roles"`             // 1 to 32; one, where Reach has groups
	Reach    Reach     `json:"reach,omitzero"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Expires  time.Time `json:"expires,omitzero"` // zero: never
}

// apiKeySuffix is the length of the random part of an API key.
const apiKeySuffix = 10

func newAPIKey(org policy.OrgID) string {
	return "a-" + org.String() + "-" + randomText(apiKeySuffix, lowerAlphanumerics)
}

// parseAPIKey reads the organisation from an API key of the right form.
func parseAPIKey(s string) (policy.OrgID, bool) {
	rest, ok := strings.CutPrefix(s, "a-")
	name, suffix, found := strings.Cut(rest, "-")
	if !ok || !found || len(suffix) != apiKeySuffix || strings.Trim(suffix, lowerAlphanumerics) != "" {
		return policy.OrgID{}, false
	}
	org, err := policy.ParseOrgID(name)
	return org, err == nil
}

// CreateAPIKey adds an API key with the comment, roles, reach and expiry of k and
// returns its token, which can never be read again. Without roles it gets
// RoleStandardApp.
func (r *Registry) CreateAPIKey(ctx context.Context, org policy.OrgID, k APIKey) (APIKey, string, error) {
	var made APIKey
	fresh := r.generate(generatedToken)
	err := r.write(ctx, "create API key", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		made, err = w.createAPIKey(h, k, fresh)
		return err
	})
	if err != nil {
		return APIKey{}, "", err
	}
	return made, fresh.text, nil
}

func (w *writing) createAPIKey(h home, k APIKey, fresh secret) (_ APIKey, err error) {
	k.Key = newAPIKey(h.Record.ID)
	k.Created, k.Updated = w.now, w.now
	if k.Roles, err = checkRoles(k.Roles, RoleStandardApp); err != nil {
		return APIKey{}, err
	}
	if k.Reach, err = w.grant(h, Reach{}, k.Reach, k.Roles); err != nil {
		return APIKey{}, err
	}
	if err := k.check(); err != nil {
		return APIKey{}, err
	}
	if !k.Expires.IsZero() && !k.Expires.After(w.now) {
		return APIKey{}, invalid("expires", "must lie in the future")
	}
	if err := w.absent(apiKeyKey(h.scope, k.Key), "API key"); err != nil {
		return APIKey{}, err
	}
	if err := w.setCredential(h, apiKeyCredential(k.Key), fresh); err != nil {
		return APIKey{}, err
	}
	w.tell(k.change(SubjectChanged, h))
	return put(w, apiKeyKey(h.scope, k.Key), k)
}

func (k *APIKey) check() error {
	if err := checkTime("expires", &k.Expires); err != nil {
		return err
	}
	return checkText("comment", k.Comment, maxText)
}

func (k *APIKey) change(kind ChangeKind, h home) Change {
	return Change{
		Kind: kind, Org: h.Record.ID, Incarnation: h.Record.Incarnation,
		PrincipalKind: policy.KindApplication, APIKey: k.Key,
	}
}

// APIKey returns one API key of the organisation, or policy.KindNotFound.
func (r *Registry) APIKey(_ context.Context, org policy.OrgID, key string) (APIKey, error) {
	const op = "read API key"
	h, err := r.homeOf(org)
	if err != nil {
		return APIKey{}, at(op, err)
	}
	found, err := r.loadAPIKey(h, key)
	return found.Record, at(op, missing(err, "API key"))
}

// loadAPIKey finds nothing for a text that is no API key of the organisation.
func (r *Registry) loadAPIKey(h home, key string) (stamped[APIKey], error) {
	if org, ok := parseAPIKey(key); !ok || org != h.Record.ID {
		return stamped[APIKey]{}, store.ErrNotFound
	}
	return load[APIKey](r.store, apiKeyKey(h.scope, key))
}

// APIKeys lists the API keys and returns the bookmark of the next page, empty
// on the last one.
func (r *Registry) APIKeys(_ context.Context, org policy.OrgID, page Page) ([]APIKey, string, error) {
	const op = "list API keys"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[APIKey](r.store, h.scope, store.KindAPIKey, nil, 1, page)
	return records(found), next, at(op, err)
}

// UpdateAPIKey lets edit change comment, roles, reach, expiry and Disabled. An error
// of edit is returned, and nothing is changed. Without roles the key gets
// RoleStandardApp; what is restricted once stays so.
func (r *Registry) UpdateAPIKey(ctx context.Context, org policy.OrgID, key string, edit func(*APIKey) error) (APIKey, error) {
	var made APIKey
	err := r.write(ctx, "update API key", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := r.loadAPIKey(h, key)
		if err != nil {
			return missing(err, "API key")
		}
		before, after := found.Record, found.Record
		if err := edit(&after); err != nil {
			return err
		}
		after.Key, after.Created, after.Updated = before.Key, before.Created, w.now
		if after.Roles, err = checkRoles(after.Roles, RoleStandardApp); err != nil {
			return err
		}
		if after.Reach, err = w.grant(h, before.Reach, after.Reach, after.Roles); err != nil {
			return err
		}
		if err := after.check(); err != nil {
			return err
		}
		kind := SubjectChanged
		if after.Disabled {
			kind = SubjectDisabled
		}
		w.tell(after.change(kind, h))
		made, err = put(w, apiKeyKey(h.scope, key), after)
		return err
	})
	return made, err
}

// DeleteAPIKey removes the key and its token.
func (r *Registry) DeleteAPIKey(ctx context.Context, org policy.OrgID, key string) error {
	return r.write(ctx, "delete API key", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := r.loadAPIKey(h, key)
		if err != nil {
			return missing(err, "API key")
		}
		w.delete(apiKeyKey(h.scope, key))
		w.delete(apiKeyCredential(key).key(h.scope))
		w.tell(found.Record.change(SubjectDeleted, h))
		return nil
	})
}

// ReplaceAPIKeyToken gives the key another token and returns it: it can never
// be read again. Grace is that of ReplaceDeviceToken.
func (r *Registry) ReplaceAPIKeyToken(ctx context.Context, org policy.OrgID, key string, grace time.Duration) (string, error) {
	fresh := r.generate(generatedToken)
	err := r.write(ctx, "replace API key token", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := r.loadAPIKey(h, key)
		if err != nil {
			return missing(err, "API key")
		}
		return w.replaceCredential(h, apiKeyCredential(key), fresh, grace, found.Record.change(CredentialReplaced, h))
	})
	if err != nil {
		return "", err
	}
	return fresh.text, nil
}
