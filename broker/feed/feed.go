package feed

import (
	"context"
	"slices"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// Registry is the registry as the broker asks it: a broker.Registry.
type Registry struct{ *registry.Registry }

var (
	_ broker.Registry    = Registry{}
	_ broker.Registrar   = Registry{}
	_ broker.Enroller    = Registry{}
	_ broker.Connections = Registry{}
	_ broker.Provider    = Registry{}
)

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

// Attach registers a device behind a gateway.
func (r Registry) Attach(ctx context.Context, gateway *policy.Principal, typ, id policy.ID) error {
	_, err := r.RegisterBehind(ctx, gateway.Org, registry.DeviceName{Type: gateway.Type, ID: gateway.ID}, registry.DeviceName{Type: typ, ID: id})
	return err
}

// Enrol registers the device or gateway that a certificate or a claim stands for.
func (r Registry) Enrol(ctx context.Context, p *policy.Principal) error {
	if p.Verifier == registry.ClaimVerifierName {
		_, err := r.SpendClaim(ctx, p)
		return err
	}
	_, err := r.RegisterCertified(ctx, p)
	return err
}

// Handover is a token of its own for a device that was verified by a claim.
func (r Registry) Handover(p *policy.Principal) (broker.Handover, bool) {
	if p.Verifier != registry.ClaimVerifierName || !p.Registered {
		return broker.Handover{}, false
	}
	return provisioning(r.Registry, p)
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
			return (p.Verifier == registry.VerifierName || p.Kind == policy.KindGateway) && slices.Contains(p.Roles, ch.Role)
		}
	case registry.GroupChanged:
		out.Effect = broker.Rejudge
		out.Match = func(p *policy.Principal) bool {
			return slices.Contains(p.Groups, ch.Group) || slices.Contains(p.MemberOf, ch.Group)
		}
	case registry.AuthorityCreated, registry.ServerCertificateChanged:
		// Nobody has a certificate of the one, and the other is for handshakes to come.
		out.Match = func(*policy.Principal) bool { return false }
	case registry.AuthorityDeleted:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = byCertificate(func(p certificate.Proof) bool { return p.Authority == ch.Authority })
	case registry.CertificatesRevoked:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = byCertificate(func(p certificate.Proof) bool { return p.On(ch.Revoked) })
	case registry.ClaimDeleted:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = func(p *policy.Principal) bool {
			id, ok := registry.ClaimOf(p.Credential)
			return p.Verifier == registry.ClaimVerifierName && ok && id == ch.Claim
		}
	case registry.CredentialReplaced:
		out.Effect, out.Cause = broker.Disconnect, policy.CauseRevoked
		out.Match = func(p *policy.Principal) bool { return p.Credential == ch.Credential }
	}
	return out
}

// Changes says what the changes of one commit mean. Those of many devices become one,
// so that the sessions of an organisation are looked through once, and not once for
// each; and so do those of many groups.
func Changes(list []registry.Change) (all []broker.Change) {
	for len(list) > 0 {
		if n := groupsIn(list); n > 1 {
			all = append(all, groupsTogether(list[:n]))
			list = list[n:]
			continue
		}
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

// groupsIn is how many changes of groups of one organisation list begins with.
func groupsIn(list []registry.Change) int {
	n := slices.IndexFunc(list, func(ch registry.Change) bool {
		return ch.Kind != registry.GroupChanged || ch.Org != list[0].Org || ch.Incarnation != list[0].Incarnation
	})
	if n < 0 {
		return len(list)
	}
	return n
}

func groupsTogether(list []registry.Change) broker.Change {
	changed := make(map[string]bool, len(list))
	for _, ch := range list {
		changed[ch.Group] = true
	}
	out := Change(list[0])
	out.Match = func(p *policy.Principal) bool {
		is := func(group string) bool { return changed[group] }
		return slices.ContainsFunc(p.Groups, is) || slices.ContainsFunc(p.MemberOf, is)
	}
	return out
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

// byCertificate selects principals by the certificate that they were verified by.
func byCertificate(match func(certificate.Proof) bool) func(*policy.Principal) bool {
	return func(p *policy.Principal) bool {
		credential := p.Credential.ID
		switch {
		case p.And != nil && p.And.Verifier == certificate.Name:
			credential = p.And.Credential.ID
		case p.Verifier != certificate.Name:
			return false
		}
		proof, ok := certificate.ParseProof(credential)
		return !ok || match(proof)
	}
}
