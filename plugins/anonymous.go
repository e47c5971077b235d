package plugins

import (
	"context"
	"errors"

	"github.com/cordon-mq/cordon/policy"
)

// AnonymousName is the Verifier, and the ID, of everybody who was let in
// without proof.
const AnonymousName = "anonymous"

// Reserved reports whether name is that of a built-in verifier. A plugin may
// not be called so: its principals would be taken for the built-in one's.
func Reserved(name string) bool {
	return name == "token" || name == "certificate" || name == "claim" || name == AnonymousName
}

// Anonymous asks for no proof and lets everybody into the organisation that the
// policy names. All are the user "anonymous" of it, told apart by client ID
// alone. Whether the organisation exists and is in service is for the registry
// to say, of this principal as of any other.
//
// The zero Anonymous belongs to no organisation and is unavailable: a Set binds
// it to the one of the policy's answer.
type Anonymous struct{ org policy.OrgID }

// ForOrg is an Anonymous of org.
func (Anonymous) ForOrg(org policy.OrgID) Verifier { return Anonymous{org} }

// Verify does not look at the credential.
func (a Anonymous) Verify(context.Context, *Credential) (policy.Principal, error) {
	if a.org.IsZero() {
		return policy.Principal{}, &Refusal{
			Cause: policy.CauseUnavailable, Err: errors.New("anonymous needs an organisation"),
		}
	}
	return policy.Principal{Org: a.org, Kind: policy.KindUser, ID: AnonymousName, Verifier: AnonymousName}, nil
}
