package registry

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of claims.
const (
	maxClaims    = 1000 // of an organisation
	maxClaimUses = 10_000
	maxClaimLife = 366 * 24 * time.Hour

	claimIDLength = 10 // of lowerAlphanumerics
)

// Claim lets devices that nobody has registered yet register themselves: whoever
// shows its token is registered under a type and gets a token of its own. A claim is
// spent on as many devices as it says.
type Claim struct {
	ID policy.ID `json:"id"`
	// Incarnation is the version of the credentials that the claim is. It is set by
	// the registry.
	Incarnation uint64    `json:"incarnation,omitzero"`
	Type        policy.ID `json:"typeId"` // of class Device
	// Prefix is what the identifiers of its devices begin with; empty: with anything.
	Prefix    policy.ID `json:"deviceIdPrefix,omitempty"`
	Count     int       `json:"count"` // of devices, 1 to 10 000
	Left      int       `json:"left"`  // that it is not spent on yet
	Expires   time.Time `json:"expires"`
	Comment   string    `json:"comment,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"createdBy,omitempty"`
}

// EndedAt reports whether the claim is over at now.
func (c *Claim) EndedAt(now time.Time) bool { return !now.Before(c.Expires) }

// admits reports whether the claim is for a device of that name.
func (c *Claim) admits(name DeviceName) bool {
	return name.Type == c.Type && strings.HasPrefix(string(name.ID), string(c.Prefix))
}

func claimKey(s store.Scope, id policy.ID) store.Key { return s.Key(store.KindClaim, string(id)) }

// claimCredential names the token of a claim.
func claimCredential(id policy.ID) credentialID { return credentialID("claim/" + string(id)) }

// claimedCredential names the same token as what one device showed.
func claimedCredential(id policy.ID, name DeviceName) string {
	return string(claimCredential(id)) + "/" + string(name.Type) + "/" + string(name.ID)
}

// ClaimOf is the claim that a credential of ClaimVerifierName is, as what one device
// showed.
func ClaimOf(id policy.CredentialID) (policy.ID, bool) {
	parts := strings.Split(id.ID, "/")
	if len(parts) != 4 || parts[0] != "claim" {
		return "", false
	}
	return policy.ID(parts[1]), true
}

// check is for what an import brings, too, so it knows no clock.
func (c *Claim) check() error {
	if !isClaimID(string(c.ID)) {
		return invalid("id", "must be 10 of a-z and 0-9")
	}
	if _, err := policy.ParseID("typeId", string(c.Type)); err != nil {
		return err
	}
	if c.Prefix != "" {
		if _, err := policy.ParseID("deviceIdPrefix", string(c.Prefix)); err != nil {
			return err
		}
	}
	switch {
	case c.Count < 1 || c.Count > maxClaimUses:
		return invalid("count", "must be 1 to "+strconv.Itoa(maxClaimUses))
	case c.Left < 0 || c.Left > c.Count:
		return invalid("left", "must be 0 to count")
	case c.Expires.IsZero():
		return invalid("expires", "is required")
	}
	return errors.Join(checkText("comment", c.Comment, maxText), checkText("createdBy", c.CreatedBy, maxName),
		checkTime("expires", &c.Expires), checkTime("created", &c.Created))
}

func isClaimID(s string) bool {
	return len(s) == claimIDLength && strings.Trim(s, lowerAlphanumerics) == ""
}

// CreateClaim makes a claim of the Type, Prefix, Count, Expires, Comment and
// CreatedBy of c, and returns its token: it can never be read again. The error is
// policy.KindNotFound for a device type that there is not, policy.KindInvalid for one
// of gateways or an end that is past or more than 366 days away, and
// policy.KindConflict beyond 1000 claims: those that are over make room.
func (r *Registry) CreateClaim(ctx context.Context, org policy.OrgID, c Claim) (Claim, string, error) {
	c.ID = policy.ID(randomText(claimIDLength, lowerAlphanumerics))
	fresh := r.generate(generatedToken)
	var made Claim
	err := r.write(ctx, "create claim", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		c.Incarnation, c.Left, c.Created = w.stamp, c.Count, w.now
		if err := c.check(); err != nil {
			return err
		}
		if c.EndedAt(w.now) || c.Expires.Sub(w.now) > maxClaimLife {
			return invalid("expires", "must be in the future, and within 366 days")
		}
		if err := w.claimable(h, c.Type); err != nil {
			return err
		}
		if err := w.absent(claimKey(h.scope, c.ID), "claim"); err != nil {
			return err
		}
		if err := w.roomForClaim(h); err != nil {
			return err
		}
		if err := w.setCredential(h, claimCredential(c.ID), fresh); err != nil {
			return err
		}
		made, err = put(w, claimKey(h.scope, c.ID), c)
		return err
	})
	if err != nil {
		return Claim{}, "", err
	}
	return made, string(made.ID) + "-" + fresh.text, nil
}

// claimable wants a device type whose devices may be claimed. A gateway speaks for
// others, so somebody has to register it.
func (w *writing) claimable(h home, typ policy.ID) error {
	template, err := load[DeviceType](w, typeKey(h.scope, typ))
	switch {
	case err != nil:
		return missing(err, "device type")
	case template.Record.ClassID != ClassDevice:
		return invalid("typeId", "must be of class Device")
	default:
		return nil
	}
}

// roomForClaim makes room where there is none, by what is over.
func (w *writing) roomForClaim(h home) error {
	count, err := w.count(h, store.KindClaim)
	if err != nil || count < maxClaims {
		return err
	}
	gone, err := w.forgetClaims(h, func(c *Claim) bool { return c.EndedAt(w.now) })
	if err == nil && count-gone >= maxClaims {
		err = &policy.Error{Kind: policy.KindConflict, Public: "an organisation has at most " + strconv.Itoa(maxClaims) + " claims"}
	}
	return err
}

// forgetClaims removes those that which selects, and returns how many.
func (w *writing) forgetClaims(h home, which func(*Claim) bool) (gone int, err error) {
	var failure error
	err = w.registry.store.Scan(h.scope.Prefix(store.KindClaim), store.Key{}, func(key store.Key, value []byte) bool {
		var found stamped[Claim]
		if found, failure = read[Claim](key, value); failure == nil && which(&found.Record) {
			w.forgetClaim(h, &found.Record)
			gone++
		}
		return failure == nil
	})
	return gone, errors.Join(err, failure)
}

func (w *writing) forgetClaim(h home, c *Claim) {
	w.delete(claimKey(h.scope, c.ID))
	w.delete(claimCredential(c.ID).key(h.scope))
	w.tell(Change{Kind: ClaimDeleted, Org: h.Record.ID, Incarnation: h.Record.Incarnation, Claim: c.ID})
}

// Claim returns one claim, or policy.KindNotFound.
func (r *Registry) Claim(_ context.Context, org policy.OrgID, id policy.ID) (Claim, error) {
	const op = "read claim"
	h, err := r.homeOf(org)
	if err != nil {
		return Claim{}, at(op, err)
	}
	found, err := load[Claim](r.store, claimKey(h.scope, id))
	return found.Record, at(op, missing(err, "claim"))
}

// Claims lists the claims and returns the bookmark of the next page, empty on the
// last one. Those that are over or spent are among them.
func (r *Registry) Claims(_ context.Context, org policy.OrgID, page Page) ([]Claim, string, error) {
	const op = "list claims"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[Claim](r.store, h.scope, store.KindClaim, nil, 1, page)
	return records(found), next, at(op, err)
}

// DeleteClaim removes a claim: its token is good for nothing any more, and whoever is
// connected by it has been told to end when this returns. The devices that it was
// spent on stay.
func (r *Registry) DeleteClaim(ctx context.Context, org policy.OrgID, id policy.ID) error {
	return r.write(ctx, "delete claim", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[Claim](w, claimKey(h.scope, id))
		if err != nil {
			return missing(err, "claim")
		}
		w.forgetClaim(h, &found.Record)
		return nil
	})
}

func takeClaim(s *staging, l *exportLine) (placed, error) {
	c, err := taken[Claim](l)
	if err != nil {
		return placed{}, err
	}
	if err := c.check(); err != nil {
		return placed{}, err
	}
	if s.moved.Records["claim"] >= maxClaims {
		return placed{}, invalid("id", "must be one of at most "+strconv.Itoa(maxClaims))
	}
	if class, err := s.classOf(c.Type); err != nil || class != ClassDevice {
		return placed{}, errors.Join(err, invalid("typeId", "must be of class Device"))
	}
	return placed{[]string{string(c.ID)}, func(w *writing, key store.Key) error {
		c.Incarnation = w.stamp
		return save(w, key, c)
	}}, nil
}

func adoptClaim(w *writing, s *staging, h home, name []string) (bool, error) {
	key := claimKey(h.scope, policy.ID(name[0]))
	c, isNew, err := staged[Claim](w, s, key, claimKey(s.scope, policy.ID(name[0])))
	if err != nil || !isNew {
		return false, err
	}
	if err := w.claimable(h, c.Type); err != nil {
		return false, err
	}
	if err := w.roomForClaim(h); err != nil {
		return false, err
	}
	c.Incarnation = w.stamp
	return true, errors.Join(save(w, key, c), w.adoptCredential(s, h, claimCredential(c.ID)))
}
