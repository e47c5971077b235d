package broker

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// A connect decision may deny because the client is not registered, and say so: see
// policy.Decision.Register. The broker then has the client registered that a verifier
// vouched for, and asks again, once. It happens on the goroutine of the connection or
// call, which holds no lock but its own; of each organisation a bounded number is under way, and
// what failed is not tried again for a while.

// Enroller is a Registry that can register clients that it does not know.
type Enroller interface {
	// Enrol registers the device or gateway that p is, as a whole or not at all. The
	// error is a *policy.Error, of the kinds that those of [Registrar] have.
	Enrol(ctx context.Context, p *policy.Principal) error
}

// enrolForget is when a failure may be tried again.
const enrolForget = time.Minute

// enrolling is who has all registrations of an organisation's clients under way.
func enrolling() policy.Subject { return policy.Subject{Kind: policy.KindSystem} }

// Connections is a Registry that knows what organisations demand of connections.
type Connections interface {
	// ConnectionFacts are OrganisationFacts of p's organisation, for this client.
	ConnectionFacts(ctx context.Context, p *policy.Principal, client *policy.Client) (*policy.Organisation, error)
	// ClaimedFacts are those that a client which nobody has verified is judged by:
	// without the organisation's data, and nil where the client names none.
	ClaimedFacts(ctx context.Context, client *policy.Client) (*policy.Organisation, error)
}

// factsOf are those that p is judged by.
func (b *Broker) factsOf(ctx context.Context, p *policy.Principal, client *policy.Client) (*policy.Organisation, error) {
	if known, ok := b.registry.(Connections); ok {
		return known.ConnectionFacts(ctx, p, client)
	}
	return b.registry.OrganisationFacts(ctx, p.Org)
}

// claimed are the facts by which verifiers are chosen; nil: there are none.
func (b *Broker) claimed(ctx context.Context, client *policy.Client) (*policy.Organisation, error) {
	if known, ok := b.registry.(Connections); ok {
		return known.ClaimedFacts(ctx, client)
	}
	return nil, nil
}

// admitted is stand for one who connects: whom the policy wants registered first is
// registered, and asked about again. What it returns has a principal of its own.
func (b *Broker) admitted(ctx context.Context, sp *space, p *policy.Principal, client *policy.Client) (*standing, *refusal) {
	st, err := b.stand(ctx, sp, p, client)
	if err != nil {
		return nil, refused(policy.CauseUnavailable, err.Error())
	}
	if st.connect.Allow || !st.connect.Register || p.Registered {
		return st, nil
	}
	registrar, ok := b.registry.(Enroller)
	if !ok || p.Kind != policy.KindDevice && p.Kind != policy.KindGateway {
		return st, nil
	}
	if r := sp.enrol(ctx, registrar, st); r != nil {
		return nil, r
	}
	now, err := b.registry.Refresh(ctx, p)
	if err != nil {
		return nil, refused(plugins.CauseOf(err), err.Error())
	}
	if st, err = b.stand(ctx, sp, &now, client); err != nil {
		return nil, refused(policy.CauseUnavailable, err.Error())
	}
	return st, nil
}

// enrol has the principal of st registered. A refusal says why it is not.
func (sp *space) enrol(ctx context.Context, registrar Enroller, st *standing) *refusal {
	p := st.principal
	a := attachment{enrolling(), deviceName{p.Type, p.ID}}
	failed := sp.enrolments.begin(a, time.Now())
	switch {
	case failed == nil:
	case failed.until.IsZero():
		return refused(policy.CauseUnavailable, "too many registrations at once") // it may come again
	default:
		return unenrolled(st, failed, "not tried")
	}
	// Whatever becomes of the connection: what is begun has an outcome.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attachTime)
	defer cancel()
	defer func() { sp.enrolments.end(a, failed, time.Now()) }()
	failed = &failedAttachment{code: ClosedUnavailable, public: policy.CauseUnavailable.Public()} // and where it panics
	err := registrar.Enrol(ctx, p)
	if err == nil || policy.KindOf(err) == policy.KindExists {
		failed = nil
		sp.epoch.Add(1) // nothing that was looked up before holds
		return nil
	}
	now := time.Now()
	if failed = failedAttachmentOf(err, now); failed.until.IsZero() {
		return refused(policy.CauseUnavailable, err.Error())
	}
	failed.until = now.Add(enrolForget)
	return unenrolled(st, failed, err.Error())
}

// unenrolled is the denial of st, with why nothing was registered for the log.
func unenrolled(st *standing, f *failedAttachment, detail string) *refusal {
	r := denied(policy.ActionConnect, st.connect, "")
	r.detail = joinDetail(joinDetail(r.detail, "not registered: "+detail), f.public)
	return r
}
