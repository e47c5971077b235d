package feed

import (
	"context"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Registry is the registry as the broker asks it: a broker.Registry.
type Registry struct{ *registry.Registry }

var _ broker.Registry = Registry{}

// SessionQuotas picks what the broker enforces.
func (r Registry) SessionQuotas(ctx context.Context, org policy.OrgID) (broker.Quotas, error) {
	o, err := r.Organisation(ctx, org)
	if err != nil {
		return broker.Quotas{}, err
	}
	return broker.Quotas{
		Connections: o.Quotas.Connections, Sessions: o.Quotas.Sessions,
		Subscriptions: o.Quotas.Subscriptions, RetainedBytes: o.Quotas.RetainedBytes,
		PublishRate: o.Quotas.PublishRate, StoredBytes: o.Quotas.StoredBytes, EvaluationsRate: o.Quotas.EvaluationsRate,
	}, nil
}

// Change says what a committed change means for live sessions.
func Change(ch registry.Change) broker.Change {
	out := broker.Change{Org: ch.Org, Incarnation: ch.Incarnation, Match: subjectOf(ch), At: ch.At}
	switch ch.Kind {
	case registry.OrganisationChanged, registry.SubjectChanged:
		out.Effect = broker.Rejudge
	case registry.OrganisationSuspended:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseDisabled
	case registry.OrganisationDeleted:
		out.Effect, out.Cause, out.Gone = broker.Purge, policy.CauseRevoked, true
	case registry.SubjectDisabled:
		out.Effect, out.Cause = broker.Purge, policy.CauseDisabled
	case registry.SubjectDeleted:
		out.Effect, out.Cause = broker.Purge, policy.CauseRevoked
		if ch.PrincipalKind == policy.KindDevice || ch.PrincipalKind == policy.KindGateway {
			out.Type, out.ID = ch.Type, ch.ID
		}
	case registry.CredentialReplaced:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = func(p *policy.Principal) bool { return p.Credential == ch.Credential }
	}
	return out
}

// subjectOf selects the principals that a change is about; nil is everybody.
func subjectOf(ch registry.Change) func(*policy.Principal) bool {
	switch {
	case ch.APIKey != "":
		return func(p *policy.Principal) bool { return p.APIKey == ch.APIKey }
	case ch.PrincipalKind == policy.KindDevice || ch.PrincipalKind == policy.KindGateway:
		return func(p *policy.Principal) bool {
			return p.Kind == ch.PrincipalKind && p.Type == ch.Type && p.ID == ch.ID
		}
	case ch.PrincipalKind == policy.KindUser:
		return func(p *policy.Principal) bool {
			return p.Kind == policy.KindUser && p.ID == ch.ID && p.Verifier == registry.VerifierName
		}
	default:
		return nil
	}
}
