package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// pluginHeader names the plugin that a Bearer token is for. It is a header of its
// own, and not a part of the token, because tools that get tokens from an issuer
// send them as they are, and because a colon is no character of such a token
// (RFC 6750 §2.1).
const pluginHeader = "X-Cordon-Plugin"

// pluginUser and the name are what the policy sees as the username: the same that
// a device sends over MQTT. Which verifiers are asked is for the policy to say.
const pluginUser = "use-plugin:"

// nameMost is the longest plugin name, in bytes.
const nameMost = 36

// bearerRealm is what a tool is shown that might have a token.
const bearerRealm = `Bearer realm="Cordon"`

// Verifiers ask the verifiers that a policy names; *plugins.Set is one.
type Verifiers interface {
	// Verify returns the principal or an error of package plugins.
	Verify(ctx context.Context, refs []policy.VerifierRef, c *plugins.Credential) (policy.Principal, error)
}

// verifyBearer asks the policy who is to check the token, and of those the
// plugins alone: the registry's tokens come with names, by Basic, and whoever
// needs no proof over MQTT needs one here.
func (d *door) verifyBearer(r *http.Request, token string) (policy.Principal, string, error) {
	username := ""
	switch names := r.Header.Values(pluginHeader); {
	case len(names) > 1 || len(names) == 1 && len(names[0]) > nameMost:
		return policy.Principal{}, "", &plugins.Refusal{Cause: policy.CauseUnknown}
	case len(names) == 1 && names[0] != "":
		username = pluginUser + names[0]
	}
	client := clientOf(r, username)
	refs, err := d.api.decider.Verifiers(r.Context(), client, nil)
	if err != nil {
		return policy.Principal{}, username, fmt.Errorf("choose verifiers: %w", err)
	}
	refs = slices.DeleteFunc(slices.Clone(refs), func(ref policy.VerifierRef) bool { return ref.Verifier != "plugin" })
	p, err := d.api.bearers.Verify(r.Context(), refs, &plugins.Credential{
		Client: *client, Password: plugins.NewSecret([]byte(token)), HasPassword: true,
	})
	if err != nil {
		return policy.Principal{}, username, err
	}
	p, err = d.stands(d.api.registry.Refresh(r.Context(), &p))
	return p, username, err
}

// presents reports whether r has a credential that could be wrong.
func (d *door) presents(r *http.Request) bool {
	_, isBearer := bearer(r)
	_, _, isBasic := r.BasicAuth()
	return isBasic || isBearer && d.api.bearers != nil
}

// challenges are the ways in that a caller without a credential is told of.
func (d *door) challenges() []string {
	if d.api.bearers == nil {
		return []string{realm}
	}
	return []string{realm, bearerRealm}
}
