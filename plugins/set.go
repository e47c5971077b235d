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
	verifiers map[policy.VerifierRef]Verifier
}

// NewSet keeps a copy of verifiers.
func NewSet(verifiers map[policy.VerifierRef]Verifier) *Set {
	return &Set{maps.Clone(verifiers)}
}

// Verify asks the verifiers that refs name, in order. A reference that is not
// configured is unavailable, and refuses: the policy meant a check to happen.
func (s *Set) Verify(ctx context.Context, refs []policy.VerifierRef, c *Credential) (policy.Principal, error) {
	for _, ref := range refs {
		v, ok := s.verifiers[ref]
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
