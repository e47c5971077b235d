package feed

import (
	"context"
	"slices"

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
			out.Deleted = func(typ, id policy.ID) bool { return typ == ch.Type && id == ch.ID }
		}
	case registry.OrganisationPolicyChanged:
		// Nobody yet: it is not live. Whoever makes it live has the sessions judged.
		out.Match = func(*policy.Principal) bool { return false }
	case registry.RoleChanged:
		out.Effect = broker.Rejudge
		out.Match = func(p *policy.Principal) bool {
			return p.Verifier == registry.VerifierName && slices.Contains(p.Roles, ch.Role)
		}
	case registry.CredentialReplaced:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = func(p *policy.Principal) bool { return p.Credential == ch.Credential }
	}
	return out
}

// Changes says what the changes of one commit mean. Those of many devices become one,
// so that the sessions of an organisation are looked through once, and not once for each.
func Changes(list []registry.Change) (all []broker.Change) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && alike(&list[0], &list[n]) {
			n++
		}
		if n == 1 {
			all = append(all, Change(list[0]))
		} else {
			all = append(all, together(list[:n]))
		}
		list = list[n:]
	}
	return all
}

// alike reports whether a and b are about devices of one organisation and mean the
// same to them.
func alike(a, b *registry.Change) bool {
	return isDevice(a.PrincipalKind) && isDevice(b.PrincipalKind) && a.Kind == b.Kind && a.Kind != registry.CredentialReplaced &&
		a.Org == b.Org && a.Incarnation == b.Incarnation
}

func isDevice(kind policy.PrincipalKind) bool {
	return kind == policy.KindDevice || kind == policy.KindGateway
}

// together is one change of several that are alike.
func together(list []registry.Change) broker.Change {
	type name struct{ typ, id policy.ID }
	kinds := make(map[name]policy.PrincipalKind, len(list))
	for _, ch := range list {
		kinds[name{ch.Type, ch.ID}] = ch.PrincipalKind
	}
	out := Change(list[0])
	out.Match = func(p *policy.Principal) bool {
		return isDevice(p.Kind) && kinds[name{p.Type, p.ID}] == p.Kind
	}
	if out.Deleted != nil {
		out.Deleted = func(typ, id policy.ID) bool { return kinds[name{typ, id}] != policy.KindNobody }
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
