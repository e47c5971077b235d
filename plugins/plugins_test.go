package plugins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

const password = "correct-horse-battery"

func TestASecretNeverPrints(t *testing.T) {
	t.Parallel()
	c := plugins.Credential{
		Client:   policy.Client{Username: password, Listener: "mqtts"}, // a token in the wrong field
		Password: plugins.NewSecret([]byte(password)),
	}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "credential", c, "pointer", &c, "password", c.Password, "err", &plugins.Refusal{Cause: policy.CauseBad})
	text, err := json.Marshal(c.Password)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q %x %d", c, c, c, c.Password, c.Password, c.Password, c.Password),
		fmt.Sprintf("%v %#v", &c.Password, []plugins.Secret{c.Password}), log.String(), string(text),
	} {
		if strings.Contains(s, password) || strings.Contains(s, fmt.Sprintf("%x", password)) {
			t.Errorf("output %d shows the secret: %s", i, s)
		}
	}
}

type verifier func() (policy.Principal, error)

func (v verifier) Verify(context.Context, *plugins.Credential) (policy.Principal, error) { return v() }

func TestSetAsksInOrder(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	good := policy.Principal{Org: org, Kind: policy.KindDevice, Type: "t", ID: "d"}
	ref := func(name string) policy.VerifierRef { return policy.VerifierRef{Verifier: "plugin", Name: name} }
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		ref("good"):    verifier(func() (policy.Principal, error) { return good, nil }),
		ref("notmine"): verifier(func() (policy.Principal, error) { return policy.Principal{}, plugins.ErrNotMine }),
		ref("bad"):     verifier(func() (policy.Principal, error) { return policy.Principal{}, plugins.ErrBad }),
		ref("down"):    verifier(func() (policy.Principal, error) { return policy.Principal{}, plugins.ErrUnavailable }),
		ref("empty"):   verifier(func() (policy.Principal, error) { return policy.Principal{}, nil }),
		ref("system"):  verifier(func() (policy.Principal, error) { return policy.Principal{Org: org, Kind: policy.KindSystem}, nil }),
	}, nil)
	for _, tt := range []struct {
		ask  string
		want policy.Cause
	}{
		{"good", policy.CauseNone},
		{"notmine good", policy.CauseNone},
		{"notmine", policy.CauseUnknown},
		{"", policy.CauseUnknown},
		{"bad good", policy.CauseBad},          // a later verifier may not widen a refusal
		{"down good", policy.CauseUnavailable}, //
		{"missing good", policy.CauseUnavailable},
		{"empty good", policy.CauseUnavailable}, // success without a principal is a fault
		{"system", policy.CauseUnavailable},     // nobody may claim to be the broker
	} {
		var refs []policy.VerifierRef
		for _, name := range strings.Fields(tt.ask) {
			refs = append(refs, ref(name))
		}
		p, err := set.Verify(t.Context(), refs, &plugins.Credential{})
		if plugins.CauseOf(err) != tt.want || (err == nil) != (p.Kind == policy.KindDevice) {
			t.Errorf("%q: %v, %v; want cause %q", tt.ask, p.Kind, err, tt.want)
		}
	}
	if _, err := new(plugins.Set).Verify(t.Context(), []policy.VerifierRef{ref("good")}, &plugins.Credential{}); !errors.Is(err, plugins.ErrUnavailable) {
		t.Errorf("the zero Set: %v", err)
	}
}
