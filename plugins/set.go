package plugins

import (
	"context"
	"errors"
	"maps"

	"github.com/cordon-mq/cordon/policy"
)

// kindPlugin is what the policy calls a reference to a plugin.
const kindPlugin = "plugin"

// Set holds the configured verifiers by reference. It is immutable, and asks its
// source for those that come and go. The zero value knows none and refuses
// everything.
type Set struct {
	verifiers map[policy.VerifierRef]Verifier // without Org
	source    Source
}

// Source finds the verifiers that come and go while a Set is in use. It gets the
// reference as the policy wrote it, with its Org; false says that there is none.
// It is asked at every connect, so it is cheap, and safe for concurrent use.
type Source func(policy.VerifierRef) (Verifier, bool)

// NewSet keeps a copy of verifiers. A reference in it has no Org: an
// [OrgVerifier] serves every organisation, and gets that of the policy's answer.
// A verifier under any other reference is never found, nor is a plugin whose
// name is [Reserved]. What is not in the map is asked of source, which may be nil.
func NewSet(verifiers map[policy.VerifierRef]Verifier, source Source) *Set {
	return &Set{maps.Clone(verifiers), source}
}

// Verify asks the verifiers that refs name, in order. A reference that is not
// configured is unavailable, and refuses: the policy meant a check to happen.
func (s *Set) Verify(ctx context.Context, refs []policy.VerifierRef, c *Credential) (policy.Principal, error) {
	for _, ref := range refs {
		v, ok := s.find(ref)
		if !ok {
			return policy.Principal{}, notConfigured(ref)
		}
		p, err := v.Verify(ctx, c)
		if err == nil {
			p, err = s.confirm(ctx, ref, p, c)
		}
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, ErrNotMine) {
			return policy.Principal{}, err
		}
	}
	return policy.Principal{}, &Refusal{Cause: policy.CauseUnknown}
}

// accept is p, unless no verifier of that reference may have made it.
func accept(ref policy.VerifierRef, p policy.Principal) (policy.Principal, error) {
	fault := ""
	switch {
	case p.Kind == policy.KindNobody || p.Org.IsZero() || p.Kind == policy.KindSystem:
		fault = "answered without a principal"
	case !ref.Org.IsZero() && p.Org != ref.Org:
		fault = "answered for another organisation than the policy's"
	case ref.Verifier == kindPlugin && Reserved(p.Verifier):
		fault = "answered in the name of a built-in one"
	default:
		return p, nil
	}
	return policy.Principal{}, &Refusal{
		Cause: policy.CauseUnavailable,
		Err:   errors.New("verifier " + ref.Verifier + " " + ref.Name + " " + fault),
	}
}

func notConfigured(ref policy.VerifierRef) error {
	return &Refusal{
		Cause: policy.CauseUnavailable,
		Err:   errors.New("the policy names a verifier that is not configured: " + ref.Verifier + " " + ref.Name),
	}
}

// find is the verifier that ref names, bound to the organisation of ref.
func (s *Set) find(ref policy.VerifierRef) (Verifier, bool) {
	if Reserved(ref.Name) {
		return nil, false
	}
	v, ok := s.verifiers[policy.VerifierRef{Verifier: ref.Verifier, Name: ref.Name}]
	if !ok && s.source != nil {
		return s.source(ref)
	}
	if !ok {
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
