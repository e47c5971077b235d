package wasm

import (
	"context"
	"errors"
	"fmt"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// kindPlugin is what the policy calls a reference to a plugin.
const kindPlugin = "plugin"

// Find is the verifier that a reference of the policy names; false where it is
// not one to a plugin. It is found also where no such plugin works at the moment:
// it then refuses, and says why in the log. Without an organisation in the
// reference, the name must belong to one plugin alone.
func (h *Host) Find(ref policy.VerifierRef) (plugins.Verifier, bool) {
	if ref.Verifier != kindPlugin || checkName(ref.Name) != nil {
		return nil, false
	}
	return &verifier{h, ref.Name, ref.Org}, true
}

// Verifier is the plugin called name; false where there is none in any folder.
func (h *Host) Verifier(name string) (plugins.Verifier, bool) {
	t := h.table.Load()
	for p := range t.plugins {
		if p.name == name {
			return h.Find(policy.VerifierRef{Verifier: kindPlugin, Name: name})
		}
	}
	for p := range t.refused {
		if p.name == name {
			return h.Find(policy.VerifierRef{Verifier: kindPlugin, Name: name})
		}
	}
	return nil, false
}

// verifier is a name. What it stands for is looked up each time, so a reload is
// seen by the next credential.
type verifier struct {
	host *Host
	name string
	org  policy.OrgID // zero: the plugin says
}

var (
	_ plugins.Conversation = (*verifier)(nil)
	_ plugins.OrgVerifier  = (*verifier)(nil)
)

// ForOrg implements [plugins.OrgVerifier].
func (v *verifier) ForOrg(org policy.OrgID) plugins.Verifier { return &verifier{v.host, v.name, org} }

// Verify implements [plugins.Verifier].
func (v *verifier) Verify(ctx context.Context, c *plugins.Credential) (policy.Principal, error) {
	got := v.ask(ctx, c, nil)
	return got.principal, got.err
}

// Converse implements [plugins.Conversation].
func (v *verifier) Converse(ctx context.Context, c *plugins.Credential, turn plugins.Turn) (plugins.Reply, error) {
	if len(turn.State) > stateBytes {
		return plugins.Reply{}, &plugins.Refusal{Cause: policy.CauseBad, Err: errors.New("more state than there can be")}
	}
	got := v.ask(ctx, c, &turn)
	switch {
	case got.err != nil:
		return plugins.Reply{}, got.err
	case got.challenge != nil:
		return *got.challenge, nil
	default:
		return plugins.Reply{Done: true, Principal: got.principal, Data: got.data}, nil
	}
}

func (v *verifier) ask(ctx context.Context, c *plugins.Credential, turn *plugins.Turn) verdict {
	for {
		p, err := v.host.table.Load().resolve(v.name, v.org)
		if err != nil {
			v.host.missing.warn(v.host.log, "plugin not found", "plugin", v.name, "org", v.org, "error", err)
			return refuse(policy.CauseUnavailable, err)
		}
		org := v.org
		if org.IsZero() {
			org = p.only()
		}
		got := p.verify(ctx, org, newRequest(org, c, turn))
		if errors.Is(got.err, errRetired) && ctx.Err() == nil {
			continue // it was replaced in between: the table has the next one
		}
		return got
	}
}

// resolve finds the plugin called name for org. An organisation's own plugin
// comes before one of the platform. Without an organisation there must be one
// alone: a credential does not say whose it is before it is verified.
func (t *table) resolve(name string, org policy.OrgID) (*plugin, error) {
	if !org.IsZero() {
		for _, folder := range []string{org.String(), folderPlatform, ""} {
			at := place{folder, name}
			if p := t.plugins[at]; p != nil && p.binding.has(org) {
				return p, nil
			}
			if why := t.refused[at]; why != nil && folder != folderPlatform {
				return nil, fmt.Errorf("plugin %s was refused: %s", at, firstLine(why))
			}
		}
		return nil, fmt.Errorf("no plugin %q serves %s", name, org)
	}
	var only *plugin
	n := 0
	for at, p := range t.plugins {
		if at.name == name {
			only = p
			n++
		}
	}
	var refused error
	for at, why := range t.refused {
		if at.name == name {
			refused = fmt.Errorf("plugin %s was refused: %s", at, firstLine(why))
			n++
		}
	}
	switch {
	case n > 1:
		return nil, fmt.Errorf("%d plugins are called %q: the policy has to name the organisation beside it", n, name)
	case only != nil:
		return only, nil
	case refused != nil:
		return nil, refused
	default:
		return nil, fmt.Errorf("no plugin is called %q", name)
	}
}
