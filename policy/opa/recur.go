package opa

import (
	"encoding/json"
	"net/netip"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// A fleet that reconnects asks what it asked before: the same principals, by the
// same records, under the same policy. Two memories of the engine answer that:
// which verifiers a credential of some form is for, and what connect said to a
// principal. Like every remembered answer these hold for one bundle, and are keyed
// in full by what the rules can read.

// clientFields is a set of what rules can read of input.client.
type clientFields uint8

const (
	readClientID clientFields = 1 << iota
	readUsername
	readProtocol
	readListener
	readAddress
	readTLS
	readOrg // not of the client: anything of input.org

	readClient = readOrg - 1
)

// clientNames maps the names below input.client. Read only.
var clientNames = map[string]clientFields{
	"id": readClientID, "username": readUsername, "protocol": readProtocol,
	"listener": readListener, "address": readAddress, "tls": readTLS,
}

// clientFieldsOf says what one reference that starts at input can read of the
// client.
func clientFieldsOf(ref ast.Ref) clientFields {
	if len(ref) < 2 {
		return readClient | readOrg
	}
	name, ok := ref[1].Value.(ast.String)
	switch {
	case !ok:
		return readClient | readOrg
	case name == "org":
		return readOrg
	case name != "client":
		return 0
	case len(ref) < 3:
		return readClient
	}
	field, ok := ref[2].Value.(ast.String)
	if !ok {
		return readClient
	}
	return clientNames[string(field)]
}

// clientKey is what the rules of one entry point can read of a client.
type clientKey struct {
	id                           policy.ClientID
	username, protocol, listener string
	address                      netip.Addr
	encrypted                    bool
	tlsVersion, sni              string
}

// askedKey is what the rules of verifiers can read.
type askedKey struct {
	client clientKey
	org    policy.OrgID
	orgKey
}

// orgKey is what is not the same for all clients of an organisation, beside its data.
type orgKey struct {
	level, list          string
	listed, registration bool
}

func keyOfOrg(o *policy.Organisation) orgKey {
	return orgKey{o.ConnectionLevel, o.AddressList, o.AddressListed, o.CertificateRegistration}
}

// askedBy is the key of a credential that c shows, which says that it is of org.
func (f clientFields) askedBy(c *policy.Client, org *policy.Organisation) (k askedKey, ok bool) {
	if k.client, ok = f.keyOf(c); !ok || org == nil || f&readOrg == 0 {
		return k, ok
	}
	k.org, k.orgKey = org.ID, keyOfOrg(org)
	return k, org.Data == nil
}

// keyOf is c as the rules see it; ok is false where that cannot be a key.
func (f clientFields) keyOf(c *policy.Client) (k clientKey, ok bool) {
	if f&readTLS != 0 && c.TLS != nil {
		if c.TLS.Cert != nil {
			return k, false
		}
		k.encrypted, k.tlsVersion, k.sni = true, c.TLS.Version, c.TLS.SNI
	}
	if f&readClientID != 0 {
		k.id = c.ID
	}
	if f&readUsername != 0 {
		k.username = c.Username
	}
	if f&readProtocol != 0 {
		k.protocol = c.Protocol
	}
	if f&readListener != 0 {
		k.listener = c.Listener
	}
	if f&readAddress != 0 {
		k.address = c.Address
	}
	return k, true
}

// holderKey is everything that a connect decision can be made from, beside the
// bundle. The records behind a principal are in it by their version, and what its
// verifier found beside them as text.
type holderKey struct {
	org         policy.OrgID
	incarnation uint64
	subject     policy.Subject
	credential  policy.CredentialID
	version     uint64
	expires     int64
	unnamed     bool
	registered  bool
	client      clientKey
	apiKey      string
	orgKey

	verifier, claims string
	and              policy.Proof
}

// maxClaims is how many bytes of claims, as JSON, are worth remembering.
const maxClaims = 2048

// holderOf is the key of f; ok is false for a principal without one.
func (f clientFields) holderOf(facts *policy.Facts) (k holderKey, ok bool) {
	p := facts.Principal
	if p == nil || facts.Org == nil || p.Version == 0 {
		return k, false
	}
	if p.Verifier != registryVerifier && (p.Roles != nil || p.Permissions != nil) {
		return k, false // no record that has a version says so
	}
	if p.Claims != nil {
		text, err := json.Marshal(p.Claims) // in the order of their names
		if err != nil || len(text) > maxClaims {
			return k, false
		}
		k.claims = string(text)
	}
	k.verifier, k.registered = p.Verifier, p.Registered
	k.client, ok = f.keyOf(facts.Client)
	k.org, k.incarnation, k.subject, k.credential, k.version = p.Org, p.Incarnation, p.Subject(), p.Credential, p.Version
	k.unnamed, k.apiKey, k.orgKey = p.Unnamed, p.APIKey, keyOfOrg(facts.Org)
	if p.And != nil {
		k.and = *p.And
		k.and.ExpiresAt = time.Time{} // in p's own
	}
	if !p.ExpiresAt.IsZero() {
		k.expires = p.ExpiresAt.UnixNano()
	}
	return k, ok
}

// registryVerifier is whose principals have the roles of their records. Whatever
// else the registry knows of a principal is in its version, whoever verified it.
const registryVerifier = "token"

// recurring are the answers of one bundle that may be given to others than whom
// they were made for.
type recurring struct {
	guarded struct {
		sync.RWMutex
		verifiers map[askedKey][]policy.VerifierRef
		connects  map[holderKey]*policy.Decision
	}
}

// Bounds of the two memories; a full one begins anew.
const (
	mostVerifiers = 4096
	mostConnects  = 32768
)

func (r *recurring) verifiersFor(k askedKey) ([]policy.VerifierRef, bool) {
	r.guarded.RLock()
	defer r.guarded.RUnlock()
	refs, ok := r.guarded.verifiers[k]
	return refs, ok
}

func (r *recurring) keepVerifiers(k askedKey, refs []policy.VerifierRef) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if r.guarded.verifiers == nil || len(r.guarded.verifiers) >= mostVerifiers {
		r.guarded.verifiers = make(map[askedKey][]policy.VerifierRef)
	}
	r.guarded.verifiers[k] = refs
}

func (r *recurring) connect(k holderKey) *policy.Decision {
	r.guarded.RLock()
	defer r.guarded.RUnlock()
	return r.guarded.connects[k]
}

func (r *recurring) keepConnect(k holderKey, d *policy.Decision) {
	r.guarded.Lock()
	defer r.guarded.Unlock()
	if r.guarded.connects == nil || len(r.guarded.connects) >= mostConnects {
		r.guarded.connects = make(map[holderKey]*policy.Decision)
	}
	r.guarded.connects[k] = d
}
