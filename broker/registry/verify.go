package registry

import (
	"context"
	"errors"
	"strings"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// VerifierName is the Verifier of every principal that was verified by a
// credential of the registry. No other verifier may have this name.
const VerifierName = "token"

// TokenUser is the username of devices and gateways.
const TokenUser = "use-token-auth"

// TokenVerifier returns the verifier "token" for MQTT connections.
//
// A client identifier d:{org}:{type}:{id} or g:… with the username
// "use-token-auth" is a device or gateway, by its token. One of the form
// a:{org}:{app} or A:{org}:{app}[:{instance}] with an API key as username is an
// application, by the key's token. Anything else is plugins.ErrNotMine.
func (r *Registry) TokenVerifier() plugins.Verifier { return tokenVerifier{r} }

type tokenVerifier struct{ registry *Registry }

// claim is who somebody says they are, and by which credential.
type claim struct {
	policy.Principal
	credential credentialID
	foreign    bool // the credential is of another organisation than the claim
}

func (v tokenVerifier) Verify(ctx context.Context, c *plugins.Credential) (policy.Principal, error) {
	id, illFormed := parseClientID(string(c.Client.ID))
	keyOrg, isKey := parseAPIKey(c.Client.Username)
	switch id.kind {
	case policy.KindDevice, policy.KindGateway:
		if c.Client.Username != TokenUser {
			return policy.Principal{}, plugins.ErrNotMine
		}
	case policy.KindApplication:
		if !isKey {
			return policy.Principal{}, plugins.ErrNotMine
		}
	default:
		return policy.Principal{}, plugins.ErrNotMine
	}
	if illFormed != nil {
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseClientID, Err: illFormed}
	}
	who := claim{Principal: policy.Principal{Org: id.org, Kind: id.kind, Type: id.typ, ID: id.id, App: id.app, Unnamed: id.unnamed}}
	if id.kind == policy.KindApplication {
		who.APIKey = c.Client.Username
		who.credential = apiKeyCredential(who.APIKey)
		who.foreign = keyOrg != id.org
	} else {
		who.credential = deviceCredential(id.typ, id.id)
	}
	return v.registry.verify(ctx, who, c.Password)
}

// VerifyBasic verifies the username and password of an HTTP request: an API key
// with its token (an application whose App is the key), NAME@ORG with a
// password, or a gateway g/{org}/{type}/{id} (also with hyphens) with its
// token. The error is a *plugins.Refusal.
func (r *Registry) VerifyBasic(ctx context.Context, username string, password plugins.Secret) (policy.Principal, error) {
	if org, ok := parseAPIKey(username); ok {
		return r.verify(ctx, claim{
			Principal:  policy.Principal{Org: org, Kind: policy.KindApplication, App: policy.ID(username), APIKey: username},
			credential: apiKeyCredential(username),
		}, password)
	}
	if org, typ, id, ok := parseGatewayName(username); ok {
		return r.verify(ctx, claim{
			Principal:  policy.Principal{Org: org, Kind: policy.KindGateway, Type: typ, ID: id},
			credential: deviceCredential(typ, id),
		}, password)
	}
	if name, place, ok := strings.Cut(username, "@"); ok {
		user, nameErr := policy.ParseID("user", name)
		org, orgErr := policy.ParseOrgID(place)
		if nameErr == nil && orgErr == nil {
			return r.verify(ctx, claim{
				Principal:  policy.Principal{Org: org, Kind: policy.KindUser, ID: user},
				credential: userCredential(user),
			}, password)
		}
	}
	return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseUnknown}
}

// verify checks the token of a claim; the package comment says how, and why
// what is unknown is checked, too.
func (r *Registry) verify(ctx context.Context, who claim, token plugins.Secret) (policy.Principal, error) {
	cause := policy.CauseBad
	stored := credential{Current: proof{Hash: r.dummy.fast}}
	h, err := r.find(who.Org)
	switch {
	case errors.Is(err, store.ErrNotFound):
		cause = policy.CauseNoOrg
	case err != nil:
		return policy.Principal{}, unavailable(err)
	case who.foreign:
		cause = policy.CauseMismatch
	default:
		found, err := recall[credential](r, who.credential.key(h.scope))
		switch {
		case errors.Is(err, store.ErrNotFound):
			cause = policy.CauseUnknown
		case err != nil:
			return policy.Principal{}, unavailable(err)
		default:
			stored = found.Record
		}
	}
	isDevice := who.Kind == policy.KindDevice || who.Kind == policy.KindGateway
	version, ok, err := r.match(ctx, who, &stored, isDevice && h.Record.OwnTokens, token)
	if err != nil {
		return policy.Principal{}, unavailable(err)
	}
	if !ok || cause != policy.CauseBad {
		return policy.Principal{}, &plugins.Refusal{Cause: cause}
	}
	if stored.Claim != "" {
		if err := r.settle(ctx, who.Org, DeviceName{who.Type, who.ID}, version); err != nil {
			return policy.Principal{}, unavailable(err)
		}
	}
	p := who.Principal
	p.Incarnation = h.Record.Incarnation
	p.Verifier = VerifierName
	p.Credential = policy.CredentialID{ID: string(who.credential), Version: version}
	return r.Refresh(ctx, &p)
}

// match returns the version of the proof that token fits. With evenly, a
// failure costs one slow hash even if no proof needed one.
func (r *Registry) match(ctx context.Context, who claim, c *credential, evenly bool, token plugins.Secret) (version uint64, ok bool, err error) {
	presented := token.Reveal()
	if len(presented) > maxToken {
		presented = nil // fits nothing, since no secret is empty
	}
	for _, p := range c.proofs(r.now()) {
		if p.Hash.scheme == slow {
			evenly = false
			ok, err = r.matchSlow(ctx, who, p, presented)
		} else {
			ok = p.Hash.holds(presented)
		}
		if ok || err != nil {
			return p.Version, ok, err
		}
	}
	if evenly {
		_, err = r.matchSlow(ctx, who, proof{Hash: r.dummy.slow}, presented)
	}
	return 0, false, err
}

// matchSlow is one check of a slow hash, unless it is remembered.
func (r *Registry) matchSlow(ctx context.Context, who claim, p proof, presented []byte) (bool, error) {
	mark := r.checked.mark(who.credential, p.Version, presented)
	if r.checked.has(mark) {
		return true, nil
	}
	leave, err := r.gate.enter(ctx, who.Org)
	if err != nil {
		return false, err
	}
	defer leave()
	if !p.Hash.holds(presented) {
		return false, nil
	}
	r.checked.add(mark)
	return true, nil
}

// unavailable refuses because the answer could not be found.
func unavailable(err error) error { return &plugins.Refusal{Cause: policy.CauseUnavailable, Err: err} }
