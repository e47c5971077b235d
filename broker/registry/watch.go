package registry

import (
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// ChangeKind says what a Change is about.
type ChangeKind uint8

// The closed set of changes.
const (
	// OrganisationChanged: created, edited or resumed. Judge it again.
	OrganisationChanged ChangeKind = iota + 1
	// OrganisationSuspended: no credential of it is accepted; its data stay.
	OrganisationSuspended
	// OrganisationDeleted: everything of this incarnation is gone.
	OrganisationDeleted
	// SubjectChanged: created, edited or enabled again. Judge again whoever saw
	// its record, or its absence.
	SubjectChanged
	// SubjectDisabled: none of its credentials is accepted; its sessions stay.
	SubjectDisabled
	// SubjectDeleted: everything of it is gone.
	SubjectDeleted
	// CredentialReplaced: Credential is dead from At on. Close the connections
	// that it opened.
	CredentialReplaced
	// OrganisationPolicyChanged: its own policy is another one, or gone.
	OrganisationPolicyChanged
	// RoleChanged: Role, which the organisation made, permits something else. Judge
	// again whoever has it.
	RoleChanged
	// AuthorityCreated: the organisation trusts Authority now.
	AuthorityCreated
	// AuthorityDeleted: it does not any more. Close the connections that certificates
	// of it opened.
	AuthorityDeleted
	// CertificatesRevoked: those on Revoked are dead. Close the connections that they
	// opened.
	CertificatesRevoked
	// ServerCertificateChanged: what the organisation's host names show is another one,
	// or gone. No connection is concerned.
	ServerCertificateChanged
	// GroupChanged: Group is gone, or a device was taken out of it. Judge again
	// whoever reaches it or is in it.
	GroupChanged
	// ClaimDeleted: Claim is gone. Close the connections that it opened.
	ClaimDeleted
)

func (k ChangeKind) String() string {
	switch k {
	case OrganisationChanged:
		return "organisation_changed"
	case OrganisationSuspended:
		return "organisation_suspended"
	case OrganisationDeleted:
		return "organisation_deleted"
	case SubjectChanged:
		return "subject_changed"
	case SubjectDisabled:
		return "subject_disabled"
	case SubjectDeleted:
		return "subject_deleted"
	case CredentialReplaced:
		return "credential_replaced"
	case OrganisationPolicyChanged:
		return "organisation_policy_changed"
	case RoleChanged:
		return "role_changed"
	case GroupChanged:
		return "group_changed"
	case ClaimDeleted:
		return "claim_deleted"
	case AuthorityCreated:
		return "authority_created"
	case AuthorityDeleted:
		return "authority_deleted"
	case ServerCertificateChanged:
		return "server_certificate_changed"
	case CertificatesRevoked:
		return "certificates_revoked"
	default:
		return "none"
	}
}

// Change is one committed change. For an organisation only Kind, Org and
// Incarnation count.
type Change struct {
	Kind        ChangeKind
	Org         policy.OrgID
	Incarnation uint64 // of the organisation

	// The subject: a device or gateway by Type, ID and DeviceIncarnation, all
	// applications of an API key by APIKey, a user by ID.
	PrincipalKind     policy.PrincipalKind
	Type, ID          policy.ID
	DeviceIncarnation uint64
	APIKey            string
	Role              string            // RoleChanged
	Group             string            // GroupChanged
	Claim             policy.ID         // ClaimDeleted
	Authority         policy.ID         // AuthorityCreated, AuthorityDeleted
	Revoked           *certificate.List // CertificatesRevoked

	// CredentialReplaced: the one that is dead, and since when. A zero At is now;
	// else it is the end of the grace, in the future, when nobody is told again:
	// Refresh shows it as ExpiresAt.
	Credential policy.CredentialID
	At         time.Time
}

// Watch registers fn, which is called with every change after its commit and
// before the call that made it returns, one change at a time. fn must return
// soon and may read the registry, but neither write to it nor close it. cancel
// may be called from anywhere and more than once; a call of fn that is under
// way goes on.
func (r *Registry) Watch(fn func(Change)) (cancel func()) {
	return r.WatchCommits(func(changes []Change) {
		for _, change := range changes {
			fn(change)
		}
	})
}

// WatchCommits is Watch with all changes of one commit in one call: a bulk call has
// hundreds. fn must not keep the slice, nor change it.
func (r *Registry) WatchCommits(fn func([]Change)) (cancel func()) { return r.watchers.add(fn) }

type watcher struct{ fn func([]Change) }

type watchers struct {
	registered struct {
		sync.Mutex
		list []*watcher // never changed in place
	}
}

func (w *watchers) add(fn func([]Change)) (cancel func()) {
	added := &watcher{fn}
	w.registered.Lock()
	defer w.registered.Unlock()
	w.registered.list = append(slices.Clip(w.registered.list), added)
	return func() { w.remove(added) }
}

func (w *watchers) remove(gone *watcher) {
	w.registered.Lock()
	defer w.registered.Unlock()
	w.registered.list = slices.DeleteFunc(slices.Clone(w.registered.list), func(other *watcher) bool { return other == gone })
}

func (w *watchers) tell(changes []Change) {
	if len(changes) == 0 {
		return
	}
	w.registered.Lock()
	list := w.registered.list
	w.registered.Unlock()
	for _, watcher := range list {
		watcher.fn(changes)
	}
}
