package plugins

import (
	"context"
	"errors"

	"github.com/cordon-mq/cordon/policy"
)

// The three ways a verifier says no. Test with errors.Is.
var (
	// ErrNotMine: this credential is of a form the verifier does not check; ask the next.
	ErrNotMine = errors.New("not a credential of this verifier")
	// ErrBad: it is of the verifier's form, and it does not hold.
	ErrBad = errors.New("credential refused")
	// ErrUnavailable: the verifier cannot say now.
	ErrUnavailable = errors.New("verifier unavailable")
)

// Verifier checks credentials of one form.
type Verifier interface {
	// Verify returns the verified principal, or an error that is one of the three
	// sentinels or a [Refusal]. It is safe for concurrent use, does not keep the
	// credential, and takes the same time for an unknown name as for a wrong secret.
	Verify(ctx context.Context, c *Credential) (policy.Principal, error)
}

// OrgVerifier is a Verifier that serves the organisation that the policy names
// beside it.
type OrgVerifier interface {
	Verifier
	// ForOrg returns the verifier of org's principals and no other's. It is cheap,
	// for it is asked at every connect.
	ForOrg(org policy.OrgID) Verifier
}

// Refusal is ErrBad or ErrUnavailable with the cause for the log. It never
// holds a secret.
type Refusal struct {
	Cause policy.Cause
	Err   error // further detail for the log; may be nil
}

func (r *Refusal) Error() string {
	if r.Err == nil {
		return "credential refused: " + string(r.Cause)
	}
	return "credential refused: " + string(r.Cause) + ": " + r.Err.Error()
}

// Unwrap makes errors.Is work for the sentinel and for the detail.
func (r *Refusal) Unwrap() []error {
	sentinel := ErrBad
	if r.Cause == policy.CauseUnavailable || r.Cause == policy.CauseRevocation {
		sentinel = ErrUnavailable
	}
	if r.Err == nil {
		return []error{sentinel}
	}
	return []error{sentinel, r.Err}
}

// CauseOf is the cause that err carries: the Refusal's, or one that fits the sentinel.
func CauseOf(err error) policy.Cause {
	var r *Refusal
	switch {
	case err == nil:
		return policy.CauseNone
	case errors.As(err, &r):
		return r.Cause
	case errors.Is(err, ErrNotMine):
		return policy.CauseUnknown
	case errors.Is(err, ErrBad):
		return policy.CauseBad
	default:
		return policy.CauseUnavailable
	}
}
