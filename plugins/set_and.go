package plugins

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// confirm is p, if a verifier of ref may have made it and the second one that ref
// names finds the same principal. What the second one does not know is a proof that
// was not given, and refuses: nobody else is asked instead.
func (s *Set) confirm(ctx context.Context, ref policy.VerifierRef, p policy.Principal, c *Credential) (policy.Principal, error) {
	p, err := accept(ref, p)
	if err != nil || ref.And == "" {
		return p, err
	}
	second := policy.VerifierRef{Verifier: ref.And}
	v, ok := s.find(second)
	if !ok {
		return policy.Principal{}, notConfigured(second)
	}
	also, err := v.Verify(ctx, c)
	if err == nil {
		also, err = accept(second, also)
	}
	switch {
	case errors.Is(err, ErrNotMine):
		return policy.Principal{}, &Refusal{Cause: policy.CauseUnknown, Err: errors.New("the " + ref.And + " is missing")}
	case err != nil:
		return policy.Principal{}, err
	case !agree(&p, &also):
		return policy.Principal{}, &Refusal{Cause: policy.CauseMismatch, Err: errors.New("the two proofs are of different clients")}
	}
	p.And = &policy.Proof{Verifier: also.Verifier, Credential: also.Credential, ExpiresAt: also.ExpiresAt}
	p.ExpiresAt = sooner(p.ExpiresAt, also.ExpiresAt)
	return p, nil
}

// agree reports whether two proofs are of one client. An application's key is in one
// of them alone.
func agree(a, b *policy.Principal) bool {
	return a.Org == b.Org && (a.Incarnation == b.Incarnation || a.Incarnation == 0 || b.Incarnation == 0) &&
		a.Kind == b.Kind && a.Type == b.Type && a.ID == b.ID && a.App == b.App && a.Unnamed == b.Unnamed
}

// sooner is the earlier of two ends; the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
