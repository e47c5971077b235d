package plugins

import (
	"context"
	"errors"
	"maps"

	"github.com/cordon-mq/cordon/policy"
)

// Set holds the configured verifiers by reference. It is immutable; the zero
// value knows none and refuses everything.
type Set struct {
	verifiers map[policy.VerifierRef]Verifier // without Org
}

// NewSet keeps a copy of verifiers. A reference in it has no Org: an
// [OrgVerifier] serves every organisation, and gets that of the policy's answer.
// A verifier under any other reference is never found, nor is a plugin whose
// name is [Reserved].
func NewSet(verifiers map[policy.VerifierRef]Verifier) *Set {
	return &Set{maps.Clone(verifiers)}
}

// Verify asks the verifiers that refs name, in order. A reference that is not
// configured is unavailable, and refuses: the policy meant a check to happen.
func (s *Set) Verify(ctx context.Context, refs []policy.VerifierRef, c *Credential) (policy.Principal, error) {
	for _, ref := range refs {
		v, ok := s.find(ref)
		if !ok {
			return policy.Principal{}, &Refusal{
				Cause: policy.CauseUnavailable,
				Err:   errors.New("the policy names a verifier that is not configured: " + ref.Verifier + " " + ref.Name),
			}
		}
		p, err := v.Verify(ctx, c)
		switch {
		case err == nil && (p.Kind == policy.KindNobody || p.Org.IsZero() || p.Kind == policy.KindSystem):
			return policy.Principal{}, &Refusal{
				Cause: policy.CauseUnavailable,
				Err:   errors.New("verifier " + ref.Verifier + " " + ref.Name + " answered without a principal"),
			}
		case err == nil:
			return p, nil
		case !errors.Is(err, ErrNotMine):
			return policy.Principal{}, err
		}
	}
	return policy.Principal{}, &Refusal{Cause: policy.CauseUnknown}
}

// find is the verifier that ref names, bound to the organisation of ref.
func (s *Set) find(ref policy.VerifierRef) (Verifier, bool) {
	v, ok := s.verifiers[policy.VerifierRef{Verifier: ref.Verifier, Name: ref.Name}]
	if !ok || Reserved(ref.Name) {
		return nil, false
	}
	bound, wantsOrg := v.(OrgVerifier)
	if wantsOrg != !ref.Org.IsZero() {
		return nil, false // an organisation that nobody heeds is a check that does not happen
	}
	if wantsOrg {
		v = bound.ForOrg(ref.Org)
	}
	return v, true
}
