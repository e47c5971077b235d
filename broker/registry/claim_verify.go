package registry

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// ClaimVerifierName is the Verifier of every principal that was verified by the token
// of a claim. No other verifier may have this name.
const ClaimVerifierName = "claim"

// claimUser is the username of who shows one.
const claimUser = "use-claim-token"

// ClaimVerifier returns the verifier "claim" for devices that are to be registered.
//
// A client identifier d:{org}:{type}:{id} with the username "use-claim-token" is a
// device, by the token of a claim. It is not registered, unless the claim was spent
// on it and it has not used its own token yet: no claim is for a device that somebody
// else registered, or that has one. Anything else is plugins.ErrNotMine.
func (r *Registry) ClaimVerifier() plugins.Verifier { return claimVerifier{r} }

type claimVerifier struct{ registry *Registry }

func (v claimVerifier) Verify(ctx context.Context, c *plugins.Credential) (policy.Principal, error) {
	id, illFormed := parseClientID(string(c.Client.ID))
	switch {
	case c.Client.Username != claimUser || id.kind != policy.KindDevice:
		return policy.Principal{}, plugins.ErrNotMine
	case illFormed != nil:
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseClientID, Err: illFormed}
	}
	return v.registry.verifyClaim(ctx, id.org, DeviceName{id.typ, id.id}, c.Password)
}

// verifyClaim checks the token of a claim, as verify does any other: what is unknown
// costs the same fast hash as what is wrong.
func (r *Registry) verifyClaim(ctx context.Context, org policy.OrgID, name DeviceName, token plugins.Secret) (policy.Principal, error) {
	cause := policy.CauseBad
	stored := credential{Current: proof{Hash: r.dummy.fast}}
	var found stamped[Claim]
	id, text := splitClaim(token)
	h, err := r.find(org)
	switch {
	case errors.Is(err, store.ErrNotFound):
		cause = policy.CauseNoOrg
	case err != nil:
		return policy.Principal{}, unavailable(err)
	case id == "":
		cause = policy.CauseUnknown
	default:
		known, err := recall[credential](r, claimCredential(id).key(h.scope))
		if err == nil {
			found, err = load[Claim](r.store, claimKey(h.scope, id))
		}
		switch {
		case errors.Is(err, store.ErrNotFound):
			cause = policy.CauseUnknown
		case err != nil:
			return policy.Principal{}, unavailable(err)
		default:
			stored = known.Record
		}
	}
	if ok := stored.Current.Hash.holds(text); !ok || cause != policy.CauseBad {
		return policy.Principal{}, &plugins.Refusal{Cause: cause}
	}
	p := policy.Principal{
		Org: org, Incarnation: h.Record.Incarnation, Kind: policy.KindDevice, Type: name.Type, ID: name.ID,
		Verifier:   ClaimVerifierName,
		Credential: policy.CredentialID{ID: claimedCredential(id, name), Version: found.Record.Incarnation},
	}
	return r.Refresh(ctx, &p)
}

// splitClaim is the claim that a token names, and its secret; no claim if it is of
// another form.
func splitClaim(token plugins.Secret) (policy.ID, []byte) {
	text := token.Reveal()
	if len(text) != claimIDLength+1+generatedToken || text[claimIDLength] != '-' || !isClaimID(string(text[:claimIDLength])) {
		return "", nil
	}
	return policy.ID(text[:claimIDLength]), text[claimIDLength+1:]
}

// refreshClaim holds p, which a claim is behind, against the claim and the device as
// they are now.
func (r *Registry) refreshClaim(h home, p *policy.Principal, now time.Time) error {
	id, ok := ClaimOf(p.Credential)
	if !ok {
		return store.ErrNotFound
	}
	found, err := load[Claim](r.store, claimKey(h.scope, id))
	if err != nil {
		return err
	}
	c := &found.Record
	no := func(cause policy.Cause, why string) error {
		return &plugins.Refusal{Cause: cause, Err: errors.New(why)}
	}
	switch {
	case c.Incarnation != p.Credential.Version:
		return store.ErrNotFound // a namesake
	case c.EndedAt(now):
		return &plugins.Refusal{Cause: policy.CauseExpired}
	case !c.admits(DeviceName{p.Type, p.ID}):
		return no(policy.CauseMismatch, "the claim is for devices of another type or name")
	case p.Registered:
		own, err := recall[credential](r, deviceCredential(p.Type, p.ID).key(h.scope))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if own.Record.Claim != id {
			return no(policy.CauseRevoked, "the device is registered, and the claim is not for it")
		}
	case c.Left == 0:
		return no(policy.CauseRevoked, "the claim is spent")
	}
	p.ExpiresAt = c.Expires
	p.Claims = map[string]any{"claim": string(id), "typeId": string(c.Type)}
	if c.Prefix != "" {
		p.Claims["deviceIdPrefix"] = string(c.Prefix)
	}
	return nil
}

// registeredByClaim is what a device that was registered so says of its origin.
func registeredByClaim(id policy.ID) string { return strings.Join([]string{"claim", string(id)}, "/") }

// claimCounts is what claims did since the registry was opened.
type claimCounts struct{ spent, handed atomic.Uint64 }

// Claimed is how many devices were registered by claims, and how many tokens were
// handed over to devices that showed one, since the registry was opened.
func (r *Registry) Claimed() (devices, tokens uint64) {
	return r.claims.spent.Load(), r.claims.handed.Load()
}

// SpendClaim registers the device that p, verified by the token of a claim, is, and
// spends the claim on it, in one commit. Nobody knows the device's token until
// HandOver makes another one. Whether it may be registered is for others to say.
//
// The error is policy.KindForbidden for a claim that does not stand or is spent,
// policy.KindExists for a device that there is.
func (r *Registry) SpendClaim(ctx context.Context, p *policy.Principal) (Device, error) {
	unknown := r.generate(generatedToken)
	var made Device
	err := r.write(ctx, "register device by a claim", creation, func(w *writing) error {
		h, c, err := w.standingClaim(p)
		if err != nil {
			return err
		}
		if c.Left == 0 {
			return &policy.Error{Kind: policy.KindForbidden, Public: "the claim is spent"}
		}
		if err := w.claimable(h, p.Type); err != nil {
			return err
		}
		if made, err = w.createDevice(h, Device{Type: p.Type, ID: p.ID, CreatedBy: registeredByClaim(c.ID)}); err != nil {
			return err
		}
		c.Left--
		return errors.Join(
			save(w, claimKey(h.scope, c.ID), *c),
			save(w, deviceCredential(p.Type, p.ID).key(h.scope), w.claimed(c, unknown)),
		)
	})
	if err == nil {
		r.claims.spent.Add(1)
	}
	return made, err
}

// claimed is the credential of a device that has not used it yet.
func (w *writing) claimed(c *Claim, fresh secret) credential {
	return credential{Current: proof{Version: w.stamp, Hash: fresh.hash, Created: w.now}, Claim: c.ID}
}

// standingClaim is the claim behind p, if it stands at this moment.
func (w *writing) standingClaim(p *policy.Principal) (home, *Claim, error) {
	no := func(h home, why string) (home, *Claim, error) {
		return h, nil, &policy.Error{Kind: policy.KindForbidden, Public: why}
	}
	h, err := w.registry.homeOf(p.Org)
	if err != nil {
		return h, nil, err
	}
	id, ok := ClaimOf(p.Credential)
	if p.Verifier != ClaimVerifierName || !ok || p.Incarnation != h.Record.Incarnation || h.Record.Suspended {
		return no(h, "no claim is behind it")
	}
	found, err := load[Claim](w, claimKey(h.scope, id))
	if errors.Is(err, store.ErrNotFound) {
		return no(h, "there is no such claim any more")
	}
	if err != nil {
		return h, nil, err
	}
	c := &found.Record
	if c.Incarnation != p.Credential.Version || c.EndedAt(w.now) || !c.admits(DeviceName{p.Type, p.ID}) {
		return no(h, "the claim does not stand")
	}
	return h, c, nil
}

// HandOver gives the device that p is a token of its own, and returns it: it can
// never be read again. Where an earlier one was handed over and not used, that is
// void. The token is on disk, hashed, when this returns. The error is
// policy.KindForbidden where the claim that verified p does not stand any more or was
// not spent on the device, and once the device has used a token of its own.
func (r *Registry) HandOver(ctx context.Context, p *policy.Principal) (string, error) {
	fresh := r.generate(generatedToken)
	err := r.write(ctx, "hand over token", removal, func(w *writing) error {
		h, c, err := w.standingClaim(p)
		if err != nil {
			return err
		}
		device, err := load[Device](w, deviceKey(h.scope, p.Type, p.ID))
		if err != nil {
			return missing(err, "device")
		}
		key := deviceCredential(p.Type, p.ID).key(h.scope)
		before, err := load[credential](w, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if before.Record.Claim != c.ID || device.Record.Incarnation != p.DeviceIncarnation || device.Record.Disabled {
			return &policy.Error{Kind: policy.KindForbidden, Public: "the device has a token of its own"}
		}
		change := device.Record.change(CredentialReplaced, h)
		change.Credential = policy.CredentialID{ID: string(deviceCredential(p.Type, p.ID)), Version: before.Record.Current.Version}
		w.tell(change)
		return save(w, key, w.claimed(c, fresh))
	})
	if err != nil {
		return "", err
	}
	r.claims.handed.Add(1)
	return fresh.text, nil
}

// settle notes that a device has used the token that it was handed: its claim is not
// for it any more, and who is still connected as the device by that is told to end.
func (r *Registry) settle(ctx context.Context, org policy.OrgID, name DeviceName, version uint64) error {
	return r.write(ctx, "settle claim", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		key := deviceCredential(name.Type, name.ID).key(h.scope)
		found, err := load[credential](w, key)
		if err != nil || found.Record.Claim == "" || found.Record.Current.Version != version {
			return missing(err, "device") // another one saw to it
		}
		id := found.Record.Claim
		found.Record.Claim = ""
		if c, err := load[Claim](w, claimKey(h.scope, id)); err == nil {
			w.tell(Change{
				Kind: CredentialReplaced, Org: org, Incarnation: h.Record.Incarnation, PrincipalKind: policy.KindDevice, Type: name.Type, ID: name.ID,
				Credential: policy.CredentialID{ID: claimedCredential(id, name), Version: c.Record.Incarnation},
			})
		}
		return save(w, key, found.Record)
	})
}
