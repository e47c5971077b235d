package policy

import "context"

// Generation numbers what one Judge answers from: the platform's bundle and, where
// there is one, that of its organisation. It grows with every activation of either
// and is never reused while the process runs. All judges of one organisation have
// the same.
type Generation uint64

// Decider is the decision point.
type Decider interface {
	// Verifiers says which verifiers to ask, in this order, for an unverified
	// credential. Org is the organisation that the client identifier names, without its
	// data, and nil where it names none: nothing of it is verified. The error is a failed
	// evaluation, and refuses the credential.
	Verifiers(ctx context.Context, c *Client, org *Organisation) ([]VerifierRef, error)
	// Judge makes the judge of one holder of facts.
	Judge(f *Facts) Judge
}

// Judge decides for one holder and remembers what it decided, for as long as
// what it answers from stays the same. It is safe for concurrent use.
type Judge interface {
	// Decide answers r. The Decision is never nil, is shared, and may not be
	// changed. A remembered answer allocates nothing.
	Decide(ctx context.Context, r *Request) *Decision
	// Generation numbers what a Decide that starts now answers from, or from
	// something later. It is cheap: it is asked with every packet.
	Generation() Generation
	// Decides reports whether there is a rule for a now that is about this holder:
	// only receive may be absent without denying everything.
	Decides(a Action) bool
}

// VerifierRef names one configured verifier, as cordon.connect.verifiers does.
type VerifierRef struct {
	Verifier string // "token", "certificate", "plugin", "anonymous"
	Name     string // of a plugin
	Org      OrgID  // of anonymous
	// And is "certificate", beside a token or a plugin: that verifier is asked, too, and
	// has to find the same principal. Empty: one proof is enough.
	And string
}
