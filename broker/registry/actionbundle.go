package registry

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// ActionBundle is a set of device management actions that an organisation made.
type ActionBundle struct {
	ID          string                  `json:"bundleId"`
	DisplayName map[string]string       `json:"displayName"` // by language
	Description map[string]string       `json:"description,omitempty"`
	Version     string                  `json:"version,omitempty"`
	Provider    string                  `json:"provider,omitempty"`
	Actions     map[string]BundleAction `json:"actions"`
	Created     time.Time               `json:"created"`
	Updated     time.Time               `json:"updated"`
}

// BundleAction is one action of a bundle.
type BundleAction struct {
	DisplayName map[string]string `json:"actionDisplayName"`
	Description map[string]string `json:"description,omitempty"`
	Parameters  []BundleParameter `json:"parameters,omitempty"`
}

// BundleParameter is what an action may be given.
type BundleParameter struct {
	Name string `json:"name"`
	// Pattern is a regular expression that a whole value has to match; empty: any.
	Pattern  string  `json:"value,omitempty"`
	Required bool    `json:"required,omitempty"`
	Default  *string `json:"defaultValue,omitempty"`
}

// Allows reports whether a value is one that the parameter may have.
func (p *BundleParameter) Allows(value string) bool {
	if p.Pattern == "" {
		return true
	}
	matcher, err := regexp.Compile("^(?:" + p.Pattern + ")$")
	return err == nil && matcher.MatchString(value)
}

func bundleKey(s store.Scope, id string) store.Key { return s.Key(store.KindActionBundle, id) }

func (b *ActionBundle) check() error {
	if !isManagementID(b.ID) {
		return invalid("bundleId", "must be 1 to 255 letters, digits, '-', '_' and '.'")
	}
	switch b.ID {
	case SupportsDeviceActions, SupportsFirmwareActions, "device", "firmware":
		return invalid("bundleId", "must be none of the platform's own")
	}
	if b.Version != "" && !isManagementID(b.Version) {
		return invalid("version", "must be 1 to 255 letters, digits, '-', '_' and '.'")
	}
	if err := errors.Join(checkText("provider", b.Provider, maxText), checkWords("displayName", b.DisplayName, true), checkWords("description", b.Description, false)); err != nil {
		return err
	}
	if len(b.Actions) == 0 || len(b.Actions) > maxBundleParts {
		return invalid("actions", "must be 1 to "+strconv.Itoa(maxBundleParts))
	}
	for id, a := range b.Actions {
		if !isManagementID(id) {
			return invalid("actions", "must have names of 1 to 255 letters, digits, '-', '_' and '.'")
		}
		if err := a.check("actions." + id); err != nil {
			return err
		}
	}
	if text, err := json.Marshal(b); err != nil || len(text) > maxBundleSize {
		return invalid("bundle", "must be at most "+strconv.Itoa(maxBundleSize)+" bytes as JSON")
	}
	return nil
}

func (a *BundleAction) check(field string) error {
	if err := errors.Join(checkWords(field+".actionDisplayName", a.DisplayName, true), checkWords(field+".description", a.Description, false)); err != nil {
		return err
	}
	if len(a.Parameters) > maxBundleParts {
		return invalid(field+".parameters", "must be at most "+strconv.Itoa(maxBundleParts))
	}
	seen := map[string]bool{}
	for i := range a.Parameters {
		p := &a.Parameters[i]
		if !isManagementID(p.Name) || seen[p.Name] {
			return invalid(field+".parameters.name", "must be 1 to 255 letters, digits, '-', '_' and '.', each once")
		}
		seen[p.Name] = true
		if len(p.Pattern) > maxText {
			return invalid(field+".parameters.value", "must be at most "+strconv.Itoa(maxText)+" bytes")
		}
		if _, err := regexp.Compile("^(?:" + p.Pattern + ")$"); err != nil {
			return invalid(field+".parameters.value", "must be a regular expression")
		}
		if p.Default != nil && (checkText(field, *p.Default, maxText) != nil || !p.Allows(*p.Default)) {
			return invalid(field+".parameters.defaultValue", "must be a value that the parameter may have")
		}
	}
	return nil
}

// checkWords checks texts by language.
func checkWords(field string, words map[string]string, required bool) error {
	if required && len(words) == 0 || len(words) > maxBundleParts {
		return invalid(field, "must be texts by language, at most "+strconv.Itoa(maxBundleParts))
	}
	for language, text := range words {
		if language == "" || len(language) > 35 || strings.ContainsAny(language, " \t\r\n") {
			return invalid(field, "must be texts by language, such as en_US")
		}
		if err := errors.Join(checkText(field, language, 35), checkText(field, text, maxText)); err != nil {
			return err
		}
	}
	return nil
}

// CreateActionBundle adds a bundle. The error is policy.KindExists when there is one
// of the name, policy.KindLimit beyond 50.
func (r *Registry) CreateActionBundle(ctx context.Context, org policy.OrgID, b ActionBundle) (ActionBundle, error) {
	var made ActionBundle
	err := r.write(ctx, "create action bundle", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if err := b.check(); err != nil {
			return err
		}
		if err := w.absent(bundleKey(h.scope, b.ID), "action bundle"); err != nil {
			return err
		}
		if err := w.roomForBundle(h); err != nil {
			return err
		}
		b.Created, b.Updated = w.now, w.now
		made, err = put(w, bundleKey(h.scope, b.ID), b)
		return err
	})
	return made, err
}

func (w *writing) roomForBundle(h home) error {
	count, err := w.count(h, store.KindActionBundle)
	if err == nil && count >= maxBundles {
		return &policy.Error{Kind: policy.KindLimit, Public: "an organisation has at most " + strconv.Itoa(maxBundles) + " action bundles"}
	}
	return err
}

// ActionBundle returns one bundle, or policy.KindNotFound.
func (r *Registry) ActionBundle(_ context.Context, org policy.OrgID, id string) (ActionBundle, error) {
	const op = "read action bundle"
	h, err := r.homeOf(org)
	if err != nil {
		return ActionBundle{}, at(op, err)
	}
	if !isManagementID(id) {
		return ActionBundle{}, at(op, missing(store.ErrNotFound, "action bundle"))
	}
	found, err := load[ActionBundle](r.store, bundleKey(h.scope, id))
	return found.Record, at(op, missing(err, "action bundle"))
}

// ActionBundles lists the bundles and returns the bookmark of the next page, empty on
// the last one.
func (r *Registry) ActionBundles(_ context.Context, org policy.OrgID, page Page) ([]ActionBundle, string, error) {
	const op = "list action bundles"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[ActionBundle](r.store, h.scope, store.KindActionBundle, nil, 1, page)
	return records(found), next, at(op, err)
}

// ReplaceActionBundle puts b in the place of the bundle of its name.
func (r *Registry) ReplaceActionBundle(ctx context.Context, org policy.OrgID, b ActionBundle) (ActionBundle, error) {
	var made ActionBundle
	err := r.write(ctx, "replace action bundle", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if err := b.check(); err != nil {
			return err
		}
		found, err := load[ActionBundle](r.store, bundleKey(h.scope, b.ID))
		if err != nil {
			return missing(err, "action bundle")
		}
		b.Created, b.Updated = found.Record.Created, w.now
		made, err = put(w, bundleKey(h.scope, b.ID), b)
		return err
	})
	return made, err
}

// DeleteActionBundle removes a bundle. Requests that were made by it go on.
func (r *Registry) DeleteActionBundle(ctx context.Context, org policy.OrgID, id string) error {
	return r.write(ctx, "delete action bundle", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if !isManagementID(id) {
			return missing(store.ErrNotFound, "action bundle")
		}
		if _, err := r.store.Get(bundleKey(h.scope, id)); err != nil {
			return missing(err, "action bundle")
		}
		w.delete(bundleKey(h.scope, id))
		return nil
	})
}

func takeBundle(s *staging, l *exportLine) (placed, error) {
	b, err := taken[ActionBundle](l)
	if err != nil {
		return placed{}, err
	}
	if err := errors.Join(b.check(), checkMoments(&b.Created, &b.Updated)); err != nil {
		return placed{}, err
	}
	if s.moved.Records["action_bundle"] >= maxBundles {
		return placed{}, invalid("bundleId", "must be one of at most "+strconv.Itoa(maxBundles))
	}
	return placed{[]string{b.ID}, saved(b)}, nil
}

func adoptBundle(w *writing, s *staging, h home, name []string) (bool, error) {
	key := bundleKey(h.scope, name[0])
	b, isNew, err := staged[ActionBundle](w, s, key, bundleKey(s.scope, name[0]))
	if err != nil || !isNew {
		return false, err
	}
	if err := w.roomForBundle(h); err != nil {
		return false, err
	}
	return true, save(w, key, b)
}
