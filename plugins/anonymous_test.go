package plugins_test

import (
	"errors"
	"testing"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func organisation(t *testing.T, name string) policy.OrgID {
	t.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		t.Fatal(err)
	}
	return org
}

// One verifier serves every organisation that the policy names.
func TestAnonymousIsOfTheOrganisationThePolicyNames(t *testing.T) {
	t.Parallel()
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		{Verifier: "anonymous"}: plugins.Anonymous{},
	}, nil)
	for _, name := range []string{"demo01", "acme01"} {
		org := organisation(t, name)
		p, err := set.Verify(t.Context(), []policy.VerifierRef{{Verifier: "anonymous", Org: org}}, &plugins.Credential{
			Client: policy.Client{Username: "somebody"}, Password: plugins.NewSecret([]byte("anything")), HasPassword: true,
		})
		if err != nil || p.Org != org || p.Kind != policy.KindUser || p.ID != "anonymous" ||
			p.Verifier != "anonymous" || p.Registered || p.Incarnation != 0 {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestAnonymousNeedsAnOrganisation(t *testing.T) {
	t.Parallel()
	if _, err := (plugins.Anonymous{}).Verify(t.Context(), &plugins.Credential{}); !errors.Is(err, plugins.ErrUnavailable) {
		t.Errorf("asked directly: %v", err)
	}
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{{Verifier: "anonymous"}: plugins.Anonymous{}}, nil)
	if p, err := set.Verify(t.Context(), []policy.VerifierRef{{Verifier: "anonymous"}}, &plugins.Credential{}); !errors.Is(err, plugins.ErrUnavailable) {
		t.Errorf("without organisation: %+v, %v", p, err)
	}
}

// A policy that binds a verifier to an organisation means that to hold.
func TestSetRefusesAnOrganisationNobodyHeeds(t *testing.T) {
	t.Parallel()
	org := organisation(t, "acme01")
	everybody := verifier(func() (policy.Principal, error) {
		return policy.Principal{Org: org, Kind: policy.KindUser, ID: "u"}, nil
	})
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{{Verifier: "token"}: everybody}, nil)
	if _, err := set.Verify(t.Context(), []policy.VerifierRef{{Verifier: "token"}}, &plugins.Credential{}); err != nil {
		t.Errorf("without organisation: %v", err)
	}
	bound := []policy.VerifierRef{{Verifier: "token", Org: organisation(t, "demo01")}}
	if p, err := set.Verify(t.Context(), bound, &plugins.Credential{}); !errors.Is(err, plugins.ErrUnavailable) {
		t.Errorf("bound to another organisation: %+v, %v", p, err)
	}
}

// A plugin cannot pass for a built-in verifier.
func TestReservedNames(t *testing.T) {
	t.Parallel()
	good := verifier(func() (policy.Principal, error) {
		return policy.Principal{Org: organisation(t, "acme01"), Kind: policy.KindUser, ID: "u"}, nil
	})
	for name, reserved := range map[string]bool{"token": true, "certificate": true, "anonymous": true, "jwt": false} {
		ref := policy.VerifierRef{Verifier: "plugin", Name: name}
		set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{ref: good}, nil)
		_, err := set.Verify(t.Context(), []policy.VerifierRef{ref}, &plugins.Credential{})
		if plugins.Reserved(name) != reserved || errors.Is(err, plugins.ErrUnavailable) != reserved {
			t.Errorf("%s: reserved %v, %v", name, plugins.Reserved(name), err)
		}
	}
}
