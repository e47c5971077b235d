package registry

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of an organisation's own policy.
const (
	maxPolicyFiles = 64
	maxPolicyBytes = 256 << 10 // of all texts
	maxPolicyPath  = 512
)

// OrganisationPolicy is the bundle by which an organisation narrows what the
// platform's policy allows. It is part of the organisation's incarnation and goes
// with it. What is in it was checked by whoever stores it.
type OrganisationPolicy struct {
	Revision string       `json:"revision"` // hash of the files
	Files    []PolicyFile `json:"files"`    // at most 64, 256 KiB together
	Who      string       `json:"who"`      // who uploaded it
	Updated  time.Time    `json:"updated"`  // set by the registry
}

// PolicyFile is one file of a bundle.
type PolicyFile struct {
	Path string `json:"path"` // slash-separated, such as "cordon/publish/publish.rego"
	Text string `json:"text"`
}

func policyKey(s store.Scope) store.Key { return s.Key(store.KindPolicy) }

// OrganisationPolicy returns the bundle of an organisation, or policy.KindNotFound
// where there is no such organisation or it has none.
func (r *Registry) OrganisationPolicy(_ context.Context, org policy.OrgID) (OrganisationPolicy, error) {
	const op = "read policy of organisation"
	h, err := r.homeOf(org)
	if err != nil {
		return OrganisationPolicy{}, at(op, err)
	}
	found, err := load[OrganisationPolicy](r.store, policyKey(h.scope))
	return found.Record, at(op, missing(err, "policy"))
}

// SetOrganisationPolicy stores p as the bundle of an organisation. The watchers are
// told after the commit.
func (r *Registry) SetOrganisationPolicy(ctx context.Context, org policy.OrgID, p OrganisationPolicy) (OrganisationPolicy, error) {
	var made OrganisationPolicy
	err := r.write(ctx, "store policy of organisation", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if err := p.check(); err != nil {
			return err
		}
		p.Updated = w.now
		if made, err = put(w, policyKey(h.scope), p); err != nil {
			return err
		}
		w.tell(Change{Kind: OrganisationPolicyChanged, Org: org, Incarnation: h.Record.Incarnation})
		return nil
	})
	return made, err
}

// DeleteOrganisationPolicy takes the bundle of an organisation away. Where there is
// none, the error is policy.KindNotFound.
func (r *Registry) DeleteOrganisationPolicy(ctx context.Context, org policy.OrgID) error {
	return r.write(ctx, "delete policy of organisation", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := r.store.Get(policyKey(h.scope)); err != nil {
			return missing(err, "policy")
		}
		w.delete(policyKey(h.scope))
		w.tell(Change{Kind: OrganisationPolicyChanged, Org: org, Incarnation: h.Record.Incarnation})
		return nil
	})
}

func (p *OrganisationPolicy) check() error {
	if len(p.Files) == 0 || len(p.Files) > maxPolicyFiles {
		return invalid("files", "must be 1 to "+strconv.Itoa(maxPolicyFiles))
	}
	total, seen := 0, map[string]bool{}
	for _, f := range p.Files {
		if f.Path == "" || len(f.Path) > maxPolicyPath || seen[f.Path] || strings.ContainsRune(f.Path, 0) || !utf8.ValidString(f.Path) {
			return invalid("files", "must have different paths of 1 to "+strconv.Itoa(maxPolicyPath)+" bytes")
		}
		seen[f.Path] = true
		if total += len(f.Text); total > maxPolicyBytes {
			return &policy.Error{Kind: policy.KindTooLarge, Field: "files", Public: "must be at most 256 KiB together"}
		}
		if !utf8.ValidString(f.Text) {
			return invalid("files", "must be UTF-8")
		}
	}
	return errors.Join(checkText("revision", p.Revision, maxName), checkText("who", p.Who, maxName))
}
