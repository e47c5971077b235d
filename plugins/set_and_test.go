package plugins_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// says is a verifier of one answer.
type says struct {
	p   policy.Principal
	err error
}

func (s says) Verify(context.Context, *plugins.Credential) (policy.Principal, error) {
	return s.p, s.err
}

func TestTwoProofs(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	rival, err := policy.ParseOrgID("rival1")
	if err != nil {
		t.Fatal(err)
	}
	soon, late := time.Unix(1000, 0), time.Unix(2000, 0)
	device := policy.Principal{
		Org: org, Incarnation: 7, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "token",
		Credential: policy.CredentialID{ID: "device/sensor/d1", Version: 3},
	}
	certified := policy.Principal{
		Org: org, Incarnation: 7, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "certificate", ExpiresAt: late,
		Credential: policy.CredentialID{ID: "certificate/ca/leaf/i:1", Version: 9},
	}
	with := func(p policy.Principal, edit func(*policy.Principal)) policy.Principal {
		edit(&p)
		return p
	}
	both := []policy.VerifierRef{{Verifier: "token", And: "certificate"}, {Verifier: "anonymous", Org: org}}
	for name, test := range map[string]struct {
		token, certificate says
		refused            policy.Cause
		until              time.Time
	}{
		"of one client":         {token: says{p: device}, certificate: says{p: certified}, until: late},
		"that ends with one":    {token: says{p: with(device, func(p *policy.Principal) { p.ExpiresAt = soon })}, certificate: says{p: certified}, until: soon},
		"an unknown namesake":   {token: says{p: with(device, func(p *policy.Principal) { p.Incarnation = 0 })}, certificate: says{p: certified}, until: late},
		"no certificate":        {token: says{p: device}, certificate: says{err: plugins.ErrNotMine}, refused: policy.CauseUnknown},
		"a bad certificate":     {token: says{p: device}, certificate: says{err: plugins.ErrBad}, refused: policy.CauseBad},
		"nobody can say":        {token: says{p: device}, certificate: says{err: &plugins.Refusal{Cause: policy.CauseRevocation}}, refused: policy.CauseRevocation},
		"a bad token":           {token: says{err: plugins.ErrBad}, certificate: says{p: certified}, refused: policy.CauseBad},
		"another device":        {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.ID = "d2" })}, refused: policy.CauseMismatch},
		"another type":          {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.Type = "hub" })}, refused: policy.CauseMismatch},
		"another kind":          {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.Kind = policy.KindGateway })}, refused: policy.CauseMismatch},
		"another organisation":  {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.Org = rival })}, refused: policy.CauseMismatch},
		"another incarnation":   {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.Incarnation = 8 })}, refused: policy.CauseMismatch},
		"nobody in particular":  {token: says{p: device}, certificate: says{}, refused: policy.CauseUnavailable},
		"a principal of system": {token: says{p: device}, certificate: says{p: with(certified, func(p *policy.Principal) { p.Kind = policy.KindSystem })}, refused: policy.CauseUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
				{Verifier: "token"}: test.token, {Verifier: "certificate"}: test.certificate, {Verifier: "anonymous"}: plugins.Anonymous{},
			}, nil)
			p, err := set.Verify(t.Context(), both, &plugins.Credential{})
			if test.refused != policy.CauseNone {
				if err == nil || plugins.CauseOf(err) != test.refused || errors.Is(err, plugins.ErrNotMine) {
					t.Fatalf("principal %+v, error %v, want %s", p, err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.And == nil || p.And.Verifier != "certificate" || p.And.Credential != certified.Credential || !p.And.ExpiresAt.Equal(late) {
				t.Errorf("second proof %+v", p.And)
			}
			if p.Verifier != "token" || p.Credential != device.Credential || !p.ExpiresAt.Equal(test.until) {
				t.Errorf("principal %+v", p)
			}
		})
	}
	t.Run("one that is not configured", func(t *testing.T) {
		t.Parallel()
		set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{{Verifier: "token"}: says{p: device}}, nil)
		if _, err := set.Verify(t.Context(), both, &plugins.Credential{}); plugins.CauseOf(err) != policy.CauseUnavailable {
			t.Errorf("error %v", err)
		}
	})
}

// Whoever leads an exchange is not enough either, where the policy wants a certificate.
func TestExchangeWithTwoProofs(t *testing.T) {
	t.Parallel()
	device := policy.Principal{Org: organisation(t, "acme01"), Kind: policy.KindDevice, Type: "t", ID: "d", Verifier: "words"}
	certified, another := device, device
	certified.Verifier, another.Verifier, another.ID = "certificate", "certificate", "d2"
	refs := []policy.VerifierRef{{Verifier: "plugin", Name: "words", And: "certificate"}}
	for name, tt := range map[string]struct {
		certificate says
		want        policy.Cause
	}{
		"of one client":       {says{p: certified}, policy.CauseNone},
		"of another":          {says{p: another}, policy.CauseMismatch},
		"none":                {says{err: plugins.ErrNotMine}, policy.CauseUnknown},
		"one that is no good": {says{err: plugins.ErrBad}, policy.CauseBad},
	} {
		set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
			{Verifier: "plugin", Name: "words"}: speaker{method: "words", words: []string{"one"}, as: device},
			{Verifier: "certificate"}:           tt.certificate,
		}, nil)
		x := set.Begin(refs, &plugins.Credential{}, "words")
		reply, err := x.Next(t.Context(), nil)
		if err != nil || reply.Done {
			t.Fatalf("%s: %+v, %v", name, reply, err)
		}
		reply, err = x.Next(t.Context(), []byte("one"))
		if tt.want != policy.CauseNone {
			if err == nil || plugins.CauseOf(err) != tt.want || reply.Done {
				t.Errorf("%s: %+v, %v, want %s", name, reply, err, tt.want)
			}
			continue
		}
		if err != nil || !reply.Done || reply.Principal.And == nil {
			t.Errorf("%s: %+v, %v", name, reply, err)
		}
	}
}
