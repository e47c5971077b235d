package policy

import "context"

// Generation numbers the live bundle of one Decider. It grows with every
// activation and is never reused while the process runs.
type Generation uint64

// Decider is the decision point.
type Decider interface {
	// Verifiers says which verifiers to ask, in this order, for an unverified
	// credential. The error is a failed evaluation, and refuses the credential.
	Verifiers(ctx context.Context, c *Client) ([]VerifierRef, error)
	// Judge makes the judge of one holder of facts.
	Judge(f *Facts) Judge
	// Generation is that of the live bundle.
	Generation() Generation
	// Decides reports whether the live bundle has a rule for a: only receive may
	// be absent without denying everything.
	Decides(a Action) bool
}

// Judge decides for one holder and remembers what it decided, for as long as
// the live bundle stays the same. It is safe for concurrent use.
type Judge interface {
	// Decide answers r. The Decision is never nil, is shared, and may not be
	// changed. A remembered answer allocates nothing.
	Decide(ctx context.Context, r *Request) *Decision
}

// VerifierRef names one configured verifier, as cordon.connect.verifiers does.
type VerifierRef struct {
	Verifier string // "token", "certificate", "plugin", "anonymous"
	Name     string // of a plugin
	Org      OrgID  // of anonymous
}
