package policy

import (
	"encoding"
	"fmt"
	"time"
)

// OrgID is an organisation's identifier: 3 to 20 of [a-z0-9], such as "acme01".
type OrgID struct{ s string }

var (
	_ encoding.TextMarshaler   = OrgID{}
	_ encoding.TextUnmarshaler = (*OrgID)(nil)
)

// ParseOrgID checks s. The name "quickstart" is reserved.
func ParseOrgID(s string) (OrgID, error) {
	if len(s) < 3 || len(s) > 20 || s == "quickstart" {
		return OrgID{}, &Error{Kind: KindInvalid, Field: "org", Public: "an organisation is 3 to 20 of a-z and 0-9"}
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return OrgID{}, &Error{Kind: KindInvalid, Field: "org", Public: "an organisation is 3 to 20 of a-z and 0-9"}
		}
	}
	return OrgID{s}, nil
}

func (o OrgID) String() string { return o.s }

// IsZero reports whether o was never parsed.
func (o OrgID) IsZero() bool { return o.s == "" }

// MarshalText writes the identifier itself.
func (o OrgID) MarshalText() ([]byte, error) { return []byte(o.s), nil }

// UnmarshalText parses like [ParseOrgID].
func (o *OrgID) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOrgID(string(b))
	return err
}

// ID names a device type, device, application or user inside an organisation:
// 1 to 36 of [A-Za-z0-9_.-], such as "sensor" or "d1". None of these characters
// means anything in a topic, so an ID cannot widen a topic it is put into.
type ID string

// ParseID checks s; field is what the error calls it.
func ParseID(field, s string) (ID, error) {
	ok := len(s) >= 1 && len(s) <= 36
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
	}
	if !ok {
		return "", &Error{Kind: KindInvalid, Field: field, Public: "must be 1 to 36 of a-z, A-Z, 0-9, '_', '.' and '-'"}
	}
	return ID(s), nil
}

// PrincipalKind is the closed set of who can be verified.
type PrincipalKind uint8

// The zero kind is nobody.
const (
	KindNobody PrincipalKind = iota
	KindDevice
	KindGateway
	KindApplication
	KindUser
	KindSystem // the broker itself; made only inside it
)

func (k PrincipalKind) String() string {
	switch k {
	case KindDevice:
		return "device"
	case KindGateway:
		return "gateway"
	case KindApplication:
		return "application"
	case KindUser:
		return "user"
	case KindSystem:
		return "system"
	default:
		return "nobody"
	}
}

// Principal is a verified identity. It is made by a verifier and immutable
// afterwards.
type Principal struct {
	Org         OrgID
	Incarnation uint64 // of the organisation: a namesake created later has another
	Kind        PrincipalKind
	Type        ID     // device type; devices and gateways only
	ID          ID     // device or gateway id, user name; empty for an application
	App         ID     // application id; applications only
	APIKey      string // the key that was shown, such as "a-acme01-0123456789"
	Roles       []string
	Permissions []string
	// Groups are the resource groups that it reaches, not those that it is in, and
	// Restricted says that it reaches nothing but their devices: none, where there
	// are no groups. Whoever is not restricted reaches every device of the
	// organisation.
	Groups     []string
	Restricted bool
	MemberOf   []string       // resource groups that it is in itself; devices and gateways
	Claims     map[string]any // what a plugin found in the token; JSON values
	Metadata   map[string]any // the registry's, of the device; JSON values
	Verifier   string         // "token", "certificate", "anonymous" or a plugin's name
	Registered bool           // the registry knows this subject
	ExpiresAt  time.Time      // zero: never
	Credential CredentialID
	// And is the second proof, where there were two. The principal stands as long as
	// both do.
	And *Proof
	// Unnamed says that its client ID names nobody in particular: any number of
	// connections may use it at once. Each has a session of its own, which ends
	// with it and is never taken over.
	Unnamed bool
	// DeviceIncarnation tells a device from a namesake registered after it was
	// deleted. Zero for anybody else.
	DeviceIncarnation uint64
	// Version changes whenever a registry record that this Principal was made
	// from changes.
	Version uint64
}

// Proof is one that a principal was verified by beside its Credential.
type Proof struct {
	Verifier   string // "certificate"
	Credential CredentialID
	ExpiresAt  time.Time // zero: never
}

// CredentialID names the proof a principal was verified by, never the proof
// itself. Closing a credential closes exactly the connections it opened.
type CredentialID struct {
	ID      string // such as "device/sensor/d1" or "apikey/a-acme01-0123456789"
	Version uint64 // grows each time the secret is replaced
}

// Subject says who owns a session. It is comparable: the same client ID under
// another subject is another session, so nobody inherits somebody else's queue.
type Subject struct {
	Kind        PrincipalKind
	Owner, Name string
	Incarnation uint64
}

// Subject derives the owner of p's sessions: type and id for a device or
// gateway, API key (or verifier) and application id for an application, the
// name for a user.
func (p *Principal) Subject() Subject {
	switch p.Kind {
	case KindDevice, KindGateway:
		return Subject{p.Kind, string(p.Type), string(p.ID), p.DeviceIncarnation}
	case KindApplication:
		owner := p.APIKey
		if owner == "" {
			owner = p.Verifier
		}
		return Subject{p.Kind, owner, string(p.App), 0}
	default:
		return Subject{p.Kind, p.Verifier, string(p.ID), 0}
	}
}

func (s Subject) String() string { return fmt.Sprintf("%s:%s/%s", s.Kind, s.Owner, s.Name) }

// Expired reports whether p's proof has run out at now.
func (p *Principal) Expired(now time.Time) bool {
	return !p.ExpiresAt.IsZero() && !now.Before(p.ExpiresAt)
}
